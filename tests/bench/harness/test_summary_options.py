"""Who writes summaries, and how long they are: options of experiments, keys of their cells, part of their results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chat_server import completion, refusal, serving

from bench import token_cost
from bench.harness.accuracy import accuracy_cell
from bench.harness.settings import Settings
from bench.harness.timing import Timing, efficiency_cell
from bench.harness.workspace import Workspace
from bench.suite.estimate import Estimate
from bench.suite.probe import item_tokens
from bench.token_cost import token_cell
from illmrec.command_line import run
from illmrec.errors import InputError

WORDS = 130


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve items: four with a long description, four with a short one, two with none, two with a summary."""
    data = tmp_path_factory.mktemp("data")
    kinds = [{"description": "word " * WORDS}] * 4 + [{"description": "A short text."}] * 4 + [{}] * 2
    kinds += [{"summary": "Given.", "description": "word " * WORDS}] * 2
    items = [
        {"item_id": f"i{n}", "title": f"Item {n}", "brand": "Acme", **kind} for n, kind in enumerate(kinds)
    ]
    pd.DataFrame(items).fillna("").to_csv(data / "items.csv", index=False)
    order = [f"i{(user + step) % 12}" for user in range(20) for step in range(6)]
    users = np.repeat([f"u{number}" for number in range(20)], 6)
    table = pd.DataFrame({"user_id": users, "item_id": order, "timestamp": range(len(order))})
    table.to_csv(data / "interactions.csv", index=False)
    return data


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SUMMARIZER_API_KEY", raising=False)
    yield


def settings(folder: Path, tiny_llm: Path, tmp_path: Path, **given: Any) -> Settings:
    common = {"preset": "smoke", "llm": str(tiny_llm), "layers": 1, "dtype": "float32", "progress": False}
    return Settings(dataset=f"folder:{folder}", out=tmp_path, **{**common, **given}).resolved()


def test_an_endpoint_writes_what_an_experiment_lacks(
    folder: Path, tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--preset",
        "smoke",
        "--llm",
        str(tiny_llm),
        "--dataset",
        f"folder:{folder}",
        "--no-progress",
    ]
    arguments += ["--no-report", "--methods", "trsr", "--out", str(tmp_path), "--summarizer-model", "small"]
    with serving(lambda *_: completion("A thing of red.")) as server:
        assert run(token_cost.main, prog="bench", args=[*arguments, "--summarizer", server.url]) == 0
        assert len(server.requests) == 4
        # Stored, and cached even where it is computed anew.
        again = [*arguments, "--summarizer", server.url, "--overwrite", "always"]
        assert run(token_cost.main, prog="bench", args=again) == 0 and len(server.requests) == 4
    said = capsys.readouterr().err
    assert "summaries of 12 items: 2 came with the data, 4 short descriptions kept, 4 generated" in said
    with serving(lambda *_: refusal(401, "no")) as server:
        assert run(token_cost.main, prog="bench", args=[*arguments, "--summarizer", server.url]) == 2
    assert "SUMMARIZER_API_KEY" in capsys.readouterr().err


def test_what_the_workspace_reports(folder: Path, tiny_llm: Path, tmp_path: Path) -> None:
    with serving(lambda *_: completion("A thing of red.")) as server:
        given = settings(folder, tiny_llm, tmp_path, summarizer=server.url, summarizer_model="small")
        workspace = Workspace(given)
        texts = workspace.summarised.items["summary"].tolist()
        report = workspace.summary_report
    long, short, bare = (
        ["A thing of red."] * 4,
        ["Acme. A short text."] * 4,
        ["Item 8 (Acme).", "Item 9 (Acme)."],
    )
    assert texts == [*long, *short, *bare, "Given.", "Given."]
    counts = (report.items, report.given, report.kept, report.generated, report.attributes_only, report.cut)
    assert counts == (12, 2, 4, 4, 2, 0)
    tokens = [len(workspace.backbone.tokenizer(text)["input_ids"]) for text in texts]
    assert report.mean_tokens == pytest.approx(np.mean(tokens)) and report.seconds > 0
    assert report.described()["summarizer"] == f"small at {server.url.removeprefix('http://')}"
    # Changed items that show the same summaries have the same report, and those that are to be written their own.
    clean = replace(workspace.dataset, items=workspace.summarised.items)
    assert workspace.derive(variant={"kind": "x"}, dataset=clean).summary_report == report


def test_limits_and_summariser_are_part_of_the_key(folder: Path, tiny_llm: Path, tmp_path: Path) -> None:
    def keys(method: str = "trsr", **given: Any) -> tuple[str, ...]:
        workspace = Workspace(settings(folder, tiny_llm, tmp_path, **given))
        users, timing = np.arange(2), Timing(group_users=2, batch_users=2, repeats=1)
        return (
            accuracy_cell(workspace, method, seed=0, features=("image", "text")).key,
            token_cell(workspace, method).key,
            efficiency_cell(workspace, method, 3, users, timing=timing).key,
        )

    server = {"summarizer": "http://h/v1", "summarizer_model": "m"}
    others = [
        keys(),
        keys(summary_words=100),
        keys(summary_tokens=150),
        keys(summarizer_context=1000),
        keys(**server),
        keys(**{**server, "summarizer_model": "n"}),
    ]
    for kind in zip(*others, strict=True):
        assert len(set(kind)) == len(others)
    # How it is reached is no part of it, and what shows no summary does not depend on who would write it.
    assert keys(**server, summarizer_timeout=1.0, summarizer_requests=2) == others[4]
    assert keys("title", **server, summary_words=100) == keys("title")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"summarizer": "http://h/v1"}, "give both"),
        ({"summarizer_model": "m"}, "give both"),
        ({"summarizer": "ftp://h", "summarizer_model": "m"}, "not an address"),
        ({"summary_words": 0}, "--summary-words 0"),
        ({"summary_tokens": 50}, "--summary-tokens 50: too few"),
        ({"summarizer_context": 0}, "--summarizer-context 0"),
    ],
)
def test_options_that_cannot_be_used(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Settings(**given)


def test_summaries_to_be_written_are_estimated(folder: Path, tiny_llm: Path, tmp_path: Path) -> None:
    found = {
        words: item_tokens(Workspace(settings(folder, tiny_llm, tmp_path, summary_words=words)), "trsr")
        for words in (10, 120)
    }
    # Ten of the twelve items lack one; of those, four have long descriptions.
    word = 4 * (120 - 10) / 12
    assert word <= found[120] - found[10] <= 6 * word


def test_the_time_of_writing_is_estimated(folder: Path, tiny_llm: Path, tmp_path: Path) -> None:
    measured = SimpleNamespace(depth=3.0, read=1000.0)

    def seconds(**given: Any) -> float:
        workspace = Workspace(settings(folder, tiny_llm, tmp_path, **given))
        return Estimate._summaries(SimpleNamespace(settings=workspace.settings, measured=measured), workspace)

    assert seconds(summary_words=WORDS) == 0.0  # nothing is longer
    given = Workspace(settings(folder, tiny_llm, tmp_path))
    given.__dict__["dataset"] = replace(given.dataset, items=given.dataset.items.assign(summary="Given."))
    assert Estimate._summaries(SimpleNamespace(settings=given.settings, measured=measured), given) == 0.0
    assert seconds() > 0 and seconds(summary_words=60) < seconds()
    server = {"summarizer": "http://h/v1", "summarizer_model": "m"}
    assert seconds(**server, summarizer_requests=2) == pytest.approx(
        4 * seconds(**server, summarizer_requests=8)
    )
