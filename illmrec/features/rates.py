"""How fast pictures are decoded and encoded, each without the other: which of the two is the limit?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

ALONE = 8
"""Batches that are read first and encoded then, so that neither takes the other's cores."""
ENOUGH = 10 * ALONE
"""Of fewer batches it is not told: doing so would take a good part of the time that is saved."""

Reader = Callable[[Sequence[np.ndarray]], Generator[Any, None, None]]
"""Takes batches of row numbers and gives what an encoder needs of each, in order, ahead of what is asked for."""


def alone(
    read: Reader,
    encode_batch: Callable[[Any], np.ndarray],
    batches: Sequence[np.ndarray],
    store: Callable[[np.ndarray, np.ndarray], None],
) -> dict[str, float]:
    """Read some batches, then encode and store them, and return items a second of reading and of encoding.

    The first batch of each is not timed: processes start, memory is taken.

    Args:
        read: Reads batches.
        encode_batch: Gives [batch, width].
        batches: Row numbers; two batches or more.
        store: Takes a batch and its features.

    Returns:
        ``decoder_items_per_second`` and ``encoder_items_per_second``.
    """
    with contextlib.closing(read(batches)) as loaded:
        contents = [next(loaded)]
        start = time.perf_counter()
        contents.extend(loaded)
        decoding = time.perf_counter() - start
    encoding = 0.0
    for number, (batch, content) in enumerate(zip(batches, contents, strict=True)):
        start = time.perf_counter()
        features = encode_batch(content)
        encoding += (time.perf_counter() - start) if number else 0.0
        store(batch, features)
    items = sum(map(len, batches[1:]))
    seconds = {"decoder": decoding, "encoder": encoding}
    return {f"{name}_items_per_second": items / max(taken, 1e-9) for name, taken in seconds.items()}


def limit(meta: Mapping[str, Any]) -> str | None:
    """Return which is slower, in words for a report, or None where it was not measured."""
    decoder, encoder = meta.get("decoder_items_per_second"), meta.get("encoder_items_per_second")
    if decoder is None or encoder is None:
        return None
    slower = "decoder" if decoder < encoder else "encoder"
    return f"decoding alone {decoder:,.1f} items/s, encoding alone {encoder:,.1f} items/s: the {slower} is the limit"
