"""Figures and tables with what they say: a file for each experiment, with ``exhibits(section)``."""
