"""Power before a run: from stored cells, from floors that stand in, and against redrawn users."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import comparison, power
from bench.frames.power import ABOUT, COLUMNS, NEEDED, NO_NUMBER, STAND_IN, stored_pairs
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.protocol import metrics
from bench.protocol.variance import Spread
from bench.store.cell import Cell, Record
from bench.store.store import Store
from bench.suite import listing
from bench.suite.estimate import Estimate
from bench.suite.probe import Probe
from illmrec.command_line import run

TOYSHOP = ("--users", "600", "--items", "200", "--eval-users", "50")
SMALL = ["--preset", "smoke", "--no-progress", "--no-report"]
OPTIONS = {
    "risa": True, "features": ["image", "text"], "llm": {"name": "some", "layers": 4}, "history_length": 10,
    "training": {"epochs": 3}, "evaluation": {"users": None, "negatives": 100, "part": "test"}, "rendered": "ab",
    "encoders": {"image": "i", "text": "t"},
}  # fmt: skip


def ask(out: Path, *arguments: str) -> int:
    return run(power.main, prog="bench.power", args=[*SMALL, "--out", str(out), *arguments])


def tables(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_csv(out / "tables" / "power.csv"), pd.read_csv(out / "tables" / "power_needed.csv")


def keep(store: Store, method: str, seed: int, ranks: pd.DataFrame | None = None, **changes: Any) -> Record:
    """Store an accuracy cell of an LLM method as the comparison leaves it."""
    config = {
        "method": method,
        "seed": seed,
        "dataset": {"name": "d", "fingerprint": "f"},
        **OPTIONS,
        **changes,
    }
    cell = Cell(experiment="accuracy", version=3, config=config, method=method, seed=seed, dataset={})
    if ranks is None:
        ranks = pd.DataFrame({"user_id": ["a", "b"], "rank_sampled": [1, 2], "rank_full": [3, 4]})
    summaries = {
        candidates: metrics.summarise(ranks[f"rank_{candidates}"].to_numpy())
        for candidates in ("sampled", "full")
    }
    return store.write(cell, {"users": len(ranks), **summaries}, {"ranks": ranks}, seconds=1.0)


def names(pairs: list[tuple[Record, Record]]) -> list[tuple[str, str]]:
    return [(left.key, right.key) for left, right in pairs]


@pytest.fixture(scope="module")
def floors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after the command ran on a small toyshop without cells of the two methods."""
    out = tmp_path_factory.mktemp("power")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILLMREC_CACHE", str(out / "cache"))
        assert ask(out, *TOYSHOP) == 0
    return out


