"""Robustness to descriptions: which cells a plan trains, what the noise reaches, and the table that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_summaries import as_summaries

from baselines.text_prompts import FullDescription
from bench import robustness
from bench.changes.changed_images import with_images
from bench.changes.noise import noisy_descriptions
from bench.frames.robustness import COLUMNS, KIND, METHODS, frame
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.protocol.metrics import summarise
from bench.robustness import Change, NoisyPrompts, Places, changes_prompts, planned, with_texts
from bench.store.cell import Cell, Record
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.data.images import KeptImages
from illmrec.prompts.segments import ImageRepresentation, Segment, Slot, Text

FIGURE_5 = {"methods": METHODS, "kinds": ("html", "missing"), "levels": (0.5, 1.0)}


class SummaryAndDescription:
    """A representation that shows both texts."""

    name = "both"
    columns: tuple[str, ...] = ("title", "summary", "description")
    slots: tuple[str, ...] = ()

    def render(self, item, available) -> Sequence[Segment]:
        return [Text(f"{item['title']} {item['summary']} {item['description']}")]


class ImageAndDescription:
    """A representation that shows the description beside the image."""

    name = "image-and-description"
    columns: tuple[str, ...] = ("title", "description")
    slots = ("image",)

    def render(self, item, available) -> Sequence[Segment]:
        return [
            Text(item["title"]),
            *([Slot("image")] if "image" in available else []),
            Text(item["description"]),
        ]


BOTH = f"{__name__}:SummaryAndDescription"


@pytest.fixture
def workspace(tiny_llm) -> Workspace:
    pytest.importorskip("recbole", reason="the cells name the options of the CF features")
    return on_toyshop(tiny_llm)


def on_toyshop(tiny_llm: Path, **changes) -> Workspace:
    settings = {"users": 40, "items": 40, "layers": 2, "preset": "smoke", "progress": False, **changes}
    return Workspace(Settings(llm=str(tiny_llm), device="cpu", **settings).resolved())


def with_items(tiny_llm: Path, **columns) -> Workspace:
    place = on_toyshop(tiny_llm)
    place.__dict__["dataset"] = with_texts(place.dataset, columns)
    return place


def plan(workspace: Workspace, *, reaches=("prompt",), summaries=("clean",), **changes):
    return planned(workspace, **{**FIGURE_5, "reaches": reaches, "summaries": summaries, **changes})


def named(found) -> list[tuple[str, ...]]:
    """Method and noise of the planned cells."""
    names = []
    for place, cell in found:
        variant = cell.config["dataset"].get("variant")
        assert place.variant == (variant or {})
        if variant is None:
            names.append((cell.method,))
        else:
            names.append(
                (cell.method, variant["reach"], variant["noise"], variant["level"], variant["summaries"])
            )
    return names


def test_only_what_reads_descriptions_is_trained_again(workspace):
    found = plan(workspace)
    assert named(found) == [
        ("tallrec",),
        ("trsr",),
        ("full-description",),
        ("illmrec",),
        ("full-description", "prompt", "html", 0.5, ""),
        ("full-description", "prompt", "html", 1.0, ""),
        ("full-description", "prompt", "missing", 0.5, ""),
        ("title",),
    ]
    assert len({cell.key for _, cell in found}) == len(found)
    assert len({cell.config["dataset"]["fingerprint"] for _, cell in found}) == 4
    of = {cell.config["dataset"]["variant"]["of"] for _, cell in found if len(named([(_, cell)])[0]) > 1}
    assert of == {workspace.dataset.fingerprint}


def test_plain_cells_are_those_of_the_comparison_and_the_plan_is_the_same_each_time(workspace, tiny_llm):
    from bench.harness.accuracy import accuracy_cell

    keys = [cell.key for _, cell in plan(workspace)]
    assert keys[:4] == [accuracy_cell(workspace, name, seed=0).key for name in METHODS]
    assert keys == [cell.key for _, cell in plan(on_toyshop(tiny_llm))]
    more = [cell.key for _, cell in plan(workspace, levels=(0.25, 0.5, 1.0), kinds=("html",))]
    assert set(keys[:6]) < set(more)


def test_noise_everywhere_trains_every_method_again(workspace, caplog):
    found = named(plan(workspace, reaches=("everything",), kinds=("missing",)))[4:]
    assert found == [
        ("tallrec", "everything", "missing", 0.5, ""),
        ("trsr", "everything", "missing", 0.5, "clean"),
        ("full-description", "everything", "missing", 0.5, ""),
        ("illmrec", "everything", "missing", 0.5, ""),
        ("tallrec", "everything", "missing", 1.0, ""),
        ("trsr", "everything", "missing", 1.0, "clean"),
        ("title", "everything", "missing", 1.0, ""),
    ]
    assert "illmrec with missing noise at level 1 in everything is left out" in caplog.text


def test_rewritten_summaries_start_at_rewritten_summaries_of_the_clean_text(workspace, tiny_llm):
    only = {"methods": ("trsr",), "kinds": ("html",), "levels": (1.0,), "summaries": ("clean", "rewritten")}
    found = plan(workspace, **only)
    assert named(found) == [
        ("trsr",),
        ("trsr", "", "", 0.0, "rewritten"),
        ("trsr", "prompt", "html", 1.0, "rewritten"),
    ]
    given, *written = (cell.config["summarizer"] for _, cell in found)
    assert given is None and written[0] == written[1]
    assert written[0].startswith(f"{tiny_llm.name}@") and "max_words 120, max_new_tokens 200)" in written[0]
    clean, noisy = (place.dataset.items for place, _ in found[1:])
    assert (clean["summary"] == "").all() and (noisy["summary"] == "").all()
    assert clean["description"].equals(workspace.dataset.items["description"])
    assert noisy["description"].str.contains("<").all()
    # Where the LLM writes all summaries anyway, the plain cell is where the line starts.
    assert named(plan(with_items(tiny_llm, summary=""), **only)) == [
        ("trsr",),
        ("trsr", "prompt", "html", 1.0, "rewritten"),
    ]


def test_clean_summaries_are_those_of_the_clean_text_when_the_llm_writes_them(tiny_llm, monkeypatch):
    pytest.importorskip("recbole")
    read = []

    def summaries(dataset, llm, **options):
        read.append(dataset.items["description"].tolist())
        return as_summaries([f"of {text}" for text in dataset.items["description"]])

    monkeypatch.setattr("bench.harness.workspace.summaries", summaries)
    place = with_items(tiny_llm, summary="")
    methods = ("trsr", BOTH)
    found = plan(place, methods=methods, kinds=("html",), levels=(1.0,), reaches=("prompt", "everything"))
    assert [name[1:] for name in named(found)] == [
        (),
        (),
        ("prompt", "html", 1.0, "clean"),  # of both: TRSR shows no description
        ("everything", "html", 1.0, "clean"),
        ("everything", "html", 1.0, "clean"),
    ]
    for noisy, _ in found[2:]:
        items = noisy.dataset_of(SummaryAndDescription()).items
        assert items["summary"].tolist() == [f"of {text}" for text in place.dataset.items["description"]]
        assert items["description"].str.contains("<").all()
    assert read == [place.dataset.items["description"].tolist()]


def test_descriptions_that_stand_in_for_images_stay_clean_unless_noise_is_everywhere(workspace, tiny_llm):
    dataset = workspace.dataset
    kept = np.arange(dataset.n_items) > 0
    place = on_toyshop(tiny_llm)
    place.__dict__["dataset"] = with_images(dataset, KeptImages(source=dataset.images, kept=kept))
    only = {"methods": ("illmrec",), "kinds": ("html",), "levels": (1.0,)}
    assert named(plan(place, **only)) == [("illmrec",)]
    noise = ("html", 1.0, "")
    assert named(plan(place, reaches=("everything",), **only))[1:] == [("illmrec", "everything", *noise)]
    both = f"{__name__}:ImageAndDescription"
    noisy = with_texts(dataset, {"description": ["other", *dataset.items["description"][1:]]})
    elsewhere = with_texts(dataset, {"description": [*dataset.items["description"][:-1], "other"]})
    assert not changes_prompts(ImageAndDescription(), place.dataset, noisy)
    assert changes_prompts(ImageAndDescription(), place.dataset, elsewhere)
    assert changes_prompts(FullDescription(), place.dataset, noisy)
    assert not changes_prompts(ImageRepresentation(), place.dataset, elsewhere)
    assert named(plan(place, **{**only, "methods": (both,)}))[1:] == [(both, "prompt", *noise)]


def test_noise_in_prompts_reaches_neither_the_questions_nor_the_features(workspace, monkeypatch):
    places = Places(workspace, seed=5)
    change = Change(noise="boilerplate", level=0.5, reach="prompt", summaries=None)
    place = places.get(change)
    assert isinstance(place, NoisyPrompts) and places.get(change) is place
    items = workspace.dataset.items
    expected = noisy_descriptions(
        items["description"], items["item_id"], kind="boilerplate", level=0.5, seed=5
    )
    assert place.dataset.items["description"].tolist() == expected != items["description"].tolist()
    pd.testing.assert_frame_equal(
        place.dataset.items.drop(columns="description"), items.drop(columns="description")
    )
    assert place.dataset.fingerprint != workspace.dataset.fingerprint
    assert place.split.dataset is workspace.dataset
    assert place.backbone is workspace.backbone
    tables = ({"text": object()}, np.ones(3, dtype=bool))
    monkeypatch.setattr(workspace, "features", lambda names, *, seed: (tables, names, seed))
    assert place.features(["text"], seed=7) == (tables, ["text"], 7)
    everything = places.get(Change(noise="boilerplate", level=0.5, reach="everything", summaries=None))
    assert everything.split.dataset.items["description"].tolist() == expected
    assert everything.dataset.fingerprint == place.dataset.fingerprint
    assert everything.variant != place.variant


def test_a_level_that_changes_no_sentence_is_the_plain_cell(workspace):
    assert named(plan(workspace, methods=("full-description",), levels=(1e-9,))) == [("full-description",)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--levels", "0,1.5"], "--levels"),
        (["--levels", ""], "--levels"),
        (["--kinds", "typos"], "--kinds"),
        (["--kinds", ""], "--kinds: give at least one"),
        (["--reach", ""], "--reach: give at least one"),
        (["--summaries", "none"], "--summaries"),
        (["--methods", "sasrec"], "--methods sasrec"),
        (["--methods", "tallrek"], "did you mean 'tallrec'"),
    ],
)
def test_bad_options_are_one_line(arguments, expected, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["--preset", "smoke", "--no-progress", "--no-report", "--out", str(out)]
    assert run(robustness.main, prog="bench", args=[*common, *arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not out.exists()


def test_data_without_descriptions_say_which_column_and_what_still_runs(tmp_path, capsys):
    items = [f"i{number}" for number in range(8)]
    pd.DataFrame({"item_id": items, "title": items}).to_csv(tmp_path / "items.csv", index=False)
    interactions = {"user_id": np.repeat(items, 8), "item_id": items * 8, "timestamp": range(64)}
    pd.DataFrame(interactions).to_csv(tmp_path / "interactions.csv", index=False)
    common = ["--preset", "smoke", "--no-progress", "--no-report", "--out", str(tmp_path / "out")]
    assert (
        run(robustness.main, prog="bench", args=[*common, "--dataset", f"folder:{tmp_path}", "--levels", "1"])
        == 2
    )
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and "column 'description'" in error[0] and "still run" in error[0]


def made(
    store: Store, method: str, *, ndcg_rank: int, noise="", level=0.0, reach="", summaries="", seed=0, epochs=3,
    summarizer: str | None = None,
) -> Record:  # fmt: skip
    """Store an accuracy cell as bench.harness.accuracy does; every user's rank is the same."""
    dataset = {"name": "toys", "fingerprint": "f1"}
    if noise or summaries:
        variant = {"noise": noise, "level": level, "reach": reach, "summaries": summaries, "noise_seed": seed}
        dataset = {
            "name": "toys",
            "fingerprint": f"{noise}{level}",
            "variant": {"kind": KIND, "of": "f1", **variant},
        }
    config = {
        "method": method, "seed": seed, "dataset": dataset, "risa": True, "features": ["image", "cf", "text"],
        "evaluation": {"users": None, "negatives": 100, "part": "test"},
        "representation": f"package:{method}", "llm": {"name": "tiny", "layers": 2},
        "history_length": 10, "context": None, "training": {"epochs": epochs},
    } | ({"summarizer": summarizer} if method == "trsr" else {})  # fmt: skip
    ranks = pd.DataFrame({"user_id": ["a", "b"], "rank_sampled": ndcg_rank, "rank_full": ndcg_rank + 1})
    cell = Cell(experiment="accuracy", version=2, config=config, method=method, seed=seed, dataset={})
    results = {
        "users": 2,
        "sampled": summarise(ranks["rank_sampled"]),
        "full": summarise(ranks["rank_full"]),
        "prompt": {"tokens": 100.0 + ndcg_rank, "dropped_items": 0.5, "dropped_tokens": 7.5},
    }
    return store.write(cell, results, {"ranks": ranks}, seconds=1)


