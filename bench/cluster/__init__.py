"""Cells on many processes and machines, on dask.distributed: tasks, the workers that run them, what is replayed there."""
