"""A data set, its split and its candidates for other people's tools."""
