"""Models of the hub at a revision: what is loaded and recorded. The hub is its cache on disk; there is no network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pandas as pd
import pytest
import torch
from sentence_models import save_sentence_model
from training_models import made_dataset, made_model

from bench.store.cell import Cell
from bench.store.store import Store
from illmrec.errors import InputError
from illmrec.features import commits, sources
from illmrec.features.identity import encoder_identity
from illmrec.features.text import encode_texts
from illmrec.model.backbone import load_backbone
from illmrec.model.illmrec import ILLMRec
from illmrec.model_card import model_card
from illmrec.saved_model import save_model

FIRST, SECOND = "1" * 40, "2" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub, empty, with the network off; nothing is noted."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(commits, "_noted", {})
    return folder


def store_in(cache: Path, name: str, commit: str, model: Path, *refs: str) -> Path:
    """Lay a model into the cache as a commit of a repository, and let branches or tags stand for it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(model, snapshot)
    for ref in refs:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return snapshot


@pytest.fixture
def llms(cache: Path, tiny_llm: Path) -> None:
    """owner/llm of two commits, the second of which has another weight: main, and a tag v1 of the first."""
    from safetensors.torch import load_file, save_file

    store_in(cache, "owner/llm", FIRST, tiny_llm, "v1")
    second = store_in(cache, "owner/llm", SECOND, tiny_llm, "main")
    weights = load_file(second / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight"))
    weights[name] = weights[name] + 1
    save_file(weights, second / "model.safetensors", metadata={"format": "pt"})


def test_a_revision_is_what_is_loaded_and_its_commit_is_kept(llms: None, tiny_llm: Path) -> None:
    newest, tagged = (
        load_backbone("owner/llm", dtype="float32"),
        load_backbone("owner/llm@v1", dtype="float32"),
    )
    by_commit = load_backbone(f"owner/llm@{FIRST}", dtype="float32")
    local = load_backbone(str(tiny_llm), dtype="float32")
    assert (newest.commit, tagged.commit, by_commit.commit, local.commit) == (SECOND, FIRST, FIRST, None)
    assert tagged.fingerprint == by_commit.fingerprint == local.fingerprint != newest.fingerprint
    assert load_backbone("random:owner/llm@v1", dtype="float32").commit == FIRST


def test_what_a_revision_may_be(llms: None) -> None:
    for name, said in (("owner/llm@", "names no revision"), ("owner/llm@v3", "--llm owner/llm@v3: ")):
        with pytest.raises(InputError, match=said) as caught:
            load_backbone(name, dtype="float32")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="OWNER/MODEL@REVISION"):
        sources.check_name("owner", embedded=("minilm",), kind="text")
    sources.check_name("owner/model@refs/pr/1", embedded=("minilm",), kind="text")


def cell_of(config: dict) -> Cell:
    config = {"dataset": {"name": "toyshop", "fingerprint": "f"}, "method": "m", "seed": 1, **config}
    return Cell(experiment="accuracy", version=1, config=config, method="m", seed=1, dataset={})


def test_a_stored_cell_names_the_commits_of_its_own_models(llms: None, cache: Path, tmp_path: Path) -> None:
    model = save_sentence_model(tmp_path / "text", "mean", tmp_path / "work")
    store_in(cache, "owner/text", FIRST, model, "main")
    load_backbone("owner/llm", dtype="float32")
    tagged = load_backbone("random:owner/llm@v1", dtype="float32")
    identity = encoder_identity("owner/text", kind="text")
    cell = cell_of(
        {"llm": tagged.describe(), "encoders": {"text": f"{identity} as float16", "image": "folder"}}
    )
    without = cell_of({})
    store = Store(tmp_path / "store")
    for each in (cell, without):
        store.write(each, {"n": 1}, {"ranks": pd.DataFrame({"rank": [1]})}, seconds=1.0)
    found = {name: value for name, value in store.find(cell).versions.items() if name.startswith("hub:")}
    assert found == {"hub:owner/llm@v1": FIRST, "hub:owner/text": FIRST}
    assert not [name for name in store.find(without).versions if name.startswith("hub:")]


def test_keys_tell_contents_apart_and_not_names_of_the_same_commit(llms: None) -> None:
    keys = [
        cell_of({"llm": load_backbone(name, dtype="float32").describe()}).key
        for name in ("owner/llm", f"owner/llm@{SECOND}", "owner/llm@v1")
    ]
    assert keys[0] == keys[1] != keys[2]


