"""Figures from tidy data."""
