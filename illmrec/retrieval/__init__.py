"""The k best items of each user: exact in bounded memory, or through an index for large catalogues."""

from illmrec.retrieval.exact import TopK, exact_top_k
from illmrec.retrieval.index import INDEX_KINDS, IndexOptions, ItemIndex, build_index, load_index

__all__ = ["INDEX_KINDS", "IndexOptions", "ItemIndex", "TopK", "build_index", "exact_top_k", "load_index"]
