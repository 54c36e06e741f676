"""Items as token ids: each item is tokenised once per representation and never again."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from illmrec.errors import InputError, UnsupportedError
from illmrec.files import hash_json
from illmrec.prompts.control_tokens import encode_as_text
from illmrec.prompts.segments import Representation, Slot, Text


@dataclass(frozen=True, kw_only=True)
class TokenisedItems:
    """Token ids of every item of the catalogue under one representation.

    Attributes:
        ids: Int32 [total], token ids; ``-1 - s`` marks the slot of feature ``slots[s]``.
        offsets: Int64 [n_items + 1], item ``i`` is ``ids[offsets[i]:offsets[i + 1]]``.
        slots: Names of the slot features.
    """

    ids: np.ndarray
    offsets: np.ndarray
    slots: tuple[str, ...]

    @property
    def lengths(self) -> np.ndarray:
        """Int64 [n_items], tokens an item takes, slots included."""
        return np.diff(self.offsets)

    def cut(self, item: int, room: int) -> np.ndarray:
        """Return an item's ids cut to ``room`` tokens: text goes from the end, slots stay.

        Raises:
            InputError: If not even the slots fit.
        """
        ids = self.ids[self.offsets[item] : self.offsets[item + 1]]
        is_slot = ids < 0
        text_room = room - int(is_slot.sum())
        if text_room < 0:
            raise InputError(
                f"--context: {room} tokens are left for the history, too few for one item; raise it"
            )
        return ids[is_slot | (np.cumsum(~is_slot) <= text_room)]

    def repeated(self, counts: Mapping[str, int]) -> TokenisedItems:
        """Return the items with each slot of some features as many times in a row.

        Args:
            counts: How many times, by feature; the others stand once.
        """
        times = np.ones(len(self.ids), dtype=np.int64)
        for number, slot in enumerate(self.slots):
            times[self.ids == -1 - number] = counts.get(slot, 1)
        ends = np.concatenate([[0], np.cumsum(times)])
        return TokenisedItems(
            ids=np.repeat(self.ids, times), offsets=ends[self.offsets].astype(np.int64), slots=self.slots
        )

    def check_slots(self, vectors: Mapping[str, int], *, method: str) -> None:
        """Check that items show features with several vectors whole.

        Args:
            vectors: For each slot feature, how many vectors an item has.
            method: The representation's name, for the message.

        Raises:
            InputError: If an item has slots for some of them only.
        """
        item = np.repeat(np.arange(len(self.lengths)), self.lengths)
        for number, slot in enumerate(self.slots):
            shown = np.bincount(item[self.ids == -1 - number], minlength=len(self.lengths))
            broken = np.flatnonzero(shown % vectors[slot])
            if len(broken):
                raise InputError(
                    f"method {method}: render returned {shown[broken[0]]} times Slot({slot!r}) for item row "
                    f"{broken[0]}, but that feature has {vectors[slot]} vectors; return so many in a row, or none"
                )


def tokenise_items(
    items: pd.DataFrame,
    representation: Representation,
    tokenizer: Any,
    *,
    present: Mapping[str, np.ndarray],
) -> TokenisedItems:
    """Render and tokenise the whole catalogue.

    Args:
        items: The items table.
        representation: How an item is shown.
        tokenizer: The backbone's tokenizer; special tokens are not added and are not recognised in users' text.
        present: For each slot feature, bool [n_items]: does the item have it?

    Raises:
        UnsupportedError: If a column that the representation needs is missing, or read and empty for every item, or a
            slot feature has no table.
        InputError: If ``render`` fails, reads a column that ``columns`` does not name, returns anything but text and
            slots that the item has, or shows nothing of an item.
    """
    rendered = render_items(items, representation, present=present)
    encoded = tokenise_texts(rendered.texts, tokenizer)
    parts = [
        np.concatenate([encoded[s] if s >= 0 else np.array([s], dtype=np.int32) for s in segments])
        for segments in rendered.segments
    ]
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return TokenisedItems(ids=np.concatenate(parts), offsets=offsets, slots=tuple(representation.slots))


@dataclass(frozen=True, kw_only=True)
class RenderedItems:
    """Every item of the catalogue as a representation shows it, before it is tokenised.

    Attributes:
        texts: All pieces of text, item by item.
        segments: Per item, its segments in order: an index into ``texts``, or ``-1 - s`` for the slot ``slots[s]``.
        slots: Names of the slot features.
    """

    texts: list[str]
    segments: list[list[int]]
    slots: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of all that is shown."""
        return hash_json([self.texts, self.segments, self.slots])


