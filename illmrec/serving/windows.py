"""What of a session's history the LLM reads, what of it is kept, and what the next pass has to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from illmrec.model.trunk_cache import TrunkCache
from illmrec.prompts.packing import Fitted, PromptBuilder

Reason = Literal["new", "slid", "evicted"]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a session's history came to be encoded as it is.

    Attributes:
        way: ``append``, only what was added went through the LLM; ``anew``, all of the window did.
        reason: Why all of it: ``new``, it is the first time; ``slid``, the oldest items fell out of the window, so that
            every token's past changed; ``evicted``, keys and values had been dropped to keep to ``max_bytes``.
            ``None`` for ``append``.
        tokens: Tokens that went through the LLM, those of the prompts' common prefix left out: they are run once for
            all sessions.
    """

    way: Literal["append", "anew"]
    reason: Reason | None
    tokens: int


@dataclass(kw_only=True)
class Kept:
    """What is kept of a session.

    Attributes:
        history: Item row numbers, the most recent last; never dropped.
        start: The first of them that the LLM read last.
        encoded: How many of them are encoded; 0 for none.
        cache: Keys and values of items ``start`` to ``encoded``; ``None`` where none are kept.
        total: Float32 [width], the sum of ``[REC]`` states after each item of the window, where their mean is read.
        read: Float32 [width of the readout], what was read out after the last encoded item.
        encoding: How it was encoded.
        slid: How often the window slid.
        evicted: How often keys and values were dropped to keep to ``max_bytes``.
        extendable: Whether the window ends in a whole item, so that more can follow.
    """

    history: list[int]
    start: int = 0
    encoded: int = 0
    cache: TrunkCache | None = None
    total: Tensor | None = None
    read: Tensor | None = None
    encoding: Encoding | None = None
    slid: int = 0
    evicted: int = 0
    extendable: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of keys and values."""
        return 0 if self.cache is None else self.cache.room * self.cache.bytes_a_token


def window_of(kept: Kept, prompts: PromptBuilder, *, max_items: int, slack: int) -> Fitted:
    """Return what of a session's history is read now.

    Without slack these are the items that are read of any history: the last ``max_items``, as far as the context goes.
    With slack a window keeps its first item until it is ``slack`` items longer than that, and then is cut back to
    ``max_items``; where the context leaves no room to grow, it is cut back by ``slack`` more items than it must be.

    Args:
        kept: The session.
        prompts: Of the model.
        max_items: Items of history that it reads.
        slack: Items by which a window may grow, or is cut back.
    """
    history = np.asarray(kept.history, dtype=np.int64)
    began = kept.encoded > 0
    if began and slack and len(history) - kept.start <= max_items + slack:
        fitted = prompts.fit(history[kept.start :])
        if not fitted.dropped_items:
            return fitted
    fitted = prompts.fit(history, max_items=max_items)
    if began and fitted.dropped_items and len(history) - len(fitted.items) > kept.start:
        return prompts.fit(history, max_items=max(1, len(fitted.items) - slack))
    return fitted


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a session's next pass runs.

    Attributes:
        kept: The session.
        window: What is read of its history.
        items: What of it goes through the LLM.
        reason: Why that is all of it, ``None`` where it is not.
        branches: Int [branches], after how many of ``items`` a ``[REC]`` state is read.
        tokens: Tokens that go through the LLM.
    """

    kept: Kept
    window: Fitted
    items: Fitted
    reason: Reason | None
    branches: np.ndarray
    tokens: int


def next_step(kept: Kept, prompts: PromptBuilder, *, max_items: int, slack: int, every: bool) -> Step:
    """Return what a session's next pass runs.

    Args:
        kept: The session.
        prompts: Of the model.
        max_items: Items of history that it reads.
        slack: As in :func:`window_of`.
        every: Whether a state is read after every item, not only after the last.
    """
    window = window_of(kept, prompts, max_items=max_items, slack=slack)
    start = len(kept.history) - len(window.items)
    slides = kept.encoded > 0 and start != kept.start
    appends = kept.cache is not None and kept.extendable and not slides and window.cut_ids is None
    items = window
    reason: Reason | None = None
    if appends:
        new = window.items[kept.encoded - start :]
        items = Fitted(items=new, cut_ids=None, dropped_items=0, dropped_tokens=0)
    elif kept.encoded == 0:
        reason = "new"
    elif kept.cache is None and not slides:
        reason = "evicted"
    else:
        reason = "slid"
    count = len(items.items)
    branches = np.arange(1, count + 1) if every else np.array([count])
    trunk = int(prompts.items.lengths[items.items].sum()) if items.cut_ids is None else len(items.cut_ids)
    tokens = trunk + len(branches) * (len(prompts.instruction) + 1)
    return Step(kept=kept, window=window, items=items, reason=reason, branches=branches, tokens=tokens)
