"""I-LLMRec: items as image tokens for LLM recommenders. Usable alone as a library."""

from __future__ import annotations

from illmrec.interrupts import end_until_begun

__version__ = "0.1.0"

end_until_begun("illmrec")
