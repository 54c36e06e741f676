"""How time and memory are measured, and the paths that are timed."""
