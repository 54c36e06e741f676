"""A recommender of a user's own, named as package.module:Class, beside the toolkit's methods."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import comparison, efficiency, tune
from bench.harness.own_recommenders import is_own_recommender
from bench.store.cell import Record
from bench.store.store import Store
from illmrec.command_line import run

MODULE = """\
import numpy as np
from illmrec.prompts.segments import Text

MADE = []

class Counts:
    '''Popularity: what the toolkit's own is, but for ties.'''
    def __init__(self, split, n_items, seed):
        MADE.append(seed)
        counts = np.bincount(split.train_items(), minlength=n_items)
        self.scores = counts + np.random.default_rng([seed, split.dataset.n_users]).random(n_items) / 2
    def score(self, histories):
        return np.tile(self.scores.astype(np.float32), (len(histories), 1))

class NotANumber(Counts):
    def score(self, histories):
        return super().score(histories) * np.nan

class Breaks(Counts):
    def __init__(self, split):
        raise ZeroDivisionError("nothing to divide by")

class NeedsWidth(Counts):
    def __init__(self, split, width):
        self.width = width

def counts(split, n_items):
    return Counts(split, n_items, 0)

def nothing(split):
    return split

class Brand:
    name = "brand"
    columns = ("brand",)
    slots = ()
    def render(self, item, available):
        return [Text(f" {item['brand']}")]

ready = object.__new__(Counts)
"""
SMALL = [
    "--preset",
    "smoke",
    "--users",
    "60",
    "--items",
    "60",
    "--min-interactions",
    "1",
    "--negatives",
    "20",
]
SMALL += ["--no-progress", "--no-report"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a user's module where Python finds it."""
    path = tmp_path / "own_recommenders_of_a_user.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return path


def named(module: Path, *names: str) -> str:
    return ",".join(f"{module.stem}:{name}" for name in names)


def compare(out: Path, methods: str, *arguments: str) -> int:
    given = [*SMALL, "--out", str(out), "--methods", methods, *arguments]
    return run(comparison.main, prog="bench.comparison", args=given)


def stored(out: Path) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in Store(out).records("accuracy"):
        found.setdefault(record.method, []).append(record)
    return found


def ndcg(record: Record) -> Any:
    return record.results["full"]["ndcg@10"]


def test_it_is_fitted_for_each_seed_ranked_like_the_others_and_found_again(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = named(module, "Counts")
    methods = f"popularity,{own},{named(module, 'counts')}"
    assert compare(tmp_path / "out", methods, "--seeds", "0,1") == 0
    made = sys.modules[module.stem].MADE  # type: ignore[attr-defined]
    assert sorted(made) == [0, 0, 0, 1], "the function makes one of seed 0 for each"
    records = stored(tmp_path / "out")
    assert {name: len(found) for name, found in records.items()} == dict.fromkeys(methods.split(","), 2)
    for record in records[own]:
        ranks = Store(tmp_path / "out").read_frame(record, "ranks")
        assert len(ranks) == record.results["users"] and record.results["training"]["seconds"] >= 0
        # Popularity with its ties broken otherwise: 60 users, 60 items.
        assert abs(ndcg(record) - ndcg(records["popularity"][0])) < 0.1
        assert str(tmp_path) not in str(record.config)
    table = pd.read_csv(tmp_path / "out" / "tables" / "comparison.csv")
    assert own in set(table["method"]) and np.isfinite(table["ndcg@10"]).all()
    capsys.readouterr()
    assert compare(tmp_path / "out", methods, "--seeds", "0,1") == 0
    assert "6 of 6 cells found" in capsys.readouterr().err and len(made) == 4


def test_another_content_of_its_file_is_another_method(module: Path, tmp_path: Path) -> None:
    own = named(module, "Counts")
    assert compare(tmp_path / "out", own) == 0
    module.write_text(MODULE.replace("counts +", "-counts +"))
    del sys.modules[module.stem]
    assert compare(tmp_path / "out", own) == 0
    first, second = sorted(stored(tmp_path / "out")[own], key=lambda record: record.created)
    assert first.config["source"] != second.config["source"] and ndcg(first) > ndcg(second)


def test_one_that_cannot_be_ranked_or_made_fails_alone(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = f"{named(module, 'NotANumber', 'Breaks', 'nothing')},popularity"
    assert compare(tmp_path / "out", methods) != 0
    assert set(stored(tmp_path / "out")) == {"popularity"}
    said = capsys.readouterr().err
    assert f"{named(module, 'NotANumber')}" in said and "nothing to divide by" in said
    assert f"{named(module, 'nothing')}: what it makes lacks score(histories)" in said


@pytest.mark.parametrize(
    ("program", "name", "said"),
    [
        (comparison, "NeedsWidth", "'width' is a parameter without a default"),
        (comparison, "ready", "it is made already, for one data set"),
        (comparison, "Absent", "has no attribute 'Absent'"),
        (efficiency, "Counts", "what a recommender of your own costs is not measured"),
        (tune, "Counts", "it has nothing to search"),
    ],
)
def test_what_cannot_be_done_with_it_is_said_in_one_line(
    module: Path, refusal: Any, program: Any, name: str, said: str
) -> None:
    small = ["--users", "40", "--items", "60"]
    assert said in refusal(program.main, ["--methods", named(module, name), *small])


def test_it_is_told_from_a_representation_by_what_it_has(module: Path) -> None:
    kinds = {name: is_own_recommender(named(module, name)) for name in ("Counts", "counts", "Brand")}
    assert kinds == {"Counts": True, "counts": True, "Brand": False}
    assert not is_own_recommender("popularity")
    assert not is_own_recommender("illmrec.prompts.segments:ImageRepresentation")
