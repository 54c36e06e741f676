"""Differences between methods: paired intervals and ratios of latencies."""
