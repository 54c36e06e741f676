"""The experiments as a user runs them: real encoders, a shortened real LLM, small generated data."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_summaries import as_summaries
from PIL import Image
from programs import start_program

from bench import ablation, comparison, efficiency
from bench.frames import ablation as ablation_frame
from bench.frames import efficiency as efficiency_frame
from bench.harness import workspace
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError

pytest.importorskip("recbole", reason="rows c to e need CF features")

SMALL = [
    *("--preset", "smoke", "--max-users", "60", "--min-interactions", "1"),
    *("--max-steps", "2", "--no-progress", "--no-report"),
]


def ablate(out: Path, *arguments: str) -> int:
    return run(ablation.main, prog="bench.ablation", args=[*SMALL, "--out", str(out), *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all rows of the ablation."""
    out = tmp_path_factory.mktemp("ablation")
    assert ablate(out, "--rows", "a-e") == 0
    return out


def stored(out: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in sorted((out / "store" / "cells").rglob("*.*"))}


@pytest.mark.slow
def test_ablation_gives_five_rows_with_ranks_behind_them(finished):
    table = pd.read_csv(finished / "tables" / "ablation.csv")
    assert tuple(table.columns) == ablation_frame.COLUMNS
    sampled = table[table["candidates"] == "sampled"]
    assert sampled["row"].tolist() == list("abcde")
    assert sampled["risa"].tolist() == [False, True, True, True, True]
    assert sampled["cf"].tolist() == [False, False, True, True, True]
    store = Store(finished)
    for record in store.records("accuracy"):
        ranks = store.read_frame(record, "ranks")
        for kind in ("sampled", "full"):
            rank = ranks[f"rank_{kind}"].to_numpy()
            expected = np.where(rank <= 10, 1 / np.log2(1 + rank), 0).mean()
            assert record.results[kind]["ndcg@10"] == pytest.approx(expected)
            assert record.results[kind]["hit@5"] == pytest.approx((rank <= 5).mean())
        assert ranks["rank_sampled"].between(1, 101).all()


@pytest.mark.slow
def test_a_second_run_recomputes_nothing(finished):
    before = stored(finished)
    assert ablate(finished, "--rows", "a,c-e") == 0
    assert stored(finished) == before
    assert pd.read_csv(finished / "tables" / "ablation.csv")["row"].unique().tolist() == list("acde")
    assert ablate(finished, "--rows", "b", "--overwrite", "never") == 2


@pytest.mark.slow
def test_row_e_is_illmrec_of_the_comparison_and_floor_lines_cost_nothing(finished):
    before = stored(finished)
    arguments = [*SMALL, "--out", str(finished), "--methods", "illmrec,popularity,random,title"]
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 0
    table = (
        pd.read_csv(finished / "tables" / "comparison.csv")
        .query("candidates == 'sampled'")
        .set_index("method")
    )
    ablated = Store(finished).table("accuracy")
    row_e = ablated[
        ablated["config.features"].map(lambda f: f == ["image", "cf", "text"] if f is not np.nan else False)
    ]
    assert table.loc["illmrec", "ndcg@10"] == pytest.approx(
        row_e.query("method == 'illmrec'")["results.sampled.ndcg@10"].item(), abs=1e-5
    )
    assert before.items() <= stored(finished).items()
    assert table.loc["popularity", "ndcg@10"] > table.loc["random", "ndcg@10"]
    before = stored(finished)
    arguments[arguments.index("--methods") + 1] = "illmrec"
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--features", "image"]) == 0
    new = {path for path in stored(finished).keys() - before.keys() if "/accuracy/" in path}
    assert not new and before.items() <= stored(finished).items(), "image alone is row b"


@pytest.mark.slow
def test_a_killed_run_completes_with_the_same_numbers(finished, tmp_path):
    arguments = ["--rows", "a,e", *SMALL, "--out", str(tmp_path)]
    process = start_program("bench.ablation", arguments, folder=tmp_path, output=tmp_path)
    cells = tmp_path / "store" / "cells" / "accuracy"
    deadline = time.monotonic() + 240
    while not list(cells.glob("*/cell.json")) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    first = stored(tmp_path)
    assert len(list(cells.glob("*/cell.json"))) == 1
    assert ablate(tmp_path, "--rows", "a,e") == 0
    assert first.items() <= stored(tmp_path).items()
    columns = ["row", "candidates", "hit@5", "ndcg@5", "hit@10", "ndcg@10"]
    again = pd.read_csv(tmp_path / "tables" / "ablation.csv")[columns].set_index(["row", "candidates"])
    assert ablate(finished, "--rows", "a,e") == 0
    whole = pd.read_csv(finished / "tables" / "ablation.csv")[columns].set_index(["row", "candidates"])
    pd.testing.assert_frame_equal(again, whole)


