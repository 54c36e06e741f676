"""The walk from the paper's settings to the authors' code: its cells, its table, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from vision_models import save_model

from bench import ablation
from bench.ablation import walked
from bench.frames import released_code
from bench.frames.ablation import ABOUT
from bench.frames.released_code import SWITCHES, WALK, switched_up_to
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.settings import Settings
from bench.harness.training import model_config, model_folder
from bench.protocol.metrics import summarise
from bench.protocol.statistics import paired_bootstrap
from bench.store.cell import Cell, Record
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.recommender import Recommender
from reports.exhibits.exhibit import Exhibit
from reports.exhibits.released_code import exhibits
from reports.sections.results import read_sections

SHAPE = {"users": 40, "items": 120, "min_interactions": 1, "layers": 1, "progress": False}


def flat(cell: Cell) -> dict[str, object]:
    """What a cell says of training and form, by the names of the settings."""
    training = dict(cell.config["training"])
    return {**training, **{name: cell.config[name] for name in SWITCHES if name in cell.config}}


@pytest.fixture
def make(tiny_llm: Path, tmp_path: Path) -> Callable[..., Bench]:
    def bench(**changes) -> Bench:
        settings = Settings(llm=str(tiny_llm), out=tmp_path / "out", **{**SHAPE, **changes})
        return Bench(ABOUT, settings)

    return bench


def test_each_row_switches_what_it_says_and_nothing_else(make) -> None:
    cells = {row: accuracy_cell(place, "title", seed=0) for row, place in walked(make(preset="paper"))}
    assert list(cells) == list(WALK)
    before = flat(cells["paper"])
    for row, switched in list(WALK.items())[1:]:
        now = flat(cells[row])
        changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        assert changed - {"patience"} == set(switched), row  # a planned learning rate has none
        assert {name: now[name] for name in switched} == switched
        before = now


def test_the_walk_goes_from_one_preset_to_the_other(make) -> None:
    cells = [accuracy_cell(place, "title", seed=0) for _, place in walked(make(preset="small"))]
    for cell, preset in ((cells[0], "paper"), (cells[-1], "released-code")):
        own = accuracy_cell(make(preset=preset).workspace, "title", seed=0)
        dataset = {name: value for name, value in cell.config["dataset"].items() if name != "variant"}
        assert {**cell.config, "dataset": dataset} == own.config
    first, *_, last = (model_config(cell.config, seed=0) for cell in cells)
    assert (first.adaptor, first.hidden, first.affinity) == ("relu", 512, "scaled")
    assert (last.adaptor, last.hidden, last.shared, last.inputs) == ("norm-gelu", 1024, 512, "raw")
    assert last.strategy == "embeddings" and first.strategy == "frozen"


def test_every_switch_can_be_given_by_itself_and_has_a_cell_of_its_own(make) -> None:
    keys = [accuracy_cell(make(preset="paper").workspace, "title", seed=0).key]
    for name, value in switched_up_to("windows").items():
        keys.append(accuracy_cell(make(preset="paper", **{name: value}).workspace, "title", seed=0).key)
    assert len(set(keys)) == 1 + len(SWITCHES)
    undone = {"adaptor": "relu", "hidden": 512, "negatives_from": "outside", "strategy": "frozen"}
    cell = accuracy_cell(make(preset="released-code", **undone).workspace, "title", seed=0)
    assert not {"adaptor", "hidden"} & cell.config.keys() and cell.config["shared"] == 512
    assert not {"negatives_from", "strategy"} & cell.config["training"].keys()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (("--batch-size", "4"), "--batch-size: --rows released has rows that switch it"),
        (("--strategy", "frozen"), "--strategy: --rows released"),
        (("--tuned",), "--tuned: --rows released"),
        (("--adaptor", "tanh"), "--adaptor"),
        (("--hidden", "0"), "--hidden 0: must be at least 1"),
        (("--clip", "0"), "--clip 0"),
        (("--loss", "ce", "--negatives-from", "catalogue"), "--negatives-from catalogue: --loss ce"),
        (("--windows", "long"), "--windows"),
    ],
)
def test_bad_input_is_one_line_before_any_training(option, expected, tmp_path, tiny_llm, capsys) -> None:
    arguments = ["--preset", "smoke", "--rows", "released", "--llm", str(tiny_llm), "--no-progress"]
    assert run(ablation.main, prog="x", args=[*arguments, "--out", str(tmp_path / "out"), *option]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert expected in error
    assert not list(tmp_path.rglob("cell.json"))


def test_rows_that_are_none_name_the_walk() -> None:
    with pytest.raises(InputError, match=r"unknown row 'releasd'.*released"):
        ablation.parse_rows("releasd")


def write(store: Store, row: str, seed: int, ranks: list[int], *, max_steps: int = 5) -> Record:
    changes = switched_up_to(row)
    form = {name: changes[name] for name in ("adaptor", "inputs") if name in changes}
    training = {"risa": True, "max_steps": max_steps}
    training |= {name: value for name, value in changes.items() if name not in form}
    config = {
        "method": "illmrec",
        "seed": seed,
        "dataset": {
            "name": "toys",
            "fingerprint": "f2",
            "variant": {"kind": "released-code", "of": "f1", "row": row},
        },
        "evaluation": {"users": None, "negatives": 100, "part": "test"},
        "llm": {"name": "tiny", "layers": 2},
        "risa": True,
        "features": ["image", "cf", "text"],
        "training": training,
        **form,
    }
    trained = {"parameters": 10, "seconds": 2.0, "targets": 7}
    of_ranks = {"sampled": summarise(ranks), "full": summarise([3 * rank for rank in ranks])}
    frame = pd.DataFrame(
        {"user_id": list("abcde"), "rank_sampled": ranks, "rank_full": [3 * rank for rank in ranks]}
    )
    cell = Cell(experiment="accuracy", version=3, config=config, method="illmrec", seed=seed, dataset={})
    results = {"users": len(ranks), "training": trained, **of_ranks}
    return store.write(cell, results, {"ranks": frame}, seconds=1)


def gain(rank: int) -> float:
    return 1 / np.log2(1 + rank) if rank <= 10 else 0.0


def test_rows_stand_in_the_order_of_the_walk_and_are_tested_against_the_one_before(tmp_path) -> None:
    store = Store(tmp_path)
    ranks = {"inputs": [1, 2, 1, 4, 30], "paper": [9, 2, 40, 7, 3], "adaptor": [2, 2, 3, 5, 9]}
    write(store, "paper", 0, [90] * 5, max_steps=2)  # of an older walk
    records = {row: write(store, row, 0, values) for row, values in ranks.items()}
    table = released_code.frame(store.records("accuracy"), store)
    sampled = table[table["candidates"] == "sampled"]
    assert sampled["row"].tolist() == ["paper", "adaptor", "inputs"]
    assert sampled["switched"].tolist() == ["", "adaptor norm-gelu", "inputs raw"]
    assert sampled["ndcg@10"].iloc[0] == pytest.approx(np.mean([gain(rank) for rank in ranks["paper"]]))
    found = released_code.significance({row: [record] for row, record in records.items()}, store)
    alone = [
        paired_bootstrap([[gain(a) - gain(b) for a, b in zip(ranks[one], ranks[other], strict=True)]]).p_value
        for one, other in (("paper", "adaptor"), ("adaptor", "inputs"))
    ]
    smaller, larger = sorted(alone)
    adjusted = [min(1.0, 2 * smaller), max(min(1.0, 2 * smaller), larger)]
    given = sorted(found[row, "sampled"] for row in ("adaptor", "inputs"))
    assert given == pytest.approx(adjusted, abs=1e-6)
    assert ("paper", "sampled") not in found


def test_a_preset_trains_end_to_end_is_in_the_report_and_recommends(
    tmp_path: Path, tiny_llm: Path, monkeypatch
) -> None:
    pytest.importorskip("recbole", reason="illmrec needs CF features")
    kept = ("paper", "windows")
    short = {row: switched_up_to(row) for row in kept}
    monkeypatch.setattr(released_code, "WALK", {row: {} for row in kept})
    monkeypatch.setattr(released_code, "switched_up_to", short.__getitem__)
    arguments = [
        *("--preset", "smoke", "--max-steps", "2", "--users", "25", "--items", "80"),
        *("--min-interactions", "1", "--eval-users", "10", "--cf-epochs", "1", "--negatives", "20"),
        *("--llm", str(tiny_llm), "--layers", "1", "--history-length", "5", "--rows", "released"),
        *("--vision", str(save_model(tmp_path / "clip", "clip"))),
        *("--no-progress", "--no-report", "--out", str(tmp_path / "out")),
    ]
    assert run(ablation.main, prog="bench.ablation", args=arguments) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "ablation_released.csv")
    sampled = table[table["candidates"] == "sampled"].set_index("row")
    assert sampled.index.tolist() == list(kept)
    parameters = sampled["trainable_parameters"]
    assert parameters["paper"] < parameters["windows"]
    store = Store(tmp_path / "out")
    (last,) = (r for r in store.records("accuracy") if r.config["dataset"]["variant"]["row"] == "windows")
    recommender = Recommender.load(model_folder(store, last))
    assert recommender.model.form.inputs == "raw" and recommender.model.shared == 512
    ranks = store.read_frame(last, "ranks")
    row = recommender.dataset.user_ids.tolist().index(str(ranks["user_id"].iloc[0]))
    sequence = recommender.dataset.sequence(row)
    scores = recommender.score([sequence[:-1]])[0]
    scores[sequence[:-1]] = -np.inf
    assert ranks["rank_full"].iloc[0] == (scores >= scores[sequence[-1]]).sum()


def test_the_page_shows_the_walk_as_a_table(tmp_path) -> None:
    store = Store(tmp_path)
    for row, ranks in {"paper": [9, 2, 40, 7, 3], "adaptor": [2, 2, 3, 5, 9]}.items():
        write(store, row, 0, ranks)
    plain = {
        "method": "illmrec", "seed": 0, "dataset": {"name": "toys", "fingerprint": "f1"}, "risa": True,
        "evaluation": {"users": None}, "llm": {"name": "tiny", "layers": 2}, "features": ["image", "cf", "text"],
        "training": {"risa": True},
    }  # fmt: skip
    cell = Cell(experiment="accuracy", version=3, config=plain, method="illmrec", seed=0, dataset={})
    results = {"users": 2, "sampled": summarise([3, 4]), "full": summarise([5, 9]), "training": {}}
    ranks = pd.DataFrame({"user_id": ["a", "b"], "rank_sampled": [3, 4], "rank_full": [5, 9]})
    store.write(cell, results, {"ranks": ranks}, seconds=1)
    (section,) = read_sections(store.records(), store)
    (shown,) = exhibits(section)
    assert isinstance(shown, Exhibit)
    assert [line[0] for line in shown.tables[0].rows] == ["paper", "adaptor"]
    assert "adaptor changes it most" in shown.reading
    assert section.headline["illmrec"].records[0].config["training"] == {"risa": True}
