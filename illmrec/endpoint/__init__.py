"""A trained model behind HTTP: limits, batches of concurrent requests, health and metrics (extra ``serve``)."""
