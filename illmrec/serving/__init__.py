"""Serving: users' keys and values are kept, so that the next recommendation costs what was added to a history."""

from illmrec.serving.sessions import MAX_BYTES, Session, Sessions
from illmrec.serving.windows import Encoding

__all__ = ["MAX_BYTES", "Encoding", "Session", "Sessions"]
