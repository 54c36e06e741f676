"""Floors: methods that learn nothing, or count. What is not above them is not trained far enough, or not worth it."""
