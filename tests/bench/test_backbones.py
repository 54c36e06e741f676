"""Table 11: the grid of LLMs and vision encoders, its frame, and the command as a user runs it."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
import pytest
from vision_models import save_model

from bench import ablation, backbones
from bench.backbones import LLM, default_llms, parse_llm
from bench.frames.backbones import COLUMNS, COSTS, EXPERIMENT, KIND, frame
from bench.harness.settings import Settings
from bench.harness.timing import Timing, cost_groups
from bench.harness.workspace import Workspace
from bench.protocol.metrics import summarise
from bench.store.cell import Cell, Record
from bench.store.store import Store
from illmrec.command_line import run
from reports.sections.results import read_sections

OWN = {"name": "smollm2-135m", "layers": 4, "dtype": "bfloat16"}
HALF = {**OWN, "layers": 2}


def test_layers_stand_after_an_at_sign(tmp_path):
    assert parse_llm("smollm2-135m@2", layers=4) == LLM(name="smollm2-135m", layers=2, given="smollm2-135m@2")
    assert parse_llm("smollm2-135m", layers=4) == LLM(name="smollm2-135m", layers=4, given="smollm2-135m")
    assert parse_llm("a/b", layers=None).layers is None
    assert parse_llm("user@host/model", layers=3).name == "user@host/model"
    folder = tmp_path / "model@7"
    folder.mkdir()
    assert parse_llm(str(folder), layers=3) == LLM(name=str(folder), layers=3, given=str(folder))
    for nothing in ("", "@3"):
        with pytest.raises(backbones.InputError, match="write NAME"):
            parse_llm(nothing, layers=3)


def test_left_open_the_llm_and_its_first_half_are_compared(tiny_llm):
    def defaults(layers: int | None) -> tuple[str, ...]:
        return default_llms(Workspace(Settings(llm=str(tiny_llm), layers=layers)))

    assert defaults(None) == (str(tiny_llm), f"{tiny_llm}@1")
    assert defaults(2) == (str(tiny_llm), f"{tiny_llm}@1")
    assert defaults(1) == (str(tiny_llm),)


def test_cost_is_timed_on_histories_that_enough_users_have():
    settings = Settings(preset="smoke", users=40, items=40, min_interactions=1, history_length=10_000)
    workspace = Workspace(settings.resolved())
    lengths = np.sort(workspace.dataset.lengths - 1)
    ((length, users),) = cost_groups(workspace, Timing(group_users=5)).items()
    assert length == lengths[-5] and len(set(users)) == 5
    assert (workspace.dataset.lengths[users] - 1 >= length).all()
    assert [*cost_groups(workspace, Timing(group_users=999))] == [lengths[0]]


def write_accuracy(
    store: Store, llm: dict, vision: str, *, seed=0, ranks=(1, 4, 30), variant=False, epochs=3
) -> Record:
    """Store an accuracy cell as bench.harness.accuracy does."""
    config = {
        "method": "illmrec",
        "seed": seed,
        "dataset": {"name": "toys", "fingerprint": "f1"}
        | ({"variant": {"kind": KIND, "of": "f1"}} if variant else {}),
        "evaluation": {"users": None, "negatives": 100, "part": "test"},
        "llm": llm,
        "encoders": {"image": vision, "text": "minilm"},
        "risa": True,
        "features": ["image", "cf", "text"],
        "training": {"epochs": epochs},
    }
    cell = Cell(experiment="accuracy", version=2, config=config, method="illmrec", seed=seed, dataset={})
    results = {
        "users": len(ranks),
        "sampled": summarise(list(ranks)),
        "full": summarise([2 * rank for rank in ranks]),
        "training": {"parameters": 900, "seconds": 12.5, "targets": 600, "epochs": 3},
    }
    return store.write(cell, results, {}, seconds=1)


def write_cost(store: Store, llm: dict, vision: str, *, latency: float, machine="this") -> Record:
    """Store a cost cell as bench.backbones does."""
    config = {
        "method": "illmrec",
        "seed": 0,
        "dataset": {"name": "toys", "fingerprint": "f1"},
        "llm": llm,
        "encoders": {"image": vision, "text": "minilm"},
        "machine": {"cpu": machine},
    }
    cell = Cell(experiment=EXPERIMENT, version=1, config=config, method="illmrec", seed=0, dataset={})
    results = {name: float(number) for number, name in enumerate(COSTS)} | {"latency_ms_median": latency}
    return store.write(cell, results, {}, seconds=1)


def test_frame_is_the_grid_whose_cost_was_measured(tmp_path):
    store = Store(tmp_path)
    write_accuracy(store, OWN, "clip", variant=True, epochs=9)  # of another training
    for seed in (0, 1):
        write_accuracy(store, OWN, "lite", seed=seed)
        write_accuracy(store, HALF, "lite", seed=seed, ranks=(2, 2, 11), variant=True)
    write_accuracy(store, OWN, "clip", variant=True)
    write_accuracy(store, HALF, "clip")  # left by a run of its own
    write_accuracy(store, {**OWN, "layers": 7}, "lite")  # by another experiment: its cost is unknown
    write_cost(store, OWN, "lite", latency=9.0, machine="other")
    for number, (llm, vision) in enumerate([(OWN, "lite"), (HALF, "lite"), (OWN, "clip"), (HALF, "clip")]):
        write_cost(store, llm, vision, latency=float(number))
    table = frame(store.records(), store)
    assert tuple(table.columns) == COLUMNS
    sampled = table[table["candidates"] == "sampled"]
    assert len(table) == 2 * len(sampled)
    names = {2: "smollm2-135m (2 layers)", 4: "smollm2-135m (4 layers)"}
    assert list(zip(sampled["llm"], sampled["vision"], sampled["seed"], strict=True)) == [
        (names[2], "clip", 0), (names[2], "lite", 0), (names[2], "lite", 1),
        (names[4], "clip", 0), (names[4], "lite", 0), (names[4], "lite", 1),
    ]  # fmt: skip
    assert sampled["latency_ms_median"].tolist() == [3, 1, 1, 2, 0, 0]
    assert (sampled["training_seconds"] == 12.5).all()
    half = sampled[(sampled["llm"] == names[2]) & (sampled["vision"] == "lite")]
    assert half["ndcg@10"].tolist() == pytest.approx([2 / math.log2(3) / 3] * 2)


def test_a_store_without_the_experiment_has_no_rows(tmp_path):
    store = Store(tmp_path)
    write_accuracy(store, OWN, "lite")
    assert frame(store.records(), store).empty and frame([], store).empty


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--llms", "@2"], "--llms '@2'"),
        (["--group-users", "0"], "--group-users"),
        (["--llm", "/nowhere/model"], "--llm /nowhere/model"),
    ],
)
def test_bad_input_is_one_line_before_any_training(arguments, expected, tmp_path, capsys):
    common = ["--preset", "smoke", "--out", str(tmp_path / "out"), "--no-report", "--no-progress"]
    assert run(backbones.main, prog="backbones", args=[*common, *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and expected in error[0]
    assert not list(tmp_path.rglob("cell.json"))


@pytest.mark.slow
def test_a_grid_goes_on_without_what_cannot_be_loaded_and_keeps_out_of_headlines(
    tmp_path, tiny_llm, caplog, capsys
):
    pytest.importorskip("recbole", reason="illmrec needs CF features")
    small = [
        *(
            "--preset",
            "smoke",
            "--max-steps",
            "2",
            "--users",
            "40",
            "--items",
            "60",
            "--min-interactions",
            "1",
        ),
        *(
            "--negatives",
            "20",
            "--llm",
            str(tiny_llm),
            "--layers",
            "2",
            "--no-progress",
            "--no-report",
            "--out",
            str(tmp_path),
        ),
    ]
    assert run(ablation.main, prog="ablation", args=[*small, "--rows", "e"]) == 0
    trained = {path: path.stat().st_mtime for path in tmp_path.rglob("model.json")}
    grid = [*small, "--llms", f"{tiny_llm},{tiny_llm}@1,{tiny_llm}@9", "--repeats", "1", "--group-users", "3"]
    grid += ["--visions", f"efficientnet-lite0,/nowhere/clip,{save_model(tmp_path / 'clip', 'clip')}"]
    with caplog.at_level(logging.ERROR):
        assert run(backbones.main, prog="backbones", args=grid) == 1
    said = " ".join(capsys.readouterr().err.split()) + caplog.text
    assert "skipped: /nowhere/clip" in said and f"skipped: {tiny_llm}@9" in said
    table = pd.read_csv(tmp_path / "tables" / "backbones.csv")
    assert tuple(table.columns) == COLUMNS and len(table) == 8
    sampled = table[table["candidates"] == "sampled"]
    assert [llm.rsplit("(")[1] for llm in sampled["llm"]] == ["1 layers)"] * 2 + ["2 layers)"] * 2
    assert sampled["vision_width"].tolist() == [12, 1280] * 2  # the folder's name comes first
    assert sampled["llm_parameters"].is_monotonic_increasing and sampled["llm_parameters"].nunique() == 2
    assert sampled["model_gflops"].nunique() == 2 and (sampled["latency_ms_median"] > 0).all()
    models = {path: path.stat().st_mtime for path in tmp_path.rglob("model.json")}
    assert len(models) == 4 and trained.items() <= models.items()
    (section,) = read_sections(Store(tmp_path).records())
    assert section.llm.endswith("(2 layers)") and len(section.accuracy) == 1
    cells = {path: path.stat().st_mtime for path in tmp_path.rglob("cell.json")}
    assert run(backbones.main, prog="backbones", args=grid) == 1
    assert {path: path.stat().st_mtime for path in tmp_path.rglob("cell.json")} == cells