def test_floors_stand_in_where_nothing_is_stored_and_nothing_is_trained(floors: Path) -> None:
    out = floors
    plan, needed = tables(out)
    assert tuple(plan.columns) == COLUMNS and tuple(needed.columns) == NEEDED
    assert set(plan["from"]) == {"item-knn and popularity, standing in"}
    assert set(plan["first"]) == {"illmrec"} and set(plan["second"]) == {"tallrec"}
    assert set(plan["seed_variance"]) == {"not known"} and set(plan["seeds"]) == {1}
    store = Store(out)
    records = store.records("accuracy")
    assert {record.method for record in records} == set(STAND_IN)
    everyone = records[0].results["users"]
    assert everyone > 500, "all users are ranked, whatever --eval-users says of trained methods"
    assert not (out / "store" / "artifacts").exists()
    for candidates, rows in plan.groupby("candidates"):
        ranks = {
            record.method: store.read_frame(record, "ranks").set_index("user_id")[f"rank_{candidates}"]
            for record in records
        }
        gains = {name: np.where(rank <= 10, 1 / np.log2(1 + rank), 0) for name, rank in ranks.items()}
        spread = (gains["item-knn"] - gains["popularity"]).std(ddof=1)
        assert set(rows["users"]) >= {everyone // 4, everyone // 2, everyone}
        assert rows["stderr"].to_numpy() == pytest.approx(spread / np.sqrt(rows["users"]), rel=1e-5)
        assert rows["detectable"].to_numpy() == pytest.approx(2.801585 * rows["stderr"], rel=0.01)
        (count,) = needed.loc[needed["candidates"] == candidates, "users_needed"]
        assert int(count) == pytest.approx((2.801585 * spread / 0.01) ** 2, abs=3)
        enough = rows.set_index("users")
        assert enough.loc[count, "enough"] and enough.loc[count, "power"] == pytest.approx(0.8, abs=0.001)
        assert not enough[enough.index < count]["enough"].any()


@pytest.mark.slow
def test_the_whole_command_builds_a_page_with_the_exhibit(tmp_path) -> None:
    arguments = ["--preset", "smoke", "--no-progress", "--out", str(tmp_path)]
    assert run(power.main, prog="bench.power", args=arguments) == 0
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "How many users and seeds a difference needs: I-LLMRec and TALLRec" in page
    assert "Item kNN and Popularity, which stand in" in page
    assert (tmp_path / "figures" / "figure_power.svg").is_file()
    plan, _ = tables(tmp_path)
    shown = pd.read_csv(tmp_path / "tables" / "figure_power.csv")
    assert tuple(plan.columns) == COLUMNS, "the report's tables have other names"
    assert shown["detectable"].to_numpy() == pytest.approx(plan["detectable"], rel=1e-5)


def test_predicted_power_is_how_often_redrawn_users_find_a_difference(floors: Path) -> None:
    store = Store(floors)
    by_method = {record.method: record for record in store.records("accuracy")}
    differences = power.paired_differences(store, [(by_method["item-knn"], by_method["popularity"])])
    plan, _ = tables(floors)
    rng, trials = np.random.default_rng(0), 3000
    for candidates, values in differences.items():
        rows = plan[plan["candidates"] == candidates].sort_values("users")
        users, difference = int(rows["users"].iloc[-1]), 0.01  # as many as are needed: thousands
        shifted = values[0] - values[0].mean()
        for wanted in (difference, difference / 2):
            found = 0
            for _ in range(trials // 500):
                drawn = rng.choice(shifted + wanted, (500, users))
                stderr = drawn.std(axis=1, ddof=1) / math.sqrt(users)
                found += int((np.abs(drawn.mean(axis=1)) / stderr > 1.96).sum())
            error = float(rows["stderr"].iloc[-1])
            predicted = Spread(of_runs=0.0, of_users=error**2, runs=1, users=users).chance(wanted)
            if wanted == difference:
                assert predicted == pytest.approx(rows["power"].iloc[-1], abs=1e-5)
            error = math.sqrt(predicted * (1 - predicted) / trials)
            assert abs(found / trials - predicted) < 4 * error


def test_a_second_run_computes_nothing_and_another_question_no_floor(floors: Path, tmp_path) -> None:
    out = Path(shutil.copytree(floors, tmp_path / "out"))
    before = {record.key: record.created for record in Store(out).records()}
    assert ask(out, *TOYSHOP) == 0
    assert {record.key: record.created for record in Store(out).records()} == before
    assert ask(out, *TOYSHOP, "--difference", "0.02", "--power", "0.9") == 0
    after = {record.key: record for record in Store(out).records()}
    (new,) = [record for key, record in after.items() if key not in before]
    assert new.experiment == "power" and new.config["difference"] == 0.02
    plan, _ = tables(out)
    assert set(plan["difference"]) == {0.02}
    assert plan["detectable"].to_numpy() == pytest.approx(3.241516 * plan["stderr"], rel=0.01)


def test_stored_seeds_tell_what_runs_are_worth(tmp_path, capsys) -> None:
    place = Workspace(Settings(preset="smoke").resolved()).dataset
    store, rng = Store(tmp_path), np.random.default_rng(0)
    users = [f"u{number}" for number in range(400)]
    for method in ("illmrec", "tallrec"):
        for seed in (0, 1, 2):
            low = 1 + 3 * seed * (method == "tallrec")
            ranks = {f"rank_{kind}": rng.integers(low, 20 + low, 400) for kind in ("sampled", "full")}
            described = {"name": place.name, "fingerprint": place.fingerprint}
            keep(store, method, seed, pd.DataFrame({"user_id": users, **ranks}), dataset=described)
    assert ask(tmp_path) == 0
    log = capsys.readouterr().err
    assert "illmrec and tallrec, 3 seeds" in log and "not known" not in log and "stand in" not in log
    plan, needed = tables(tmp_path)
    assert set(plan["from"]) == {"illmrec and tallrec, 3 seeds"} and set(plan["seeds"]) == {1, 3, 5}
    assert {record.experiment for record in Store(tmp_path).records()} == {"accuracy", "power"}
    (record,) = Store(tmp_path).records("power")
    spread = record.results["sampled"]
    assert record.config["llm"] == OPTIONS["llm"] and record.results["evaluated"] == 400
    assert record.results["users"] == place.n_users and spread["runs"] > 0
    rows = plan[plan["candidates"] == "sampled"]
    expected = spread["users"] / rows["users"] + spread["runs"] / rows["seeds"]
    expected += spread["both"] / (rows["users"] * rows["seeds"])
    assert rows["stderr"].to_numpy() ** 2 == pytest.approx(expected, rel=1e-4)
    assert float(rows["seed_variance"].iloc[0]) == pytest.approx(spread["runs"], rel=0.01)
    told = needed.set_index(["candidates", "seeds"])["users_needed"]
    assert told["sampled", 1] == NO_NUMBER, "such runs differ by more than the difference"


def test_one_stored_seed_tells_of_users_alone(tmp_path, capsys) -> None:
    common = [*SMALL, "--out", str(tmp_path), "--methods", "item-knn,random"]
    assert run(comparison.main, prog="bench.comparison", args=common) == 0
    assert ask(tmp_path, "--methods", "item-knn,random") == 0
    plan, _ = tables(tmp_path)
    assert set(plan["from"]) == {"item-knn and random, 1 seed"}
    assert set(plan["seed_variance"]) == {"not known"} and set(plan["seeds"]) == {1}
    log = capsys.readouterr().err
    assert "the variance between training runs is not known" in log and "stand in" not in log


def test_two_floors_are_asked_of_like_any_other_methods(tmp_path) -> None:
    common = [*SMALL, "--out", str(tmp_path), "--seeds", "0,1", "--methods", "item-knn,popularity"]
    assert run(comparison.main, prog="bench.comparison", args=common) == 0
    before = {record.key for record in Store(tmp_path).records()}
    assert ask(tmp_path, "--methods", "popularity,item-knn") == 0
    assert len({record.key for record in Store(tmp_path).records()} - before) == 1
    plan, _ = tables(tmp_path)
    assert set(plan["from"]) == {"popularity and item-knn, 2 seeds"}
    assert "not known" not in set(plan["seed_variance"])


def test_cells_are_paired_by_seed_where_nothing_but_the_methods_differ(tmp_path) -> None:
    store = Store(tmp_path)
    seeds = [(keep(store, "illmrec", seed), keep(store, "tallrec", seed)) for seed in (1, 0)]
    alone = keep(store, "illmrec", 2)
    other = {"training": {"epochs": 9}}
    longer = [keep(store, name, 0, **other) for name in ("illmrec", "tallrec")]
    keep(store, "illmrec", 3, training={"epochs": 1})
    keep(store, "tallrec", 3, training={"epochs": 2})
    keep(store, "tallrec", 0, evaluation={**OPTIONS["evaluation"], "context": 99})
    keep(store, "tallrec", 0, dataset={"name": "d", "fingerprint": "f", "variant": {"kind": "noise"}})
    keep(store, "tallrec", 1, dataset={"name": "d", "fingerprint": "g"})
    methods = ("illmrec", "tallrec")

    def found() -> list[tuple[str, str]]:
        return names(stored_pairs(store.records("accuracy"), methods, fingerprint="f"))

    assert found() == names(seeds[::-1]), "several seeds come before one, which is newer"
    assert alone.key not in dict(found())
    longer += [keep(store, name, 1, **other) for name in ("illmrec", "tallrec")]
    assert found() == names([(longer[0], longer[1]), (longer[2], longer[3])]), "the newest of several"
    encoders = {"encoders": {"image": "other", "text": "t"}}
    keep(store, "tallrec", 0, **encoders)
    assert found() == names([(longer[0], longer[1]), (longer[2], longer[3])])
    assert stored_pairs(store.records("accuracy"), ("illmrec", "trsr"), fingerprint="f") == []


def test_controls_and_methods_without_an_llm_are_paired_by_data_and_evaluation(tmp_path) -> None:
    store = Store(tmp_path)
    ours = keep(store, "illmrec", 0)
    control = keep(
        store,
        "no-llm",
        0,
        risa=False,
        training={"strategy": "cached"},
        readout="features",
        features=["image", "text"],
    )
    keep(store, "no-llm", 0, risa=False, training={"strategy": "cached"}, readout="features", features=["cf"])
    config = {
        "method": "sasrec",
        "seed": 0,
        "dataset": ours.config["dataset"],
        "training": {"model": "sasrec"},
    }
    floor = [
        store.write(
            Cell(
                experiment="accuracy", version=3, config=config | extra, method="sasrec", seed=0, dataset={}
            ),
            dict(ours.results),
            {"ranks": store.read_frame(ours, "ranks")},
            seconds=1.0,
        )
        for extra in (
            {"evaluation": OPTIONS["evaluation"]},
            {"evaluation": {**OPTIONS["evaluation"], "negatives": 20}},
        )
    ]
    records = store.records("accuracy")
    for name, partner in (("no-llm", control), ("sasrec", floor[0])):
        assert names(stored_pairs(records, ("illmrec", name), fingerprint="f")) == [(ours.key, partner.key)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--methods", "illmrec"], "--methods illmrec: give two different methods"),
        (["--methods", "illmrec,illmrec"], "give two different methods"),
        (["--methods", "illmrec,tallrec,trsr"], "give two different methods"),
        (["--methods", "illmrec,talrec"], "did you mean 'tallrec'"),
        (["--difference", "0"], "--difference 0.0: give a difference"),
        (["--difference", "-0.01"], "--difference -0.01"),
        (["--difference", "1.5"], "--difference 1.5"),
        (["--power", "0"], "--power 0.0: give a probability"),
        (["--power", "1"], "--power 1.0"),
        (["--dataset", "toyshpo"], "did you mean 'toyshop'"),
    ],
)
def test_bad_input_is_one_line(arguments, expected, refusal) -> None:
    assert expected in refusal(power.main, arguments)


def test_a_store_without_floors_is_told_and_not_computed(tmp_path, capsys) -> None:
    assert ask(tmp_path, "--overwrite", "only-cache") == 0
    assert "without item-knn and popularity there is nothing to tell" in capsys.readouterr().err
    assert not (tmp_path / "tables").exists() and not list(tmp_path.rglob("cell.json"))


def test_the_plan_costs_nothing_but_a_start(tmp_path, tiny_llm) -> None:
    settings = Settings(preset="smoke", llm=str(tiny_llm), out=tmp_path)
    place = Workspace(settings.resolved())
    probe = Probe(
        **{name: 1.0 for name in Probe.__dataclass_fields__} | {"fixed_tokens": 40, "branch_tokens": 10}
    )
    cost, reason = listing.expected(ABOUT, settings, Estimate(place, probe, Store(tmp_path)), {})
    assert not reason and cost.seconds == probe.start_seconds
    assert not list(tmp_path.rglob("cell.json"))
