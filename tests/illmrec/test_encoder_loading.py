"""Encoders that must be refused when they are loaded, each in one line, and those that must not be."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_models import as_pickle, save_bert, save_sentence_model
from tokenizers import AddedToken
from vision_models import save_model

from illmrec.errors import InputError
from illmrec.features.clip import ClipTexts
from illmrec.features.text import encode_texts
from illmrec.features.vision import load_image_encoder

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4096\n"
LOADERS: dict[str, Callable[[str], object]] = {
    "mean": lambda name: encode_texts(["red mug"], encoder=name),
    "clip": lambda name: load_image_encoder(name),
    "siglip": lambda name: ClipTexts(name, device="cpu"),
}
BLOCK = {
    "mean": "encoder.layer.1.output.dense.weight",
    "clip": "vision_model.encoder.layers.1.mlp.fc1.weight",
    "siglip": "text_model.encoder.layers.1.mlp.fc1.weight",
}


@pytest.fixture(params=list(LOADERS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    place = tmp_path / "encoder"
    return save_sentence_model(place, "mean", tmp_path) if kind == "mean" else save_model(place, kind)


def edit_weights(path: Path, change: Callable) -> None:
    changed = path.with_name("changed")
    save_file(change(load_file(path)), changed, metadata={"format": "pt"})
    changed.replace(path)  # another file: what was read from the first may still be a view of it


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def message(kind: str, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        LOADERS[kind](str(folder))
    text = str(caught.value)
    assert text.startswith(f"encoder {folder} could not be loaded: ") and "\n" not in text
    return text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s, w: {f"_orig_mod.{k}": v for k, v in s.items()}, "weights are missing.*compiled model"),
        (lambda s, w: {k: v for k, v in s.items() if k != w}, "1 weights are missing"),
        (lambda s, w: s | {w: s[w][:3].clone()}, "has shape"),
        (lambda s, w: s | {w.replace("1", "2", 1): s[w].clone()}, "has no place|no place"),
        (lambda s, w: s | {w: s[w] * float("nan")}, "is not finite"),
        (lambda s, w: s | {w: s[w] * 0}, "is 0 everywhere"),
        (lambda s, w: s | {w: s[w].mul(100).to(torch.int8)}, r"\(I8\): quantised"),
    ],
)
def test_weights_that_do_not_make_the_model(kind: str, folder: Path, change: Callable, expected: str) -> None:
    edit_weights(folder / "model.safetensors", lambda state: change(state, BLOCK[kind]))
    assert re.search(expected, message(kind, folder)), message(kind, folder)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "preprocessor_config.json"]
)
def test_lfs_pointers(kind: str, folder: Path, name: str) -> None:
    (folder / name).write_text(POINTER)
    assert f"{name} is a Git LFS pointer" in message(kind, folder)


def test_other_damage(kind: str, folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors is damaged" in message(kind, folder)
    weights.write_text("<html>not found</html>")
    assert "is a web page" in message(kind, folder)
    weights.unlink()
    assert "holds no weights" in message(kind, folder)
    weights.write_bytes(whole)
    (folder / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in message(kind, folder)
    (folder / "adapter_config.json").unlink()
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    edit_json(
        folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Model"}
    )
    assert "code of its own" in message(kind, folder) and not (folder / "ran").exists()
    (folder / "config.json").write_text("{")
    assert "config.json is not valid JSON" in message(kind, folder)


def test_pytorch_format_is_read_without_running_code(kind: str, folder: Path) -> None:
    as_pickle(folder / "model.safetensors")
    LOADERS[kind](str(folder))

    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (folder / "ran",))

    torch.save({"a.weight": Harmful()}, folder / "pytorch_model.bin")
    message(kind, folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("kind", ["mean", "siglip"])
def test_token_without_a_row(kind: str, folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken("teapot", special=False)])
    tokenizer.save_pretrained(folder)
    assert re.search(r"token 'teapot' has id \d+, the model has rows 0 to", message(kind, folder))


@pytest.mark.parametrize("kind", ["mean", "siglip"])
def test_padding_without_a_row(kind: str, folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[NEW]"})
    tokenizer.save_pretrained(folder)
    assert "token '[NEW]'" in message(kind, folder)


def test_missing_or_foreign_preprocessor(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "clip", "clip")
    other = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    other.save_pretrained(folder)
    assert "image" in message("clip", folder).lower()
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    message("clip", folder)


def test_clip_inside_a_sentence_transformers_folder_is_pointed_at(tmp_path: Path) -> None:
    folder = save_sentence_model(tmp_path / "st", "clip", tmp_path)
    assert "did you mean its folder '0_CLIPModel'" in message("clip", folder)


def test_parts_of_a_sentence_transformers_model(tmp_path: Path) -> None:
    folder = save_sentence_model(tmp_path / "dense", "dense", tmp_path)
    dense = folder / "2_Dense" / "model.safetensors"
    whole = dense.read_bytes()
    dense.write_text(POINTER)
    assert "2_Dense: model.safetensors is a Git LFS pointer" in message("mean", folder)
    dense.write_bytes(whole)
    edit_weights(dense, lambda s: {name: value * float("nan") for name, value in s.items()})
    assert "is not finite" in message("mean", folder)
    edit_weights(dense, lambda s: {"linear.weight": torch.randn(8, 16)})
    message("mean", folder)
    shutil.rmtree(dense.parent)
    assert "2_Dense is not there, but modules.json names it" in message("mean", folder)
    (folder / "modules.json").write_text("{}")
    assert "modules.json is no list of modules" in message("mean", folder)


def test_static_model(tmp_path: Path) -> None:
    folder = save_sentence_model(tmp_path / "static", "static", tmp_path)
    weights = folder / "0_StaticEmbedding" / "model.safetensors"
    edit_weights(weights, lambda s: {name: value[:-1].clone() for name, value in s.items()})
    assert re.search("token 'kitchen' has id 11, the model has rows 0 to 10", message("mean", folder))
    edit_weights(weights, lambda s: {"other": torch.randn(12, 8)})
    message("mean", folder)


def test_plain_transformers_folder_may_lack_the_pooler_that_nothing_reads(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    expected = encode_texts(["red mug"], encoder=str(folder))
    edit_weights(folder / "model.safetensors", lambda s: {k: v for k, v in s.items() if "pooler" not in k})
    np.testing.assert_array_equal(encode_texts(["red mug"], encoder=str(folder)), expected)
    edit_weights(
        folder / "model.safetensors", lambda s: {k: v for k, v in s.items() if "embeddings" not in k}
    )
    assert "weights are missing: embeddings." in message("mean", folder)


def test_head_of_a_classifier_is_left_out(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    expected = encode_texts(["red mug"], encoder=str(folder))
    transformers.AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder)
    assert "classifier.weight" in load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(encode_texts(["red mug"], encoder=str(folder)), expected)


def test_features_that_are_not_numbers_name_the_text(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    name = "embeddings.word_embeddings.weight"
    edit_weights(
        folder / "model.safetensors", lambda s: s | {name: s[name].index_fill(0, torch.tensor([10]), 3e38)}
    )
    with pytest.raises(InputError, match="features of 'acme mug' are not finite"):
        encode_texts(["red mug", "acme mug"], encoder=str(folder))


def test_tokenizer_that_tells_no_texts_apart(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": ".+"}, "content": "x"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert "have the same features" in message("mean", folder)


@pytest.mark.parametrize("option", ["vision", "text"])
def test_command_ends_with_status_2_and_one_line(option: str, tmp_path: Path, refusal: Callable) -> None:
    from bench.comparison import main

    folder = tmp_path / "encoder"
    if option == "vision":
        save_model(folder, "clip")
        chosen = ["--methods", "illmrec"]
    else:
        save_sentence_model(folder, "mean", tmp_path)
        chosen = ["--methods", "tallrec", "--features", "text"]
    (folder / "model.safetensors").write_text(POINTER)
    error = refusal(main, ["--dataset", "toyshop", *chosen, f"--{option}", str(folder)])
    assert error.startswith(
        f"error: encoder {folder} could not be loaded: model.safetensors is a Git LFS pointer"
    )
