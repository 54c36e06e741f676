"""Names that can only be meant for a folder, where there is none: told at once, and no hub is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from illmrec.command_line import set_up_logging
from illmrec.errors import InputError
from illmrec.features.identity import encoder_identity
from illmrec.model.backbone import load_backbone


def message(name: str) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(name, dtype="float32")
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "llms/nope",
        "./nope",
        "../nope",
        "~/nope",
        "/nope/nope",
        "nope/nope/nope",
        "llms\\nope",
        "nope/../x/y@main",
    ],
)
def test_a_folder_that_is_not_there_is_told_without_asking_a_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable
) -> None:
    from bench.suite.doctor import main

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a hub was asked")

    (tmp_path / "llms" / "nopes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("illmrec.model.loading.hf_hub_download", asked)
    monkeypatch.setattr("illmrec.features.hub._snapshot", asked)
    said = message(name)
    assert "there is no such folder" in said
    assert ("did you mean 'llms/nopes'?" in said) is (name == "llms/nope")
    for given in (name, f"mllm:{name}", f"random:{name}"):
        assert f"--llm {given}: there is no such folder" in refusal(main, ["--llm", given])
    with pytest.raises(InputError, match="there is no such folder"):
        encoder_identity(name, kind="vision")


def test_a_hub_model_whose_owner_is_a_folder_here_has_a_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("illmrec.model.loading.hf_hub_download", _offline)
    assert "write owner/model@main" in message("owner/model")
    for name in ("owner/model@main", "other/model"):
        assert "no such folder, and the model hub gives no config.json (offline)" in message(name)


def _offline(*_: object, **__: object) -> None:
    raise OSError("offline")


def test_the_clients_remarks_are_logged_once(tiny_llm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    load_backbone(str(tiny_llm), dtype="float32")
    logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
    assert capsys.readouterr().err.count("Retrying") == 1
