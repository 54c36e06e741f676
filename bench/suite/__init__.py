"""What ``python -m bench`` does: the list of experiments, what they cost, all of them, and what is missing."""
