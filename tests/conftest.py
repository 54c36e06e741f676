"""Tiny models and data that several floors share. Nothing here is downloaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Processes that each take all cores are many times slower than processes that share them. Read by torch at import.
    cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))


@pytest.fixture(autouse=True)
def _private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request
) -> None:
    """Keep fast tests out of the user's cache; slow ones share it, so that models are converted once."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _plain_logging() -> None:
    """Undo what a command run inside a test, or inside a wider fixture, set up: it logs as a program of its own."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler).__module__.startswith("illmrec"):
            root.removeHandler(handler)
    root.setLevel(logging.WARNING)
    for package in ("illmrec", "baselines", "bench", "reports"):
        logging.getLogger(package).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name a random CLIP and a random sentence model: pictures and texts are encoded in no time."""
    from sentence_models import save_sentence_model
    from vision_models import save_model

    folder = tmp_path_factory.mktemp("tiny-encoders")
    text = save_sentence_model(folder / "text", "mean", folder / "work")
    return ["--vision", str(save_model(folder / "vision", "clip")), "--text", str(text)]


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random 3-layer LLaMA and a byte-level tokenizer, loadable as any local model."""
    from llm_models import save_llm

    return save_llm(tmp_path_factory.mktemp("tiny-llm"))


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_llm: Path) -> Callable[..., str]:
    """Return a function that runs an experiment on bad input, small, and returns its only line of error."""
    from illmrec.command_line import run

    def refused(main: Callable[..., int], arguments: Sequence[str]) -> str:
        common = ["--preset", "smoke", "--llm", str(tiny_llm), "--out", str(tmp_path)]
        assert run(main, prog="bench", args=[*common, "--no-report", "--no-progress", *arguments]) == 2
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return error

    return refused


@pytest.fixture(scope="session")
def stored_model(tiny_llm: Path, tiny_encoders: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model with image and text heads, as training leaves it in a store."""
    from small_models import save_trained

    from illmrec.stored_models import MODELS

    folder = tmp_path_factory.mktemp("stored") / "out" / MODELS / "0123456789abcdef"
    folder.mkdir(parents=True)
    cache = tmp_path_factory.mktemp("cache-of-stored")
    encoders = {"image": tiny_encoders[1], "text": tiny_encoders[3]}
    return save_trained(folder, llm=tiny_llm, encoders=encoders, cache=cache)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each pass of the engine, from now on."""
    from illmrec.model.engine import Engine  # late: most tests need no LLM

    counted: list[int] = []
    hidden = Engine.hidden

    def counting(self: Engine, packed: Any, **given: Any) -> Any:
        counted.append(packed.tokens)
        return hidden(self, packed, **given)

    monkeypatch.setattr(Engine, "hidden", counting)
    return counted
