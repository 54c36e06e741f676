"""Cells on many processes and machines, on dask.distributed: tasks, workers, what is replayed there."""
