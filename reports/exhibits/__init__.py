"""Exhibits: a figure or tables with what they say, one file for each experiment or a few that are alike."""
