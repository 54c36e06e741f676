"""A command that the page suggests has every setting that decides data, LLM and training, as it was given."""

from __future__ import annotations

import importlib
import shlex
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from bench.harness.settings import Settings
from bench.suite.catalogue import experiments
from illmrec.command_line import parse_options
from reports.sections.commands import CARRIED, command_beside

OF_THE_RUN = {
    "llm", "layers", "summarizer_timeout", "summarizer_requests", "price_per_hour", "currency", "instance", "prices",
    "watts", "workers", "scheduler", "resources", "store", "overwrite", "report", "track", "progress",
}  # fmt: skip
"""Settings that decide no number, and those of the LLM, which are carried apart."""

FOLDER = {"name": "gpt2", "layers": 3, "content": "0123456789abcdef"}


def cell(command: str, *, llm: Any = FOLDER, created: str = "2026-01-01") -> Any:
    return SimpleNamespace(command=command, created=created, config={"llm": llm} if llm else {})


def test_every_setting_is_carried_or_is_of_the_run() -> None:
    names = {field.name for field in fields(Settings)}
    carried = {name.replace("-", "_") for name in CARRIED} - {"config", "features"}
    assert carried | OF_THE_RUN == names and not carried & OF_THE_RUN


def test_what_decides_data_llm_and_training_is_repeated_as_it_was_given() -> None:
    decides = [
        "--dataset folder:/data/shop --llm /x/llm/gpt2 --layers 3 --duplicates keep --ties drawn",
        "--broken-images missing --negatives 50 --seeds 3,4 --features cf,text --strategy cached --warm-up 0",
        "--history-length=20 --context 512 --vision /x/clip --text /x/minilm --tuned --no-compile",
    ]
    given = f"python -m bench.comparison {' '.join(decides)} --methods title --workers 2 --no-report"
    shown = command_beside([cell(given)], "tune")
    parts = shlex.split(shown)
    assert parts[:3] == ["python", "-m", "bench.tune"]
    wanted = shlex.split(" ".join(decides).replace("=", " "))
    assert sorted(parts[3:]) == sorted(wanted)
    for name, value in (("--llm", "/x/llm/gpt2"), ("--features", "cf,text"), ("--history-length", "20")):
        assert parts[parts.index(name) + 1] == value
    # Feature sets of other experiments are no feature types, and budgets are swept there.
    assert "--features" not in command_beside([cell(given)], "item_popularity")
    assert "--context" not in command_beside([cell(given)], "context_budget")


def test_the_llm_is_that_of_cells_that_have_one() -> None:
    records = [
        cell("python -m bench.ablation --llm /x/llm/gpt2"),
        cell("python -m bench.comparison --llm other --seeds 1", llm=None, created="2026-02-02"),
    ]
    assert command_beside(records, "tune") == "python -m bench.tune --llm /x/llm/gpt2 --layers 3"
    # A file that names the folder is not overruled by the folder's last part.
    of_file = [cell("python -m bench.ablation --config mine.yaml")]
    assert command_beside(of_file, "tune") == "python -m bench.tune --config mine.yaml --layers 3"
    usual = [cell("python -m bench.ablation", llm={"name": "smollm2-135m", "layers": 4})]
    assert command_beside(usual, "tune") == "python -m bench.tune --llm smollm2-135m --layers 4"


@pytest.mark.parametrize("experiment", experiments(), ids=lambda experiment: experiment.name)
def test_every_experiment_takes_what_is_suggested(experiment) -> None:
    given = "python -m bench.comparison --features cf,text --strategy cached --warm-up 0 --tuned --out o --ties drawn"
    parts = shlex.split(command_beside([cell(given)], experiment.name))
    options = parse_options(importlib.import_module(experiment.module).main, prog="x", args=parts[3:])
    if experiment.settings:
        assert (options["settings"].ties, options["settings"].llm) == ("drawn", "gpt2")
