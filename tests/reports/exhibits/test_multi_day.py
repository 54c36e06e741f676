"""Users whose target came on a later day than the item before it, and on the same: from stored ranks alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Filler
from page_reader import Page, text_of
from stored import section_of, shown, table

from bench.frames.multi_day import COLUMNS, TARGETS, frame
from bench.protocol.statistics import paired_interval
from bench.store.cell import Record
from reports.build import build_report
from reports.exhibits.exhibit import Exhibit
from reports.exhibits.multi_day import exhibits

DAYS = np.arange(400) % 5  # every fifth target on the same day


def with_days(
    filler: Filler, method: str, ndcg: float, days: np.ndarray | None = DAYS, **changes: Any
) -> list[Record]:
    """Store accuracy cells whose ranks say on which day the target came."""
    records = filler.accuracy(method, ndcg, **changes)
    for record in records:
        path = record.folder / "ranks.parquet"
        if days is not None:
            pd.read_parquet(path).assign(gap=days * 86_400, days=days.astype(np.int32)).to_parquet(path)
    return records


def ndcg(ranks: pd.Series) -> pd.Series:
    return pd.Series(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0), index=ranks.index)


def members(days: np.ndarray) -> dict[str, np.ndarray]:
    return {"any day": days >= 0, "later day": days > 0, "same day": days == 0}


def test_a_row_for_each_cell_and_group(filler) -> None:
    records = with_days(filler, "illmrec", 0.4, seeds=(0, 1)) + with_days(
        filler, "popularity", 0.2, seeds=(0,)
    )
    found = frame(records, filler.store)
    assert tuple(found.columns) == COLUMNS and len(found) == 3 * len(TARGETS) * 2
    rows = found.set_index(["method", "seed", "candidates", "target"])
    for record in records:
        ranks = pd.read_parquet(record.folder / "ranks.parquet")
        for candidates in ("sampled", "full"):
            values = ndcg(ranks[f"rank_{candidates}"])
            for target, of in members(DAYS).items():
                row = rows.loc[(record.method, record.seed, candidates, target)]
                assert row["users"] == {"any day": 400, "later day": 320, "same day": 80}[target]
                assert row["ndcg@10"] == pytest.approx(values[of].mean())


def test_users_with_several_targets_are_means(filler) -> None:
    (record,) = with_days(filler, "popularity", 0.3, seeds=(0,))
    path = record.folder / "ranks.parquet"
    ranks = pd.read_parquet(path)
    again = ranks[::3].assign(rank_sampled=1, rank_full=1, target=2)
    pd.concat([ranks.assign(target=1), again]).sort_values(["user_id", "target"]).to_parquet(path)
    values = ndcg(ranks["rank_full"])
    values[::3] = (values[::3] + 1) / 2
    rows = frame([record], filler.store).set_index(["candidates", "target"])
    for target, of in members(DAYS).items():
        assert rows.at[("full", target), "users"] == of.sum()
        assert rows.at[("full", target), "ndcg@10"] == pytest.approx(values[of].mean())


@pytest.mark.parametrize("days", [None, np.zeros(400, int), np.ones(400, int)])
def test_nothing_where_all_users_are_of_one_kind(filler, days) -> None:
    with_days(filler, "illmrec", 0.4, days)
    with_days(filler, "popularity", 0.2, days)
    assert exhibits(section_of(filler)) == []


def test_the_page_shows_means_over_seeds_after_the_comparison(filler) -> None:
    ours = with_days(filler, "illmrec", 0.4, seeds=(0, 1), risa=True, features=("image", "cf", "text"))
    with_days(filler, "popularity", 0.2, seeds=(0,))
    with_days(filler, "random", 0.05, None, seeds=(0,))
    found = shown(filler, "Users whose target came on a later day")
    assert isinstance(found, Exhibit)
    assert found.reading.startswith(
        "The target of 20% of the users came on the same day as the item before it; 320 users"
    )
    assert any("part of the same purchase" in note for note in found.notes)
    assert any(note.endswith("do not tell both: Random.") for note in found.notes)
    assert [title for title, _ in found.tables[0].groups] == ["", "NDCG@10", "Less No LLM"]
    shown_rows = [row[:4] for row in found.tables[0].rows]
    assert shown_rows == [
        [target, label, runs, users]
        for target, users in (("any day", "400"), ("later day", "320"), ("same day", "80"))
        for label, runs in (("Popularity", "1"), ("I-LLMRec", "2"))
    ]
    page = Page(build_report(filler.store.out))
    written = table(filler, "multi_day").set_index(["method", "candidates", "target"])
    assert set(written.index.get_level_values("method")) == {"illmrec", "popularity"}
    per_seed = frame(ours, filler.store)
    for (candidates, target), own in per_seed.groupby(["candidates", "target"]):
        row = written.loc[("illmrec", candidates, target)]
        assert row["ndcg@10"] == pytest.approx(own["ndcg@10"].mean()) and row["seeds"] == 2
    assert written["less_no_llm"].isna().all() and {row[-1] for row in found.tables[0].rows} == {"–"}
    text = text_of(page)
    assert (
        text.index("Table 1. Accuracy")
        < text.index("Users whose target came")
        < text.index("Beyond accuracy")
    )


def test_means_and_differences_have_intervals_over_runs_and_users(filler) -> None:
    cells = {
        "illmrec": with_days(filler, "illmrec", 0.4, seeds=(0, 1), risa=True, features=("image", "cf")),
        "no-llm": with_days(filler, "no-llm", 0.35, seeds=(0, 1), risa=True, features=("image", "cf")),
    }
    with_days(filler, "popularity", 0.2, seeds=(0,))
    data = exhibits(section_of(filler))[0].tables[0].data.set_index(["method", "target", "candidates"])
    assert len(data) == 3 * 3 * 2
    for candidates in ("sampled", "full"):
        values = {
            method: [
                ndcg(pd.read_parquet(record.folder / "ranks.parquet")[f"rank_{candidates}"])
                for record in records
            ]
            for method, records in cells.items()
        }
        for target, of in members(DAYS).items():
            row = data.loc[("illmrec", target, candidates)]
            for second, name in ((None, "ndcg@10"), ("no-llm", "less_no_llm")):
                runs = {
                    seed: pd.DataFrame(
                        {"first": own[of], "second": values[second][seed][of] if second else 0.0}
                    )
                    for seed, own in enumerate(values["illmrec"])
                }
                found = paired_interval(pd.concat(runs, names=["seed", "user_id"]))
                expected = np.mean([run["first"] - run["second"] for run in runs.values()])
                assert row[name] == pytest.approx(expected)
                assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
                # Users are redrawn in the order of their ids, so that ends differ by chance.
                width = found.high - found.low
                assert row[f"{name}_low"] == pytest.approx(found.low, abs=0.2 * width)
                assert row[f"{name}_high"] == pytest.approx(found.high, abs=0.2 * width)
    # Eighty users are known less well than four hundred.
    wide = data.loc[("illmrec", "same day", "full")], data.loc[("illmrec", "any day", "full")]
    assert np.diff([row["ndcg@10_high"] - row["ndcg@10_low"] for row in wide]) < 0
    assert data.loc["no-llm"][["less_no_llm", "less_no_llm_low"]].isna().all(axis=None)
    once = data.loc["popularity"]
    assert once["less_no_llm"].notna().all() and once["seeds"].eq(1).all()
    (row,) = (
        row for row in exhibits(section_of(filler))[0].tables[0].rows if row[:2] == ["later day", "I-LLMRec"]
    )
    later = data.loc[("illmrec", "later day", "full")]
    assert row[5] == f"{later['ndcg@10']:.4f} [{later['ndcg@10_low']:.4f}, {later['ndcg@10_high']:.4f}]"
    assert row[7].startswith("+") == (later["less_no_llm"] > 0) and row[7].count(", ") == 1


def test_one_user_of_a_kind_has_no_interval(filler) -> None:
    days = np.where(np.arange(400) == 7, 0, 1)
    with_days(filler, "illmrec", 0.4, days, seeds=(0, 1), risa=True, features=("image", "cf"))
    with_days(filler, "no-llm", 0.4, days, seeds=(0, 1), risa=True, features=("image", "cf"))
    (found,) = exhibits(section_of(filler))
    assert isinstance(found, Exhibit)
    data = found.tables[0].data.set_index(["method", "target", "candidates"])
    alone, others = (data.loc[("illmrec", target, "full")] for target in ("same day", "later day"))
    assert alone["users"] == 1 and np.isfinite(alone["ndcg@10"]) and np.isfinite(alone["less_no_llm"])
    for name in ("ndcg@10", "less_no_llm"):
        assert np.isnan(alone[f"{name}_low"]) and np.isnan(alone[f"{name}_high"])
        assert np.isfinite(others[f"{name}_low"])
    assert any(row[4].endswith(" [–, –]") for row in found.tables[0].rows)
