"""Items as sequences of tokens that a model writes: semantic IDs, the trie of what may be written, beam search."""