def render_items(
    items: pd.DataFrame, representation: Representation, *, present: Mapping[str, np.ndarray]
) -> RenderedItems:
    """Render the whole catalogue; arguments and errors are those of :func:`tokenise_items`."""
    absent = [name for name in representation.columns if name not in items.columns]
    missing = [slot for slot in representation.slots if slot not in present]
    if missing:
        raise UnsupportedError(
            f"method {representation.name}: it shows '{missing[0]}' features, but there are none"
        )
    # A frame without columns has no records, whatever its rows.
    named = items[list(representation.columns)].to_dict("records") if not absent else []
    rows = named if representation.columns else [{} for _ in range(len(items))]
    read: set[str] = set()
    texts: list[str] = []
    segments: list[list[int]] = []
    nothing: list[int] = []
    for index, row in enumerate(rows):
        available = frozenset(slot for slot in representation.slots if present[slot][index])
        own = []
        for segment in _rendered(representation, _Recorded(row, read), available, row=index):
            if isinstance(segment, Text) and isinstance(segment.text, str):
                own.append(len(texts))
                texts.append(segment.text)
            elif isinstance(segment, Slot) and segment.feature in available:
                own.append(-1 - representation.slots.index(segment.feature))
            else:
                slots = ", ".join(f"Slot({name!r})" for name in sorted(available))
                raise InputError(
                    f"method {representation.name}: render returned {segment!r} for item row {index}, which may be "
                    f"shown by Text{f' and {slots}' if slots else ''}"
                )
        if not any(part < 0 or texts[part].strip() for part in own):
            nothing.append(index)
        segments.append(own)
    # A column may be there for a rare case only: descriptions stand in for missing images.
    absent += [name for name in representation.columns if name in read and (items[name] == "").all()]
    if absent:
        raise UnsupportedError(
            f"method {representation.name}: the items have no '{absent[0]}'; add that column or leave the method out"
        )
    if nothing:
        raise InputError(
            f"method {representation.name}: render shows nothing of item row {nothing[0]} ({len(nothing)} such items); "
            "return text or a slot for every item, whatever it lacks"
        )
    return RenderedItems(texts=texts, segments=segments, slots=tuple(representation.slots))


def _rendered(
    representation: Representation, item: Mapping[str, str], available: frozenset[str], *, row: int
) -> list[Any]:
    """Return what ``render`` gives for an item; whatever it raises names the method, the item and the line."""
    try:
        return list(representation.render(item, available))
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, KeyError) and error.args and error.args[0] not in representation.columns:
            reason = f"it reads {error.args[0]!r}, which its columns do not name"
        else:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        last = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__][
            -1:
        ]
        place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
        raise InputError(
            f"method {representation.name}: render failed for item row {row}: {reason}{place}"
        ) from error


class _Recorded(dict[str, str]):
    """An item's columns that notes which of them are read."""

    def __init__(self, columns: Mapping[str, str], read: set[str]) -> None:
        super().__init__(columns)
        self._read = read

    def __getitem__(self, name: str) -> str:
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a column; see :meth:`dict.get`."""
        self._read.add(name)
        return super().get(name, default)


def tokenise_texts(texts: list[str], tokenizer: Any) -> list[np.ndarray]:
    """Tokenise texts that go on in a prompt, without special tokens; users' text cannot spell a control token.

    Which tokens are, :class:`illmrec.prompts.control_tokens.ControlTokens` says.

    Some tokenizers (LLaMA's) put a blank in front of every text they are given. There, a text that begins with one
    loses it, so that its tokens are those it has within the prompt.

    Returns:
        One int32 array per text.

    Raises:
        InputError: If a text has a control token however it is encoded.
    """
    if not texts:
        return []
    if _prepends_blank(tokenizer):
        texts = [text.removeprefix(" ") for text in texts]
    return [np.asarray(row, dtype=np.int32) for row in encode_as_text(texts, tokenizer)]


def _prepends_blank(tokenizer: Any) -> bool:
    """Tell whether a text that stands alone has the tokens that it has after a blank."""
    alone, first, both = (
        list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("a", "b", "b a")
    )
    return bool(both == first + alone)