def lines(table: pd.DataFrame) -> dict[tuple[str, ...], dict[float, float]]:
    """Per method, reach, noise and summaries: 1 / MRR, which is the rank, by level."""
    sampled = table[table["candidates"] == "sampled"]
    return {
        keys: {float(level): round(float(1 / value)) for level, value in rows[["level", "mrr"]].values}
        for keys, rows in sampled.groupby(["method", "reach", "noise", "summaries"], sort=False)
    }


def test_lines_start_at_the_data_as_they_are_and_end_at_the_title(tmp_path):
    store = Store(tmp_path)
    for rank, method in enumerate((*METHODS, "title"), start=1):
        made(store, method, ndcg_rank=rank)
    made(store, "full-description", ndcg_rank=11, noise="html", level=0.5, reach="prompt")
    made(store, "full-description", ndcg_rank=12, noise="missing", level=0.5, reach="prompt")
    made(store, "illmrec", ndcg_rank=13, noise="missing", level=0.5, reach="everything")
    made(store, "title", ndcg_rank=14, noise="missing", level=1.0, reach="everything")
    made(
        store, "trsr", ndcg_rank=15, noise="html", level=1.0, reach="prompt", summaries="rewritten",
        summarizer="llm",
    )  # fmt: skip
    # Another cell of illmrec, trained otherwise, must not be mixed in.
    made(store, "illmrec", ndcg_rank=30, epochs=9)
    table = frame(store.records(), store)
    assert tuple(table.columns) == COLUMNS
    assert lines(table) == {
        ("full-description", "", "", ""): {0.0: 3},
        ("full-description", "everything", "missing", ""): {0.0: 3, 1.0: 14},
        ("full-description", "prompt", "html", ""): {0.0: 3, 0.5: 11},
        ("full-description", "prompt", "missing", ""): {0.0: 3, 0.5: 12, 1.0: 5},
        ("illmrec", "", "", ""): {0.0: 4},
        ("illmrec", "everything", "missing", ""): {0.0: 4, 0.5: 13},
        ("tallrec", "", "", ""): {0.0: 1},
        ("title", "", "", ""): {0.0: 5},
        ("title", "everything", "missing", ""): {0.0: 5, 1.0: 14},
        ("trsr", "", "", "clean"): {0.0: 2},
        # The summaries of the plain cell came with the data: they are not where a line of rewritten ones starts.
        ("trsr", "prompt", "html", "rewritten"): {1.0: 15},
    }
    made(store, "trsr", ndcg_rank=16, summaries="rewritten", summarizer="llm")
    assert lines(frame(store.records(), store))["trsr", "prompt", "html", "rewritten"] == {0.0: 16, 1.0: 15}
    row = table.query("noise == 'html' and level == 0.5 and candidates == 'full'").iloc[0]
    assert (row["mrr"], row["prompt_tokens"], row["dropped_items"]) == (pytest.approx(1 / 12), 111.0, 0.5)
    assert (row["dataset"], row["fingerprint"]) == ("toys", "f1")