def test_an_encoder_at_a_revision_is_the_same_under_each_of_its_names(cache: Path, tmp_path: Path) -> None:
    model = save_sentence_model(tmp_path / "text", "mean", tmp_path / "work")
    store_in(cache, "owner/text", FIRST, model, "main", "v1")
    other = store_in(cache, "owner/text", SECOND, model)
    names = ("owner/text", "owner/text@v1", f"owner/text@{FIRST}")
    assert {encoder_identity(name, kind="text") for name in names} == {f"owner/text@{FIRST[:12]}"}
    assert {sources.stored_version(name) for name in names} == {FIRST}
    assert {sources.without_revision(name) for name in names} == {"owner/text"}
    assert sources.without_revision(str(model)) == str(model)
    assert sources.model_folder("owner/text@v1").name == commits.commit_of("owner/text@v1") == FIRST
    # Loaded is what was named.
    config = json.loads((other / "modules.json").read_text())
    (other / "modules.json").write_text(json.dumps(config[:2]))
    assert encode_texts(["a red mug"], encoder="owner/text@v1").shape[0] == 1
    (other / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError):
        encode_texts(["a red mug"], encoder=f"owner/text@{SECOND}")


def test_a_pinned_name_stands_for_the_same_later() -> None:
    assert commits.pinned("owner/llm", FIRST) == commits.pinned("owner/llm@v1", FIRST) == f"owner/llm@{FIRST}"
    assert commits.pinned("random:owner/llm", FIRST) == f"random:owner/llm@{FIRST}"
    assert commits.pinned("/a/folder@home", None) == "/a/folder@home"


def test_an_exported_model_and_its_card_name_the_commit(llms: None, cache: Path, tmp_path: Path) -> None:
    backbone = load_backbone("owner/llm", layers=2, dtype="float32")
    dataset = made_dataset()
    model = made_model(dataset, backbone).eval()
    model.save_pretrained(tmp_path / "model")
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    assert described["llm"]["name"] == f"owner/llm@{SECOND}"
    # It is loaded with what it was trained with, wherever the branch points by then.
    (cache / "models--owner--llm" / "refs" / "main").write_text(FIRST)
    again = ILLMRec.from_pretrained(tmp_path / "model")
    history = dataset.sequence(0)
    assert (again.score([history]) == model.score([history])).all()
    about = {
        "dataset": dataset.statistics(), "fingerprint": "f", "llm": {"name": f"owner/llm@{SECOND}", "layers": 2},
        "encoders": {"text": f"owner/text@{FIRST}"}, "representation": "image", "heads": ["image"], "training": {},
        "options": {}, "results": [],
    }  # fmt: skip
    card = model_card(about)
    assert "base_model: owner/llm\n" in card
    assert f"blocks of owner/llm@{SECOND}" in card and f"text owner/text@{FIRST}" in card


def test_a_stored_model_names_the_commits(llms: None, cache: Path, tmp_path: Path) -> None:
    backbone = load_backbone("owner/llm@v1", layers=2, dtype="float32")
    commits.note("owner/vision", SECOND)
    dataset = made_dataset()
    model = made_model(dataset, backbone)
    (tmp_path / "model").mkdir()
    save_model(
        tmp_path / "model",
        model=model,
        config=model.config,
        dataset=dataset,
        dataset_arguments={"name": "tiny"},
        backbone={"name": "owner/llm@v1", "layers": 2, "dtype": "float32"},
        encoders={"image": "owner/vision", "text": str(cache)},
        features={},
        training={},
    )
    saved = json.loads((tmp_path / "model" / "model.json").read_text())
    assert saved["backbone"]["name"] == f"owner/llm@{FIRST}"
    assert saved["encoders"] == {"image": f"owner/vision@{SECOND}", "text": str(cache)}


def test_a_model_that_moved_is_loaded_as_it_was_trained(llms: None, cache: Path) -> None:
    backbone = load_backbone("owner/llm", dtype="float32")
    name = commits.pinned(backbone.name, backbone.commit)
    (cache / "models--owner--llm" / "refs" / "main").write_text(FIRST)
    assert load_backbone("owner/llm", dtype="float32").fingerprint != backbone.fingerprint
    again = load_backbone(name, dtype="float32")
    assert again.fingerprint == backbone.fingerprint
    assert torch.equal(again.embeddings.weight, backbone.embeddings.weight)
