"""The speed of training in the report."""

from __future__ import annotations

import pandas as pd
from stored import shown

from reports.exhibits.exhibit import Exhibit, Gap


def trained(
    filler, method: str, strategy: str, values: list[float], *, step: float, session: str = "a"
) -> None:
    curve = pd.DataFrame(
        {
            "seconds": [step * number for number in range(1, len(values) + 1)],
            "targets": [10.0 * number for number in range(1, len(values) + 1)],
            "gflops": 1.0,
            "valid_ndcg@10": values,
        }
    )
    config = {
        "method": method,
        "strategy": strategy,
        "device": "cpu",
        "machine": {"cpu": "a CPU", "cores": 2},
    }
    if method != "sasrec":
        config["llm"] = filler.llm
    filler.write("time_to_accuracy", config, {"session": session, "best": max(values)}, {"curve": curve})


def test_strategies_stand_side_by_side_with_their_ratio(filler) -> None:
    filler.accuracy("illmrec", 0.2, risa=True, features=("image",), seeds=(0,))
    filler.accuracy("sasrec", 0.2, seeds=(0,))
    trained(filler, "illmrec", "frozen", [0.1, 0.2], step=40)
    trained(filler, "illmrec", "cached", [0.15, 0.25], step=5)
    trained(filler, "sasrec", "recbole", [0.1, 0.3], step=3)
    found = shown(filler, "How fast training is")
    assert isinstance(found, Exhibit)
    assert found.reading == "I-LLMRec: Stored states has the best of joint training 8.0 times as fast."
    ends, levels = (table.data for table in found.tables)
    assert ends["strategy"].tolist() == ["LLM frozen", "Stored states", "SASRec"]
    assert levels["times as fast"].tolist() == [8.0, 8.0, 8.0] if "times as fast" in levels else True
    assert found.figure is not None and found.figure.files(["png"])["png"][:4] == b"\x89PNG"
    assert not any("different runs" in note for note in found.notes)


def test_what_is_never_reached_and_what_was_timed_apart_is_said(filler) -> None:
    filler.accuracy("illmrec", 0.2, risa=True, features=("image",), seeds=(0,))
    trained(filler, "illmrec", "frozen", [0.1, 0.2], step=40)
    trained(filler, "illmrec", "cached", [0.15], step=5, session="b")
    found = shown(filler, "How fast training is")
    assert isinstance(found, Exhibit)
    assert found.reading == "I-LLMRec: Stored states never has the best of joint training."
    assert any("different runs" in note for note in found.notes)


def test_without_cells_the_page_says_how_to_get_them(filler) -> None:
    filler.accuracy("illmrec", 0.2, risa=True, features=("image",), seeds=(0,))
    found = shown(filler, "How fast training is")
    assert isinstance(found, Gap) and "bench.time_to_accuracy" in found.command
