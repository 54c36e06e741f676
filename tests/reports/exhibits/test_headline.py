"""The table that a reviewer reads: intervals over runs and users, training, and what the LLM adds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from stored import section_of

from bench.protocol.metrics import per_user
from reports.exhibits import headline
from reports.exhibits.exhibit import Exhibit

FULL = {"risa": True, "features": ("image", "cf", "text")}


def the_table(filler) -> pd.DataFrame:
    (found,) = headline.exhibits(section_of(filler))
    assert isinstance(found, Exhibit)
    return found.tables[0].data.set_index("method")


def test_what_the_llm_adds_has_an_interval_over_runs_and_users(filler) -> None:
    filler.noise = 0.01
    stored = {
        method: filler.accuracy(method, ndcg, seeds=(0, 1, 2), **FULL)
        for method, ndcg in {"illmrec": 0.4, "tallrec": 0.3, "title": 0.35, "no-llm": 0.35}.items()
    }
    filler.accuracy("popularity", 0.1, seeds=(0,))
    table = the_table(filler)
    values = {
        method: np.array(
            [
                per_user(pd.read_parquet(record.folder / "ranks.parquet")["rank_full"].to_numpy())["ndcg@10"]
                for record in records
            ]
        )
        for method, records in stored.items()
    }
    for method, own in values.items():
        row = table.loc[method]
        assert row["full"] == pytest.approx(own.mean()) and row["seeds"] == 3
        assert row["full_low"] < row["full"] < row["full_high"]
    difference = (values["illmrec"] - values["no-llm"]).mean()
    assert table.at["illmrec", "less_no_llm"] == pytest.approx(difference)
    assert table.at["illmrec", "less_no_llm_low"] > 0 > table.at["tallrec", "less_no_llm_high"]
    assert np.isnan(table.at["no-llm", "less_no_llm"])
    assert table.index[0] == "illmrec" and table.index[-1] == "popularity"
    (found,) = headline.exhibits(section_of(filler))
    assert found.reading.startswith(
        "Against a model without an LLM over the same features, 1 of 3 LLM methods are"
    )


def test_one_run_decides_nothing(filler) -> None:
    for method, ndcg in {"illmrec": 0.5, "no-llm": 0.1}.items():
        filler.accuracy(method, ndcg, seeds=(0,), **FULL)
    (found,) = headline.exhibits(section_of(filler))
    assert "0 of 1 LLM methods are above, 0 below" in found.reading
    assert "one training run or two: no verdict" in found.reading


def test_without_a_control_no_sentence_ranks_methods(filler) -> None:
    filler.accuracy("illmrec", 0.5, seeds=(0, 1, 2), **FULL)
    assert headline.exhibits(section_of(filler)) == []
    filler.accuracy("sasrec", 0.4, seeds=(0, 1, 2))
    (found,) = headline.exhibits(section_of(filler))
    assert "intervals tell which differ" in found.reading


JOINT = {"strategy": "frozen", "epochs": 10, "batch_size": 32, "validation_users": 1000, "patience": 3}
STORED = {
    "strategy": "cached",
    "epochs": 3,
    "batch_size": 32,
    "validation_users": 1000,
    "patience": 3,
    "cached": {
        "epochs": 60,
        "batch_size": 1024,
        "validation_users": 10_000,
        "patience": 3,
        "weight_decay": 0.05,
    },
}


def test_rows_that_were_trained_otherwise_than_the_control_are_marked(filler) -> None:
    for method, training in {"illmrec": JOINT, "tallrec": STORED, "no-llm": STORED}.items():
        filler.accuracy(method, 0.3, training=training, **FULL)
    filler.accuracy("item-knn", 0.2)
    (found,) = headline.exhibits(section_of(filler))
    table = found.tables[0]
    marked = {row[0] for row in table.rows if row[3].endswith("‡")}
    assert marked == {"I-LLMRec"}
    said = table.data.set_index("method")["trained_unlike_no_llm"]
    assert list(said[["tallrec", "no-llm", "item-knn"]]) == ["", "", ""]
    for part in ("strategy (frozen / cached)", "epochs (10 / 60)", "validation users (1,000 / 10,000)"):
        assert part in said["illmrec"]
    (note,) = (note for note in found.notes if note.startswith("‡"))
    assert note.startswith(
        "‡ I-LLMRec: trained otherwise than No LLM (features), whose values come second: strategy"
    )
    assert "1 of 2 were trained otherwise than it (‡)" in found.reading
    assert not any("same projectors, features and loss" in note for note in found.notes)


def test_no_row_is_marked_where_all_were_trained_alike(filler) -> None:
    for method in ("illmrec", "no-llm"):
        filler.accuracy(method, 0.3, training=STORED, **FULL)
    (found,) = headline.exhibits(section_of(filler))
    assert "‡" not in " ".join([*found.notes, found.reading, *(row[3] for row in found.tables[0].rows)])


@pytest.mark.parametrize(
    ("options", "training", "ended"),
    [
        (JOINT, {"epochs": 7, "best_epoch": 4}, "converged"),
        (JOINT, {"epochs": 10, "best_epoch": 8}, "cut off"),
        (JOINT, {"epochs": 10, "best_epoch": 7}, "converged"),
        (JOINT, {"epochs": 10, "best_epoch": 7, "converged": False}, "cut off"),
        ({**JOINT, "patience": None}, {"epochs": 10, "best_epoch": 2}, "cut off"),
        (STORED, {"epochs": 14, "best_epoch": 11}, ""),
        (STORED, {"epochs": 14, "best_epoch": 11, "converged": True}, "converged"),
        ({"epochs": 10}, {"epochs": 10, "best_epoch": 2}, ""),
        (JOINT, {"epochs": 10}, ""),
    ],
)
def test_how_training_ended_is_told_of_cells_of_before(filler, options, training, ended) -> None:
    filler.accuracy("no-llm", 0.3, **FULL)
    for record in filler.accuracy("illmrec", 0.3, training=options, **FULL):
        said(record, training)
    assert the_table(filler).at["illmrec", "ended"] == ended


def test_runs_that_ended_in_two_ways_say_both(filler) -> None:
    filler.accuracy("no-llm", 0.3, **FULL)
    records = filler.accuracy("illmrec", 0.3, training=JOINT, seeds=(0, 1), **FULL)
    for record, best in zip(records, (7, 8), strict=True):
        said(record, {"epochs": 10, "best_epoch": best})
    assert the_table(filler).at["illmrec", "ended"] == "converged and cut off"


def said(record, training) -> None:
    """Say in a stored cell what its training reported."""
    path = record.folder / "cell.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["results"]["training"] = training
    path.write_text(json.dumps(content), encoding="utf-8")
