"""Whatever reads ranks takes the mean over a user's targets first: the same rank twice changes nothing."""

from __future__ import annotations

import pandas as pd
import pytest
from stored import growing, read_store

from bench.frames import (
    ablation,
    catalogue_growth,
    item_popularity,
    multi_day,
    sequence_length,
    unseen_items,
    user_activity,
)
from reports.sections.paired import Ranks

FULL = {"risa": True, "features": ("image", "cf", "text")}
FRAMES = (item_popularity, unseen_items, user_activity, sequence_length, catalogue_growth, multi_day)


def read(filler) -> dict[str, pd.DataFrame]:
    """Return everything that is made of ranks."""
    records = read_store(filler.store)
    found = {module.__name__: module.frame(records, filler.store) for module in FRAMES}
    rows = {
        row: [
            r
            for r in records
            if r.experiment == "accuracy" and (r.config["risa"], tuple(r.config["features"])) == kind
            and "history_length" not in r.config["evaluation"]
        ]
        for row, kind in ablation.ROWS.items()
    }  # fmt: skip
    p_values = ablation.significance({row: own for row, own in rows.items() if own}, filler.store)
    found["ablation"] = pd.DataFrame([p_values])
    ranks = Ranks(filler.store)
    both = ranks.paired(rows["b"], rows["e"], "full")
    assert both is not None
    found["paired"] = both
    found["values"] = ranks.values(rows["e"][0]).to_frame()
    return found


def test_targets_with_the_same_rank_are_one(filler) -> None:
    filler.ablation("bcd", seeds=(0, 1))
    filler.accuracy("illmrec", 0.4, seeds=(0, 1), **FULL)
    for length in (2, 5):
        filler.accuracy("illmrec", 0.3, seeds=(0,), evaluation={"history_length": length}, **FULL)
    growing(filler)
    filler.popularity()
    files = [*filler.store.cells.glob("*/*/ranks.parquet"), *filler.store.cells.glob("*/*/targets.parquet")]
    for path in files:
        if path.name == "ranks.parquet":
            table = pd.read_parquet(path)
            table.assign(days=table.index % 3).to_parquet(path)
    before = read(filler)
    assert all(len(frame) for frame in before.values())
    for path in files:
        table = pd.read_parquet(path)
        twice = pd.concat([table.assign(target=1), table[::2].assign(target=2)])
        twice.sort_index(kind="stable").to_parquet(path, index=False)
    after = read(filler)
    for name, frame in before.items():
        pd.testing.assert_frame_equal(after[name], frame, obj=name)


def test_the_value_of_a_user_is_the_mean(filler) -> None:
    (record,) = filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    ranks = pd.DataFrame(
        {"user_id": ["a", "b", "a"], "target": [1, 1, 2], "rank_sampled": [1, 3, 50], "rank_full": [1, 1, 3]}
    )
    ranks.to_parquet(record.folder / "ranks.parquet")
    found = Ranks(filler.store)
    assert found.values(record, "sampled").to_dict() == {"a": pytest.approx(0.5), "b": pytest.approx(0.5)}
    assert found.values(record, "full").to_dict() == {"a": pytest.approx(0.75), "b": pytest.approx(1)}
