"""Scores made elsewhere under the shared protocol, and what is said of recommended lists beside accuracy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from vision_models import save_model

from bench import comparison
from bench.frames.beyond_accuracy import COLUMNS
from bench.harness.accuracy import accuracy_cell
from bench.harness.floors import fitted_floor
from bench.harness.methods import METHODS, every_method
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.protocol.lists import intra_list_similarity
from bench.protocol.metrics import METRICS
from bench.store.cell import Record
from bench.store.store import Store
from illmrec.command_line import run

SIZE = {"preset": "smoke", "users": 60, "items": 60, "min_interactions": 1, "negatives": 20}
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
def workspace() -> Workspace:
    return Workspace(Settings(**SIZE).resolved())


def compare(out: Path, *arguments: str) -> int:
    return run(comparison.main, prog="bench.comparison", args=[*SMALL, "--out", str(out), *arguments])


def popularity_scores(workspace: Workspace) -> pd.DataFrame:
    """Return the full scores of popularity, as another library would write them."""
    dataset = workspace.dataset
    method = fitted_floor(accuracy_cell(workspace, "popularity", seed=0), workspace)
    scores = method.score(workspace.split.histories("test"))
    items = dataset.items["item_id"].to_numpy()
    return pd.DataFrame(
        {
            "user_id": np.repeat(dataset.user_ids, dataset.n_items),
            "item_id": np.tile(items, dataset.n_users),
            "score": scores.ravel(),
        }
    )


def stored(out: Path) -> dict[str, Record]:
    return {record.method: record for record in Store(out).records("accuracy")}


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_scores_of_a_method_in_a_file_have_its_ranks(
    workspace: Workspace, tmp_path: Path, ending: str
) -> None:
    table, path = (
        popularity_scores(workspace).sample(frac=1, random_state=0),
        tmp_path / f"my-own.v2.{ending}",
    )
    if ending == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        (table.to_parquet if ending == "parquet" else table.to_csv)(path, index=False)
    assert compare(tmp_path, "--methods", "popularity", "--scores", str(path)) == 0
    records, store = stored(tmp_path), Store(tmp_path)
    assert set(records) == {"popularity", "my-own.v2"}
    for name in ("ranks", "lists"):
        frames = [store.read_frame(record, name) for record in records.values()]
        pd.testing.assert_frame_equal(*frames)
    results = pd.read_csv(tmp_path / "tables" / "comparison.csv").drop(columns="method")
    halves = [results.iloc[:2], results.iloc[2:]]
    pd.testing.assert_frame_equal(*(half.reset_index(drop=True) for half in halves))
    assert records["my-own.v2"].results["scores"]["users_without_rows"] == 0
    assert str(tmp_path) not in str(records["my-own.v2"].config)


def test_a_short_list_is_ranked_as_far_as_it_goes(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, dataset = workspace.split, workspace.dataset
    items, targets = dataset.items["item_id"].to_numpy(), split.targets("test")
    rows = []
    for user in range(20):  # the target in the third place of six, behind it what the user has already
        history = set(split.history(user, "test").tolist()) | {int(targets[user])}
        others = [item for item in range(dataset.n_items) if item not in history][:3]
        listed = [*others[:2], targets[user], others[2], split.history(user, "test")[0]]
        rows += [(dataset.user_ids[user], items[item], place) for place, item in enumerate(listed, start=1)]
    rows += [("nobody", items[0], 1), (dataset.user_ids[0], "nothing", 9), ("nobody", "nothing", 2)]
    pd.DataFrame(rows, columns=["user", "item", "rank"]).to_csv(tmp_path / "lists.csv", index=False)
    arguments = ["--methods", "random", "--scores", str(tmp_path / "lists.csv"), "--seeds", "0,1"]
    assert compare(tmp_path, *arguments) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "lists.csv" in line]
    assert len(said) == 1 and "100 scores are read" in said[0]
    assert "3 rows are ignored (unknown users: 1, unknown items: 1)" in said[0]
    assert "40 of 60 tested users have no row: their target is ranked last" in said[0]
    store, record = Store(tmp_path), stored(tmp_path)["lists"]
    assert record.results["scores"] == {
        "rows": 100, "ignored_rows": 3, "unknown_users": 1, "unknown_items": 1, "users_without_rows": 40,
    }  # fmt: skip
    ranks, lists = (store.read_frame(record, name) for name in ("ranks", "lists"))
    repeats = [int(targets[user]) in split.history(user, "test") for user in range(60)]
    assert (ranks["rank_full"][:20] == 3).all() and (ranks["rank_sampled"][20:] == 21).all()
    others = [60 - len(set(split.history(user, "test").tolist())) for user in range(60)]
    assert ranks["rank_full"][20:].tolist() == [n + r for n, r in zip(others[20:], repeats[20:], strict=True)]
    counts = (lists.to_numpy() >= 0).sum(axis=1)
    assert counts[20:].max() == 0 and set(counts[:20]) <= {3, 4}
    assert record.results["lists"]["coverage"] == len({*lists.to_numpy().ravel().tolist()} - {-1}) / 60


def test_an_edited_file_is_another_cell_and_a_renamed_folder_is_not(
    workspace: Workspace, tmp_path: Path
) -> None:
    table = popularity_scores(workspace)

    def cells(folder: str, scores: pd.DataFrame) -> int:
        (tmp_path / folder).mkdir(exist_ok=True)
        scores.to_csv(tmp_path / folder / "mine.csv", index=False)
        path = str(tmp_path / folder / "mine.csv")
        assert compare(tmp_path, "--methods", "popularity", "--scores", path) == 0
        return len(Store(tmp_path).records("accuracy"))

    assert cells("a", table) == 2 and cells("b", table) == 2
    assert cells("a", table.assign(score=-table["score"])) == 3


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("popularity.csv", ["--methods", "random"], "there is a method popularity already; rename the file"),
        ("SASRec.csv", ["--methods", "random"], "there is a method sasrec already; rename the file"),
        ("my scores.csv", ["--methods", "random"], "letters, digits, '.', '_' and '-'; rename it"),
        ("mine.txt", ["--methods", "random"], "scores are read from .parquet, .csv, .jsonl"),
        ("mine.csv", ["--methods", ""], "--scores: nothing to compare it with; name methods as well"),
        ("mine.csv", ["--methods", "random,mine"], "unknown method 'mine'"),
        ("empty.csv", ["--methods", "random"], "empty.csv: the file is empty"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    refusal, tmp_path: Path, name: str, arguments: list[str], expected: str
) -> None:
    content = "" if name == "empty.csv" else "user_id,item_id,score\nuser-00000,toy-00000,1\n"
    (tmp_path / name).write_text(content)
    assert expected in refusal(comparison.main, [*arguments, "--scores", str(tmp_path / name)])


def test_files_of_one_name_and_none_at_all_are_refused(refusal, tmp_path: Path) -> None:
    for path in (tmp_path / "mine.csv", tmp_path / "mine.parquet"):
        path.touch()
    both = f"{tmp_path / 'mine.csv'},{tmp_path / 'mine.parquet'}"
    assert "have one name; rename one of them" in refusal(comparison.main, ["--scores", both])
    assert "nowhere.csv: cannot be read" in refusal(
        comparison.main, ["--scores", str(tmp_path / "nowhere.csv")]
    )
    assert "--methods: give at least one" in refusal(comparison.main, ["--methods", ""])
    for seed in (-1, 1 << 32, 10**20):
        assert f"--seeds {seed}: must be from 0 to 4294967295" in refusal(
            comparison.main, [f"--seeds={seed}"]
        )


def test_two_files_are_compared_with_each_other(workspace: Workspace, tmp_path: Path) -> None:
    table = popularity_scores(workspace)
    paths = [tmp_path / "up.csv", tmp_path / "down.parquet"]
    table.to_csv(paths[0], index=False)
    table.assign(score=-table["score"]).to_parquet(paths[1])
    assert compare(tmp_path, "--methods", "", "--scores", ",".join(map(str, paths))) == 0
    found = pd.read_csv(tmp_path / "tables" / "comparison.csv").groupby("method")["ndcg@10"].mean()
    assert found["up"] > found["down"]
    estimates = pd.read_csv(tmp_path / "tables" / "comparison_estimated.csv").set_index(["method", "metric"])
    assert len(estimates) == 2 * len(METRICS)
    for method, record in stored(tmp_path).items():
        for kind in ("sampled", "estimated", "full"):
            expected = pytest.approx(record.results[kind]["ndcg@10"], abs=1e-6)
            assert estimates.at[(method, "ndcg@10"), kind] == expected
    off = (estimates["estimated"] - estimates["full"]).abs()
    assert off.mean() < 0.5 * (estimates["sampled"] - estimates["full"]).abs().mean()


def test_lists_are_compared_by_the_features_that_a_method_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "vision", "clip")
    encoders = ["--vision", str(tmp_path / "vision"), "--features", "image"]
    assert compare(tmp_path, "--methods", "popularity,random", *encoders) == 0
    said = capsys.readouterr().err
    assert "no compared method scores items by image or text features" in said
    table = pd.read_csv(tmp_path / "tables" / "beyond_accuracy.csv")
    assert tuple(table.columns) == COLUMNS and table[["similarity_image", "similarity_text"]].isna().all(
        axis=None
    )
    assert not Store(tmp_path).records("list_similarity")

    arguments = ["--methods", "popularity,random,content-knn", *encoders]
    assert compare(tmp_path, *arguments) == 0
    assert "by text features: how alike" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "tables" / "beyond_accuracy.csv").set_index("method")
    assert table["similarity_text"].isna().all() and table["similarity_image"].between(-1, 1).all()
    assert table.loc["random", "coverage"] > table.loc["popularity", "coverage"]
    assert table.loc["popularity", "popularity"] > max(table.loc["random", "popularity"], 1)
    assert table.loc["popularity", "novelty"] < table.loc["random", "novelty"]
    store = Store(tmp_path)
    place = Workspace(Settings(**SIZE, vision=str(tmp_path / "vision"), progress=False).resolved())
    values = place.features(["image"], seed=0)[0]["image"].values
    for method, record in stored(tmp_path).items():
        lists = store.read_frame(record, "lists").to_numpy()
        expected = intra_list_similarity(lists, {"image": values})["image"]
        assert table.loc[method, "similarity_image"] == pytest.approx(expected, abs=1e-5)

    monkeypatch.setattr(Workspace, "features", lambda *given, **named: pytest.fail("features were asked for"))
    assert compare(tmp_path, *arguments) == 0
    again = pd.read_csv(tmp_path / "tables" / "beyond_accuracy.csv").set_index("method")
    pd.testing.assert_frame_equal(again, table)


def test_a_method_whose_scores_cannot_be_ranked_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(cell: Any, workspace: Workspace) -> Any:
        floor = fitted_floor(cell, workspace)
        wrong = {
            "popularity": lambda scores: scores * np.float32(np.nan),
            "random": lambda scores: scores[:, 1:],
        }
        if cell.method not in wrong:
            return floor
        return SimpleNamespace(score=lambda histories: wrong[cell.method](floor.score(histories)))

    monkeypatch.setattr("bench.harness.accuracy.fitted_floor", broken)
    assert compare(tmp_path, "--methods", "popularity,random,item-knn,sequential-rules") == 1
    assert set(stored(tmp_path)) == {"item-knn", "sequential-rules"}
    said = capsys.readouterr().err
    assert "Traceback" not in said
    failed = [line for line in said.splitlines() if "failed: " in line]
    assert len(failed) == 2
    assert "popularity: the score of user " in failed[0] and "is nan, which is not finite" in failed[0]
    assert "random: score returned (" in failed[1]
    monkeypatch.undo()
    assert compare(tmp_path, "--methods", "popularity,random,item-knn,sequential-rules") == 0
    assert set(stored(tmp_path)) == {"popularity", "random", "item-knn", "sequential-rules"}


def test_all_is_every_method_that_the_llm_can_run():
    assert set(METHODS) - set(every_method("smollm2-135m")) == {"mllm"}
    assert every_method("mllm:some/model") == METHODS
