"""The contract of representations: what prompts and engine need of the segments that they render, as named checks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bench.checks.report import Check, Violation
from bench.checks.small_data import CONTROL, small_shop, small_tokenizer
from bench.harness.methods import SLOTS
from illmrec.features.grids import of_pictures
from illmrec.prompts.contract import contract_problems
from illmrec.prompts.control_tokens import control_tokens
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.segments import Slot, Text
from illmrec.prompts.templates import INSTRUCTION, TASK
from illmrec.prompts.tokens import tokenise_items

SHOWN = 10
"""So many items of the shop are rendered."""

_STRANGE = 'Mug "No. 5" {blue} \\ 50 % <b>off</b>\nCafé 日本語'


@dataclass(frozen=True, kw_only=True)
class RepresentationCase:
    """A representation and the items that it is checked on.

    Attributes:
        representation: What is checked.
    """

    representation: Any

    @cached_property
    def items(self) -> pd.DataFrame:
        """Items of the shop, with all columns that the representation names; all of their texts are plain."""
        items = small_shop().items.head(SHOWN).reset_index(drop=True)
        extra = [name for name in self.representation.columns if name not in items]
        return items.assign(**{name: [f"{name} {row}" for row in items.index] for name in extra})

    @cached_property
    def cases(self) -> list[tuple[dict[str, str], frozenset[str]]]:
        """Items, by the columns that are named, with the features that they have: all, and all but the image.

        Other features every item has, whatever the data. Beside those of the shop there is an item with strange
        characters, one with each column empty and one with all.
        """
        columns, slots = list(self.representation.columns), tuple(self.representation.slots)
        rows = self.items[columns].to_dict("records") if columns else [{} for _ in self.items.index]
        rows.append(dict.fromkeys(columns, _STRANGE))
        rows += [{**rows[0], name: ""} for name in columns]
        rows.append(dict.fromkeys(columns, ""))
        bare = frozenset(slot for slot in slots if not of_pictures(slot))
        subsets = dict.fromkeys([frozenset(slots), bare])
        return [(row, available) for row in rows for available in subsets]

    def render(self, item: dict[str, str], available: frozenset[str]) -> list[Any]:
        """Return the segments of an item; the representation gets the dictionary itself."""
        return list(self.representation.render(item, available))

    def rendered(self) -> Iterator[tuple[list[Any], frozenset[str], str]]:
        """Yield the segments of every case, the features that it has, and its description."""
        for item, available in self.cases:
            yield self.render(dict(item), available), available, described(item, available)


class Watched(dict[str, str]):
    """An item that notes which columns are read that it does not have."""

    def __init__(self, columns: dict[str, str]) -> None:
        super().__init__(columns)
        self.unknown: list[str] = []

    def __missing__(self, name: str) -> str:
        self.unknown.append(name)
        return ""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a column; see :meth:`dict.get`."""
        if name not in self:
            self.unknown.append(name)
        return super().get(name, default)


def described(item: dict[str, str], available: frozenset[str]) -> str:
    """Return in a few words which item was rendered."""
    empty = [name for name, value in item.items() if not value]
    texts = "all columns empty" if item and len(empty) == len(item) else f"empty {', '.join(empty)}"
    features = ", ".join(sorted(available)) or "no features"
    return f"an item with {features}{f' and {texts}' if empty else ''}"


def has_parts(case: RepresentationCase) -> None:
    """It has name, columns, slots and render(item, available)."""
    problems = contract_problems(case.representation)
    if problems:
        raise Violation("; ".join(problems))


def reads_its_columns(case: RepresentationCase) -> None:
    """It reads no column of an item that columns does not name."""
    for item, available in case.cases:
        watched = Watched(item)
        with contextlib.suppress(Exception):  # the next check tells
            case.render(watched, available)
        if watched.unknown:
            raise Violation(f"render reads {watched.unknown[0]!r}, which columns does not name")


def gives_segments(case: RepresentationCase) -> None:
    """It renders every item as Text and Slot, one without an image or with empty columns as well."""
    for segments, _, which in case.rendered():
        for segment in segments:
            if not isinstance(segment, Text | Slot):
                raise Violation(f"render returned {segment!r} for {which}: only Text and Slot are segments")
            if isinstance(segment, Text) and not isinstance(segment.text, str):
                raise Violation(f"render returned {segment!r} for {which}: its text is no str")


def has_its_slots(case: RepresentationCase) -> None:
    """Its slots are features of the toolkit; it shows each of them, but no image slot of an item without an image."""
    slots = tuple(case.representation.slots)
    unknown = [slot for slot in slots if slot not in SLOTS and not of_pictures(slot)]
    if unknown:
        raise Violation(f"slots names {unknown[0]!r}; slots are filled by {', '.join(SLOTS)}")
    seen = set()
    for segments, available, which in case.rendered():
        used = {segment.feature for segment in segments if isinstance(segment, Slot)}
        if used - set(slots):
            raise Violation(f"render returned Slot({min(used - set(slots))!r}), which slots does not name")
        if used - available:
            raise Violation(
                f"render returned Slot({min(used - available)!r}) for {which}: only slots of available features"
            )
        seen |= used
    if set(slots) - seen:
        raise Violation(f"slots names {min(set(slots) - seen)!r}, which render shows of no item")


