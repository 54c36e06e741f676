"""Experiments: one file each. What they share lives in rooms named after what it is."""
