"""Tokens of one forward pass, fewer where the device's memory runs out, and what goes into which pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch

from illmrec.errors import InputError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_SMALLEST = 64
"""Below it no prompt fits, so that halving further cannot help."""


def reading_budget(device: torch.device) -> int:
    """Return the tokens of a pass at inference.

    A GPU needs many to be busy; on a CPU, twice as many took a sixth longer per token (its caches).
    """
    return 32_768 if device.type == "cuda" else 4096


class TokenBudget:
    """How many tokens go through the LLM at a time.

    Args:
        tokens: To begin with.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def run(self, work: Callable[[int], Result], *, undo: Callable[[], None] = lambda: None) -> Result:
        """Return the work's result; where memory runs out, halve the budget for good and do the work again.

        Args:
            work: Gets the budget; does the same work for any.
            undo: Takes back what unfinished work has left, gradients for example.

        Raises:
            InputError: If memory does not suffice for a single user's prompt.
        """
        while True:
            try:
                return work(self.tokens)
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
            # Only here, with the exception gone, are the tensors of its frames free.
            undo()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.tokens <= _SMALLEST:
                raise InputError(
                    f"out of memory with a single prompt in a pass ({reason}); shorten it (--context, "
                    "--history-length) or take a smaller LLM (--llm, --layers, --dtype)"
                )
            self.tokens //= 2
            logger.warning("out of memory: passes of at most %d tokens from now on", self.tokens)


def token_batches(tokens: np.ndarray, *, token_budget: int) -> Iterator[np.ndarray]:
    """Group rows into batches of at most ``token_budget`` tokens (a longer single row is a batch of its own).

    Args:
        tokens: Int [rows], tokens of each row.
        token_budget: Tokens of one batch.

    Yields:
        Int [rows of the batch], rows sorted from the longest to the shortest.
    """
    order = np.argsort(-tokens, kind="stable")
    ends = np.cumsum(tokens[order])
    start, taken = 0, 0
    while start < len(order):
        end = max(start + 1, int(np.searchsorted(ends, taken + token_budget, side="right")))
        yield order[start:end]
        start, taken = end, int(ends[end - 1])
