"""Lengths of history that nobody asked for are left out where too few users have them; those asked for are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from noise_features import put_noise
from PIL import Image

from bench import efficiency, sequence_length, serving, tokens_per_item, tradeoff
from bench.harness.settings import Settings
from bench.harness.timing import Timing, user_groups, usual_lengths
from bench.harness.workspace import Workspace
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError

USERS, ITEMS = 40, 30


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Forty users of seven interactions and three of eighteen: tested histories have six items, and seventeen."""
    items = [f"item{number}" for number in range(ITEMS)]
    pd.DataFrame({"item_id": items, "title": items}).to_csv(tmp_path / "items.csv", index=False)
    (tmp_path / "images").mkdir()
    for item in items:
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{item}.png")
    rows = [
        (f"user{user}", items[(7 * user + step) % ITEMS], step)
        for user in range(USERS + 3)
        for step in range(7 if user < USERS else 18)
    ]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table.to_csv(tmp_path / "interactions.csv", index=False)
    return f"folder:{tmp_path}"


@pytest.fixture
def workspace(dataset: str, tiny_llm: Path) -> Workspace:
    settings = Settings(dataset=dataset, min_interactions=1, negatives=5, llm=str(tiny_llm), preset="smoke")
    return Workspace(settings.resolved())


@pytest.fixture
def arguments(dataset: str, tiny_llm: Path, tmp_path: Path) -> list[str]:
    shared = ["--preset", "smoke", "--min-interactions", "1", "--negatives", "5", "--layers", "1"]
    shared += ["--max-steps", "1", "--no-progress", "--no-report"]
    return [*shared, "--dataset", dataset, "--llm", str(tiny_llm), "--out", str(tmp_path / "out")]


def test_lengths_of_the_experiment_are_those_that_enough_users_have(workspace, caplog):
    with caplog.at_level("INFO", logger="bench.harness.timing"):
        assert usual_lengths(workspace, (2, 5, 10, 15, 20), Timing(group_users=4)) == [2, 5]
    assert "left out" in caplog.text and "10, 15, 20; measured are 2, 5" in caplog.text
    assert usual_lengths(workspace, (2, 5, 10, 15, 20), Timing(group_users=3)) == [2, 5, 10, 15]
    assert usual_lengths(workspace, (2, 10), Timing(group_users=3), fewest=3) == [2, 10]
    assert usual_lengths(workspace, (2, 10), Timing(group_users=3), fewest=4) == [2]
    with pytest.raises(
        InputError, match=r"histories of 2,10 items.*; give shorter --lengths or lower --group-users$"
    ):
        usual_lengths(workspace, (2, 10), Timing(group_users=50))
    with pytest.raises(InputError, match=r"histories of 10 items.*lower --min-users$"):
        usual_lengths(workspace, (2, 10), Timing(group_users=3), least=2, fewest=4)


def test_lengths_that_were_asked_for_are_refused_with_a_remedy_that_helps(workspace):
    with pytest.raises(
        InputError, match=r"^--lengths 20: 0 users .* and 4 are needed; leave that length out$"
    ):
        user_groups(workspace, [2, 20], Timing(group_users=4))
    with pytest.raises(InputError, match=r"3 users .*; leave that length out or lower --group-users$"):
        user_groups(workspace, [2, 10], Timing(group_users=4))


@pytest.mark.parametrize(
    ("experiment", "methods", "lengths", "given"),
    [
        (efficiency, "title", {2}, ["--lengths", "2,20"]),
        (serving, "title", {3, 6}, ["--lengths", "2,20"]),
        (sequence_length, "title", {2, 10}, ["--lengths", "2,20"]),
        (tradeoff, "title,popularity", {6}, ["--length", "20"]),
    ],
)
def test_experiments_run_on_short_histories(
    experiment, methods, lengths, given, arguments, tmp_path, capsys, monkeypatch
):
    put_noise(monkeypatch)
    command = [*arguments, "--methods", methods, "--repeats", "1"]
    refused = [*command, *given]
    assert run(experiment.main, prog="bench", args=refused) == 2
    assert f"error: {given[0]} 20: 0 " in (error := capsys.readouterr().err) and "lower" not in error
    if experiment is sequence_length:  # needs two lengths, and ten users of the longest
        command += ["--min-users", "3", "--group-users", "3"]
    assert run(experiment.main, prog="bench", args=command) == 0
    records = Store(tmp_path / "out").records()
    timed = [record.config["history_length"] for record in records if record.experiment != "accuracy"]
    assert set(timed) == lengths and np.all(np.array(timed) < 20)


@pytest.mark.parametrize(
    ("experiment", "options"),
    [
        (tradeoff, ["--methods", "title,popularity"]),
        (tokens_per_item, ["--methods", "title", "--image-tokens", "1,2"]),
    ],
)
def test_fewer_users_than_are_usual_are_all_timed(experiment, options, arguments, tmp_path, monkeypatch):
    put_noise(monkeypatch)
    command = [*arguments, *options, "--group-users", "99", "--repeats", "1"]
    assert run(experiment.main, prog="bench", args=command) == 0
    timed = [record.config for record in Store(tmp_path / "out").records("efficiency")]
    assert timed and {(config["history_length"], len(config["users"])) for config in timed} == {
        (6, USERS + 3)
    }
