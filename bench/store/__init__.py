"""Results on disk: cells, their keys, where they came from, and the tables that are written from them."""
