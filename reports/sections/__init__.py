"""What a store holds, read once: sections by data set and LLM, looks of methods, names of files."""
