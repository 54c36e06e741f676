"""The published numbers, and tables that stand beside them."""