@pytest.mark.slow
def test_efficiency_measures_every_method_on_the_same_users(tmp_path):
    arguments = [
        *("--preset", "smoke", "--no-progress", "--no-report", "--out", str(tmp_path)),
        *("--lengths", "2,6", "--group-users", "3", "--batch-users", "2", "--repeats", "2"),
        *("--methods", "illmrec,tallrec,trsr"),
    ]
    assert run(efficiency.main, prog="bench.efficiency", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "efficiency.csv")
    assert tuple(table.columns) == efficiency_frame.COLUMNS
    assert len(table) == 6 and (table["users"] == 3).all()
    long = table[table["history_length"] == 6].set_index("method")
    assert long.loc["trsr", "prompt_tokens"] > long.loc["tallrec", "prompt_tokens"]
    assert long.loc["trsr", "model_gflops"] > long.loc["illmrec", "model_gflops"]
    assert table["utilisation"].between(0, 1.5).all() and (table["peak_memory_mb"] > 0).all()
    before = stored(tmp_path)
    assert run(efficiency.main, prog="bench.efficiency", args=arguments) == 0
    assert stored(tmp_path) == before
    users = {tuple(record.config["users"]) for record in Store(tmp_path).records("efficiency")}
    assert len(users) == 1
    assert (table["latency_ms_low"] <= table["latency_ms_median"]).all() and table["session"].nunique() == 1


@pytest.mark.slow
def test_efficiency_writes_the_summaries_that_data_lack(tmp_path, monkeypatch, tiny_llm):
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    items = [f"item{number}" for number in range(20)]
    text = pd.DataFrame({"item_id": items, "title": items, "description": "red mug " * 30})
    text.to_csv(data / "items.csv", index=False)
    for item in items:
        Image.new("RGB", (16, 16), "red").save(data / "images" / f"{item}.png")
    order = [items[(user + step) % len(items)] for user in range(20) for step in range(6)]
    users = np.repeat([f"user{number}" for number in range(20)], 6)
    interactions = pd.DataFrame({"user_id": users, "item_id": order, "timestamp": range(len(order))})
    interactions.to_csv(data / "interactions.csv", index=False)
    written = []

    def summaries(dataset, llm, **options):
        written.append(llm)
        return as_summaries(["a mug"] * dataset.n_items)

    monkeypatch.setattr(workspace, "summaries", summaries)
    arguments = ["--preset", "smoke", "--no-progress", "--no-report", "--out", str(tmp_path / "out")]
    arguments += ["--dataset", f"folder:{data}", "--llm", str(tiny_llm), "--lengths", "3"]
    arguments += ["--group-users", "2", "--repeats", "1", "--methods", "trsr,full-description"]
    assert run(efficiency.main, prog="bench.efficiency", args=arguments) == 0
    tokens = pd.read_csv(tmp_path / "out" / "tables" / "efficiency.csv").set_index("method")[
        "tokens_per_item"
    ]
    assert written == [str(tiny_llm)]
    assert tokens["trsr"] < tokens["full-description"]


@pytest.mark.slow
def test_a_stored_model_recommends_unseen_items(finished, capsys):
    from illmrec import recommend
    from illmrec.recommender import Recommender

    folder = next(path.parent for path in (finished / "store" / "artifacts" / "model").glob("*/model.json"))
    assert run(recommend.main, prog="recommend", args=["--model", str(folder), "--user", "user-00003"]) in (
        0,
        2,
    )
    recommender = Recommender.load(folder)
    user = str(recommender.dataset.user_ids[0])
    history = recommender.history_of(user)
    found = recommender.recommend(history, k=5)
    assert len(found) == 5 and not set(found["item_id"]) & set(history)
    assert found["score"].is_monotonic_decreasing
    scores = recommender.score([recommender.dataset.sequence(0)])[0]
    scores[recommender.dataset.sequence(0)] = -np.inf
    assert recommender.dataset.items["item_id"][int(scores.argmax())] == found["item_id"][0]
    with pytest.raises(InputError, match="unknown item 'nothing'"):
        recommender.recommend(["nothing"])
    with pytest.raises(InputError, match="holds no trained model"):
        Recommender.load(finished)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--rows", "a-f"], "unknown row 'f'"),
        (["--rows", "e-a"], "'e-a' is empty"),
        (["--dataset", "toyshpo"], "did you mean 'toyshop'"),
        (["--dataset", "folder:/nowhere/at/all"], "/nowhere/at/all"),
        (["--llm", "/nowhere/model"], "--llm /nowhere/model"),
        (["--layers", "99"], "--layers 99"),
        (["--context", "9"], "--context 9"),
        (["--seeds", ""], "--seeds"),
        (["--device", "cuda:77"], "--device cuda:77"),
        (["--preset", "huge"], "--preset"),
        (["--max-user", "3"], "--max-users"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, expected, tmp_path, capsys, tiny_llm):
    llm = [] if "--llm" in arguments else ["--llm", str(tiny_llm)]
    layers = [] if "--layers" in arguments else ["--layers", "2"]
    out = tmp_path / "out"
    assert ablate(out, "--rows", "a", *llm, *layers, *arguments) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and expected in error[0]
    assert not list(out.rglob("cell.json"))


