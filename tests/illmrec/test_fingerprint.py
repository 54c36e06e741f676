"""A language model is known by its content: the same in another folder, another after any change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from illmrec.model.backbone import Backbone, load_backbone


def fingerprint(folder: Path) -> str:
    return load_backbone(str(folder), dtype="float32").fingerprint


def changed_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name][17, 5] += 1e-6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def exchanged_values(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    values = weights["model.embed_tokens.weight"]
    values[[3, 4]] = values[[4, 3]]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def changed_configuration(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 5000.0
    (folder / "config.json").write_text(json.dumps(config))


def changed_vocabulary(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    stored["model"]["vocab"] = vocabulary
    path.write_text(json.dumps(stored))


def changed_merges(folder: Path) -> None:
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    stored["model"]["merges"] = stored["model"]["merges"][:-1]
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    "change",
    [changed_weight, exchanged_values, changed_configuration, changed_vocabulary, changed_merges],
)
def test_any_change_of_the_model_is_another_model(
    tiny_llm: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = shutil.copytree(tiny_llm, tmp_path / "llm")
    before = fingerprint(folder)
    change(folder)
    assert fingerprint(folder) != before


def test_a_copy_in_another_folder_process_and_working_directory_is_the_same_model(
    tiny_llm: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(tiny_llm, tmp_path / "elsewhere" / "copied")
    code = (
        "from illmrec.model.backbone import load_backbone\n"
        "print(load_backbone('copied', dtype='float32').fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copied.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == fingerprint(tiny_llm)


def test_sharded_weights_are_the_same_model(tiny_llm: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(tiny_llm), dtype="float32")
    backbone.model.save_pretrained(tmp_path, max_shard_size="40KB")
    backbone.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert fingerprint(tmp_path) == backbone.fingerprint


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_configuration_may_hold_what_json_has_no_number_for(
    value: float, tiny_llm: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_llm, tmp_path / "llm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": value}))
    assert fingerprint(folder) == fingerprint(folder) != fingerprint(tiny_llm)


def test_blocks_left_out_do_not_change_the_fingerprint(tiny_llm: Path) -> None:
    assert load_backbone(str(tiny_llm), layers=1, dtype="float32").fingerprint == fingerprint(tiny_llm)


def test_random_weights_are_drawn_by_seed_for_the_same_architecture_and_tokenizer(tiny_llm: Path) -> None:
    trained, first, second = (
        load_backbone(f"{kind}{tiny_llm}", dtype="float32", layers=2) for kind in ("", "random:", "random:")
    )
    assert first.fingerprint == second.fingerprint != trained.fingerprint
    assert first.describe() == {
        "name": f"random:{tiny_llm.name}",
        "layers": 2,
        "dtype": "float32",
        "content": first.fingerprint,
    }
    shapes = [
        {name: value.shape for name, value in llm.model.state_dict().items()} for llm in (trained, first)
    ]
    assert shapes[0] == shapes[1]
    assert first.tokenizer("red mug")["input_ids"] == trained.tokenizer("red mug")["input_ids"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_embedded_model_keeps_the_description_that_its_results_are_stored_under(dtype: str) -> None:
    backbone: Backbone = load_backbone(layers=4, dtype=dtype)
    assert backbone.describe() == {"name": "smollm2-135m", "layers": 4, "dtype": dtype}


@pytest.mark.slow
def test_an_embedded_model_with_other_weights_is_described_as_another() -> None:
    from dataclasses import replace

    other = replace(load_backbone(layers=1), fingerprint="0" * 16)
    assert other.describe()["content"] == "0" * 16
