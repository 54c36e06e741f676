"""I-LLMRec: items as image tokens for LLM recommenders. Usable alone as a library."""

from __future__ import annotations

__version__ = "0.1.0"