def test_unknown_methods_name_the_nearest(tmp_path, capsys):
    arguments = ["--methods", "ilmrec", "--out", str(tmp_path)]
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 2
    assert "did you mean 'illmrec'" in capsys.readouterr().err
    arguments = ["--features", "imag", "--out", str(tmp_path)]
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 2
    assert "--features imag: did you mean 'image'" in capsys.readouterr().err
    arguments = ["--methods", "illmrec-zero", "--out", str(tmp_path)]
    assert run(efficiency.main, prog="bench.efficiency", args=arguments) == 2
    assert "it costs what illmrec costs" in capsys.readouterr().err
    assert run(efficiency.main, prog="bench.efficiency", args=["--methods", "json:Nothing"]) == 2


def test_results_folder_that_cannot_be_written_stops_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert ablate(tmp_path / "file" / "out") == 2
    assert "cannot write" in capsys.readouterr().err


def test_rows_are_read_as_ranges_and_lists():
    assert ablation.parse_rows("a-e") == list("abcde")
    assert ablation.parse_rows("e, a,C-d") == list("acde")


def folder_without_images(tmp_path: Path) -> list[str]:
    items = [f"item{number}" for number in range(120)]
    text = {"item_id": items, "title": items, "category": "mug"}
    pd.DataFrame(text).to_csv(tmp_path / "items.csv", index=False)
    order = [items[(7 * user + step) % len(items)] for user in range(120) for step in range(6)]
    users = np.repeat([f"user{number}" for number in range(120)], 6)
    interactions = pd.DataFrame({"user_id": users, "item_id": order, "timestamp": range(len(order))})
    interactions.to_csv(tmp_path / "interactions.csv", index=False)
    arguments = [*SMALL, "--dataset", f"folder:{tmp_path}", "--layers", "2"]
    return [*arguments, "--out", str(tmp_path / "out"), "--eval-users", "20"]


def test_methods_that_the_data_cannot_support_are_left_out_and_named(tmp_path, capsys, tiny_llm):
    arguments = [*folder_without_images(tmp_path), "--llm", str(tiny_llm), "--features", "text", "--methods"]
    methods = "illmrec,full-description,title,popularity"
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, methods]) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "comparison.csv")
    assert set(table["method"]) == {"title", "popularity"}
    lines = capsys.readouterr().err.splitlines()
    for method, lacking in (("illmrec", "no item has an image"), ("full-description", "no 'description'")):
        assert any(f"left out: {method} " in line and lacking in line for line in lines)
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "full-description"]) == 2
    assert "no 'description'" in capsys.readouterr().err


def test_without_an_image_the_features_that_there_are_are_named(tmp_path, capsys, tiny_llm):
    shared = [*folder_without_images(tmp_path), "--llm", str(tiny_llm)]
    compared = [*shared, "--methods", "illmrec,title,content-knn,popularity"]
    assert run(comparison.main, prog="bench.comparison", args=compared) == 0
    lines = capsys.readouterr().err.splitlines()
    for method, remedy in (
        ("illmrec", "which illmrec shows the LLM; add images or leave it out"),
        ("title", "by which title scores items; add images or give --features cf,text (bench.comparison)"),
        (
            "content-knn",
            "by which content-knn scores items; add images or give --features text (bench.comparison)",
        ),
    ):
        assert any(f"left out: {method} " in line and line.endswith(remedy) for line in lines)
    # The remedy works.
    assert run(comparison.main, prog="bench.comparison", args=[*compared, "--features", "cf,text"]) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "comparison.csv")
    assert set(table["method"]) == {"title", "content-knn", "popularity"}
    capsys.readouterr()
    rows = [*shared, "--methods", "title", "--rows"]
    assert run(ablation.main, prog="bench.ablation", args=[*rows, "a,e"]) == 2
    said = "by which rows (a), (e) score items; row (c) needs none"
    error = capsys.readouterr().err
    assert said in error and "bench.comparison --features cf,text" in error
    assert run(ablation.main, prog="bench.ablation", args=[*rows, "a-e"]) == 0
    assert pd.read_csv(tmp_path / "out" / "tables" / "ablation.csv")["row"].unique().tolist() == ["c"]
