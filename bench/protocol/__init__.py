"""How methods are judged: ranks, metrics and statistics."""
