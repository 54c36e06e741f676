"""What differences can be found, in the report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from stored import drawn, shown

from bench.frames.power import frame, needed_frame
from bench.protocol.variance import Variances
from reports.exhibits.exhibit import Exhibit, Gap

TITLE = "How many users and seeds a difference needs"
SPREADS = {
    "sampled": Variances(users=0.05, runs=0.00001, both=0.02),
    "full": Variances(users=0.02, runs=0.0001, both=0.01),
}


def asked(filler, *, spreads: dict[str, Variances] | None = None, runs: int = 3, **config: Any):
    """Store a cell of the experiment."""
    found = {candidates: asdict(spread) for candidates, spread in (spreads or SPREADS).items()}
    return filler.write(
        "power",
        {
            "method": "illmrec", "against": "tallrec", "of": ["illmrec", "tallrec"], "cells": [["a", "b"]],
            "difference": 0.01, "power": 0.8, "level": 0.05, **config,
        },
        {"users": 2000, "evaluated": 400, "runs": runs, **found},
    )  # fmt: skip


def test_what_can_be_found_is_a_table_and_lines(filler) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), risa=True, features=("image", "cf", "text"))
    record = asked(filler, llm=filler.llm)
    found = shown(filler, TITLE)
    assert isinstance(found, Exhibit)
    plans, needed = (table.data for table in found.tables)
    expected = frame([record])
    assert plans["detectable"].tolist() == expected["detectable"].tolist()
    assert plans.groupby("candidates")["seeds"].unique().map(list).to_dict() == {
        "sampled": [1, 3, 5],
        "full": [1, 3, 5],
    }
    assert needed["users_needed"].tolist() == needed_frame([record])["users_needed"].tolist()
    one = needed.set_index(["candidates", "seeds"])["users_needed"]
    assert one["full", 1] == "more than any number"
    assert f"1 seed needs {int(one['sampled', 1]):,} users" in found.reading
    assert f"5 seeds need {int(one['sampled', 5]):,} users" in found.reading
    assert "in the whole catalogue 1 seed needs more than any number" in found.reading
    assert "difference of 0.01" in found.reading and "The data have 2,000 users" in found.reading
    notes = " ".join(found.notes)
    assert "I-LLMRec and TALLRec (attributes) over 3 stored seeds and 400 users" in notes
    assert "known from 3 of them" in notes and "not known" not in notes
    drawn(found)


def test_floors_that_stand_in_are_said_and_need_no_llm(filler) -> None:
    filler.accuracy("popularity", 0.2, seeds=(0,))
    alone = {name: Variances(users=0.06, runs=None, both=0.0) for name in SPREADS}
    asked(filler, spreads=alone, runs=1, of=["item-knn", "popularity"])
    found = shown(filler, TITLE)
    assert isinstance(found, Exhibit)
    notes = " ".join(found.notes)
    assert "between Item kNN and Popularity, which stand in: no seed of both I-LLMRec and TALLRec" in notes
    assert "numbers are for users alone" in notes
    assert set(found.tables[0].data["seeds"]) == {1}
    assert "3 seeds" not in found.reading
    drawn(found)


def test_the_last_question_on_two_methods_is_shown_and_others_beside_it(filler) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), risa=True, features=("image", "cf", "text"))
    asked(filler, difference=0.05)
    asked(filler, difference=0.02)
    asked(filler, method="illmrec+", against="my:Method", of=["illmrec+", "my:Method"])
    with pytest.raises(ValueError, match="too many values"):
        shown(filler, TITLE)
    usual = shown(filler, f"{TITLE}: I-LLMRec and TALLRec")
    assert isinstance(usual, Exhibit) and usual.name == "figure_power"
    assert "difference of 0.02" in usual.reading
    other = shown(filler, f"{TITLE}: I-LLMRec+ and Method")
    assert isinstance(other, Exhibit) and other.name == "figure_power-illmrec-plus-my-method"


def test_without_cells_the_page_says_how_to_get_them(filler) -> None:
    filler.accuracy("popularity", 0.2, seeds=(0,))
    found = shown(filler, TITLE)
    assert isinstance(found, Gap) and "bench.power" in found.command