def shows_everything(case: RepresentationCase) -> None:
    """Every item is shown by some text or a slot, whatever it lacks."""
    for segments, _, which in case.rendered():
        if not any(isinstance(segment, Slot) or segment.text.strip() for segment in segments):
            raise Violation(f"render shows nothing of {which}")


def repeats(case: RepresentationCase) -> None:
    """An item is shown the same when it is rendered again, whatever was rendered before it."""
    first = [case.render(dict(item), available) for item, available in case.cases]
    for before, (item, available) in zip(first[::-1], case.cases[::-1], strict=True):
        again = case.render(dict(item), available)
        if again != before:
            raise Violation(
                f"{described(item, available)} is shown otherwise the second time: {before!r}, then {again!r}"
            )


def keeps_inputs(case: RepresentationCase) -> None:
    """The item that it was given is as it was after rendering."""
    for item, available in case.cases:
        given = dict(item)
        case.render(given, available)
        if given != item:
            names = sorted(name for name in given.keys() | item.keys() if given.get(name) != item.get(name))
            raise Violation(f"render changed {names[0]!r} of the item; work on a copy")


def spells_no_control_token(case: RepresentationCase) -> None:
    """Its own text spells no control token of an LLM, and none that an item's text spells becomes one."""
    for item, available in case.cases:
        segments = case.render(dict(item), available)
        text = "".join(segment.text for segment in segments if isinstance(segment, Text))
        for token in CONTROL:
            if token in text and not any(token in value for value in item.values()):
                raise Violation(
                    f"render writes {token!r}: LLMs read it as plain text in an item, not as a token"
                )
    tokenizer = small_tokenizer()
    spelt = case.items.assign(**dict.fromkeys(case.representation.columns, " ".join(CONTROL)))
    ids = tokenise_items(spelt, case.representation, tokenizer, present=_everywhere(case)).ids
    if not control_tokens(tokenizer).ids.isdisjoint(ids.tolist()):
        raise Violation("an item's text that spells a control token became one")


def states_its_tokens(case: RepresentationCase) -> None:
    """A prompt has the tokens that are stated: items one after the other have those of the whole text.

    For that an item begins with a blank and ends without one.
    """
    tokenizer = small_tokenizer()
    builder = PromptBuilder(
        items=tokenise_items(case.items, case.representation, tokenizer, present=_everywhere(case)),
        tokenizer=tokenizer,
    )
    available = frozenset(case.representation.slots)
    shown = [case.render(dict(item), given) for item, given in case.cases if given == available][
        : len(case.items)
    ]
    for count in range(1, len(shown) + 1):
        history = builder.fit(np.arange(count))
        stated = int(builder.token_counts([history])[0])
        packed = builder.pack([history])
        parts = [[Text(TASK)], *shown[:count], [Text(f" {INSTRUCTION}")]]
        one_by_one = 1 + sum(_tokens([segment], tokenizer) for part in parts for segment in part)
        for found in (len(packed.prefix) + packed.tokens, one_by_one):
            if found != stated:
                raise Violation(
                    f"a prompt of {count} items is stated to have {stated} tokens and has {found}"
                )
        apart = sum(_tokens(part, tokenizer) for part in parts)
        together = _tokens([segment for part in parts for segment in part], tokenizer)
        if apart != together:
            raise Violation(
                f"{count} items have {apart} tokens one by one and {together} as one text; begin an item with a blank "
                "and end it without one"
            )


def _everywhere(case: RepresentationCase) -> dict[str, np.ndarray]:
    return {slot: np.ones(len(case.items), dtype=bool) for slot in case.representation.slots}


def _tokens(segments: Sequence[Any], tokenizer: Any) -> int:
    """Return the tokens of segments whose texts are written out as one between slots, each of which is one token."""
    texts, slots = [""], 0
    for segment in segments:
        if isinstance(segment, Slot):
            texts.append("")
            slots += 1
        else:
            texts[-1] += segment.text
    return slots + sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])


REPRESENTATION_CHECKS = (
    Check(name="contract", run=has_parts),
    Check(name="columns", run=reads_its_columns, needs=("contract",)),
    Check(name="segments", run=gives_segments, needs=("columns",)),
    Check(name="slots", run=has_its_slots, needs=("segments",)),
    Check(name="shown", run=shows_everything, needs=("segments",)),
    Check(name="inputs", run=keeps_inputs, needs=("segments",)),
    Check(name="repeatable", run=repeats, needs=("segments",)),
    Check(name="control tokens", run=spells_no_control_token, needs=("slots", "shown")),
    Check(name="tokens", run=states_its_tokens, needs=("repeatable", "control tokens")),
)
"""Of a class that shows items to the LLM."""
