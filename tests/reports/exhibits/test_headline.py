"""The table that a reviewer reads: intervals over runs and users, training, and what the LLM adds."""

from __future__ import annotations

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