def test_summaries_that_the_llm_wrote_anyway_start_the_line(tmp_path):
    store = Store(tmp_path)
    made(store, "trsr", ndcg_rank=2, summarizer="llm")
    noisy = {"noise": "html", "level": 1.0, "reach": "prompt", "summaries": "rewritten"}
    made(store, "trsr", ndcg_rank=9, summarizer="llm", **noisy)
    assert lines(frame(store.records(), store)) == {
        ("trsr", "", "", "clean"): {0.0: 2},
        ("trsr", "prompt", "html", "rewritten"): {0.0: 2, 1.0: 9},
    }


def test_without_noise_the_table_needs_the_full_description_and_another(tmp_path):
    store = Store(tmp_path)
    made(store, "tallrec", ndcg_rank=1)
    made(store, "illmrec", ndcg_rank=2)
    assert frame(store.records(), store).empty
    made(store, "full-description", ndcg_rank=3)
    assert set(frame(store.records(), store)["method"]) == {"tallrec", "illmrec", "full-description"}


@pytest.mark.slow
def test_end_to_end_and_a_second_run_trains_nothing(tmp_path, tiny_llm, tiny_encoders):
    pytest.importorskip("recbole", reason="CF features")
    limits = "--layers 1 --history-length 3 --eval-users 8 --validation-users 0 --batch-size 4 --max-steps 1"
    arguments = [
        *("--preset", "smoke", "--users", "60", "--min-interactions", "1", "--reach", "prompt,everything"),
        *("--llm", str(tiny_llm), *tiny_encoders, "--no-progress", "--no-report", "--out", str(tmp_path)),
        *(*limits.split(), "--methods", "full-description,illmrec", "--kinds", "missing", "--levels", "0.5"),
    ]
    assert run(robustness.main, prog="bench.robustness", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "robustness.csv", keep_default_na=False)
    sampled = table[table["candidates"] == "sampled"].set_index(["method", "reach", "noise", "level"])
    assert sampled.index.is_unique and list(sampled.index) == [
        ("full-description", "", "", 0.0),
        ("full-description", "everything", "missing", 0.0),
        ("full-description", "everything", "missing", 0.5),
        ("full-description", "prompt", "missing", 0.0),
        ("full-description", "prompt", "missing", 0.5),
        ("illmrec", "", "", 0.0),
        ("illmrec", "everything", "missing", 0.0),
        ("illmrec", "everything", "missing", 0.5),
    ]
    tokens = sampled["prompt_tokens"]
    shown = tokens.loc["full-description"]
    assert shown["prompt", "missing", 0.5] < 0.7 * shown["prompt", "missing", 0.0]
    assert shown["everything", "missing", 0.5] == shown["prompt", "missing", 0.5]
    assert tokens.loc["illmrec"].nunique() == 1  # pictures say the same with any noise
    assert len(Store(tmp_path).records("accuracy")) == 5

    def written() -> dict[Path, int]:
        files = [path for path in (tmp_path / "store").rglob("*.*") if path.suffix != ".lock"]
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    assert run(robustness.main, prog="bench.robustness", args=arguments) == 0
    assert written() == before
