"""What a section answers: its cells, frames that are made once, the command that fills a gap."""

from __future__ import annotations

import pandas as pd
from stored import FULL, section_of

from reports.sections.results import read_store, whole_store


def test_cells_are_those_of_the_data_and_the_llm(filler, another) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    filler.accuracy("sasrec", 0.3, seeds=(0,))
    another.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    filler.llm = {"name": "other", "layers": 2}
    filler.accuracy("trsr", 0.4, seeds=(0,), **FULL)
    section = section_of(filler)
    assert section.llm == "other (2 layers)"
    assert {record.method for record in section.cells("accuracy")} == {"trsr", "sasrec"}
    assert {record.method for record in section.records} == {"trsr", "sasrec"}
    assert {record.method for record in section.of_data} == {"illmrec", "trsr", "sasrec"}
    assert len(section.stored) == 4


def test_accuracy_without_ranks_is_no_record_and_still_a_cell(filler) -> None:
    (record,) = filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    (record.folder / "ranks.parquet").unlink()
    section = section_of(filler)
    assert section.records == [] and section.cells("accuracy") == [record]


def test_a_frame_is_made_once(filler) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    made = []

    def frame(records, store) -> pd.DataFrame:
        made.append(len(records))
        return pd.DataFrame({"cells": [len(records)]})

    section = section_of(filler)
    assert section.frame(frame) is section.frame(frame)
    assert made == [1]


def test_a_store_without_sections_names_commands_without_options(filler) -> None:
    filler.write("throughput", {"method": "engine"}, {"seconds": 1.0})
    section = whole_store(read_store(filler.store), filler.store)
    assert section.command("throughput") == "python -m bench.throughput"
    assert section.timings.empty and section.headline == {}
