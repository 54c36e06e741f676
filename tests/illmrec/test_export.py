"""Exported models: what is loaded again recommends the same, and a card that says what it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from training_models import made_dataset, made_model

from illmrec import export, recommend
from illmrec.checksums import write_json
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.exported import load_exported, told
from illmrec.features.sources import with_folder
from illmrec.model.backbone import load_backbone
from illmrec.model.hub import public_name
from illmrec.model.illmrec import ILLMRec
from illmrec.recommender import Recommender
from illmrec.stored_models import model_folder


@pytest.fixture(scope="module")
def recommender(stored_model: Path) -> Recommender:
    return Recommender.load(stored_model)


@pytest.fixture(scope="module")
def exported(stored_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes, given a key."""
    results = stored_model / "results"
    results.mkdir(exist_ok=True)
    found = {"users": 7, "sampled": {"ndcg@10": 0.123}, "full": {"ndcg@10": 0.045}}
    evaluation = {"context": 512}
    note = {"method": "illmrec", "seed": 3, "evaluation": evaluation, "results": found}
    (results / "fedcba9876543210.json").write_text(json.dumps(note))
    target = tmp_path_factory.mktemp("exported") / "model"
    out = stored_model.parents[3]
    arguments = ["--model", stored_model.name, "--out", str(out), "--to", str(target)]
    assert run(export.main, prog="export", args=arguments) == 0
    return target


def test_an_exported_model_scores_exactly_as_before(exported, recommender, tiny_llm):
    dataset = recommender.dataset
    histories = [dataset.sequence(user) for user in range(5)]
    model = ILLMRec.from_pretrained(exported, llm=str(tiny_llm))
    np.testing.assert_array_equal(model.score(histories), recommender.score(histories))
    again = load_exported(str(exported), llm=str(tiny_llm))
    history = recommender.history_of(str(dataset.user_ids[0]))
    assert again.recommend(history, k=7).equals(recommender.recommend(history, k=7))
    with pytest.raises(InputError, match="unknown item 'nothing'"):
        again.recommend(["nothing"])


def test_an_exported_folder_is_recommended_from(exported, recommender, tiny_llm, capsys, monkeypatch):
    monkeypatch.chdir(tiny_llm.parent)  # where the LLM is found by the name that is left of its folder
    history = recommender.history_of(str(recommender.dataset.user_ids[1]))
    best = recommender.recommend(history, k=1)["item_id"][0]
    arguments = ["--model", str(exported), "--history", ",".join(history), "--top-k", "1"]
    assert run(recommend.main, prog="recommend", args=arguments) == 0
    assert best in capsys.readouterr().out


def test_it_holds_no_path_no_user_and_no_pickle(exported, stored_model, recommender):
    assert {path.name for path in exported.iterdir()} == {
        "README.md", "catalogue.safetensors", "checksums.json", "config.json", "items.parquet", "model.safetensors",
        "training.json",
    }  # fmt: skip
    content = b"".join(path.read_bytes() for path in exported.iterdir())
    for secret in (str(stored_model.parent), "/tmp", str(recommender.dataset.user_ids[0])):
        assert secret.encode() not in content


def test_the_card_tells_data_numbers_limits_and_licences(exported, recommender):
    card = (exported / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "other"
    for title in ("Data", "Numbers", "Training", "Limits", "Licence"):
        assert f"## {title}" in body
    assert "| test, seed 3, context 512 | sampled | 7 |  |  |  | 0.1230 |  |" in body
    assert f"| users | {recommender.dataset.n_users} |" in body


def test_names_in_the_card_are_shown_as_they_are():
    from illmrec.model_card import _plain

    assert _plain("a|b\n# <script>[x](y)") == r"a\|b \# &lt;script&gt;\[x\](y)"


@pytest.mark.parametrize(
    "config",
    [
        {"strategy": "lora"},
        {"strategy": "embeddings"},
        {"slot_content": "noise"},
        {"readout": "last+mean", "inputs": "raw", "instruction": "before"},
    ],
)
def test_every_kind_of_model_comes_back(config, tiny_llm, tmp_path):
    backbone = load_backbone(str(tiny_llm), layers=2)
    dataset = made_dataset()
    model = made_model(dataset, backbone, **config).eval()
    histories = [dataset.sequence(user) for user in range(4)]
    model.calibrate(histories)
    model.limit(history_length=3)
    for parameter in model.parameters():  # LoRA begins as nothing
        parameter.data += 0.01
    model.save_pretrained(tmp_path / "model")
    again = ILLMRec.from_pretrained(tmp_path / "model", backbone=backbone)
    np.testing.assert_array_equal(again.score(histories), model.score(histories))


def test_another_llm_is_refused(exported, tmp_path, tiny_llm):
    from transformers import AutoModelForCausalLM

    other = shutil.copytree(tiny_llm, tmp_path / "other")
    changed = AutoModelForCausalLM.from_pretrained(other)
    changed.get_input_embeddings().weight.data[0] += 1
    changed.save_pretrained(other)
    with pytest.raises(InputError, match="trained with another LLM"):
        ILLMRec.from_pretrained(exported, llm=str(other))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    "name", ["catalogue.safetensors", "model.safetensors", "items.parquet", "training.json"]
)
def test_a_flipped_bit_is_found(name, exported, tmp_path, tiny_llm):
    folder = shutil.copytree(exported, tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: damaged .*; export or fetch the model again"):
        load_exported(str(folder), llm=str(tiny_llm))


@pytest.mark.parametrize("name", ["parameters.safetensors", "model.json", "checksums.json"])
def test_a_trained_model_with_a_flipped_bit_is_refused(name, stored_model, tmp_path):
    folder = shutil.copytree(stored_model, tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[-5] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: damaged .*; delete the folder .* and train again"):
        Recommender.load(folder)


def test_a_changed_result_is_not_told(exported, stored_model, recommender, tmp_path):
    folder = shutil.copytree(stored_model, tmp_path / "copy")
    (note,) = (folder / "results").iterdir()
    write_json(note, json.loads(note.read_text()))
    assert told(folder, recommender)["results"][0]["results"]["full"] == {"ndcg@10": 0.045}
    note.write_text(note.read_text().replace("0.045", "0.445"))
    with pytest.raises(InputError, match=f"{note}: damaged"):
        told(folder, recommender)


def test_a_card_that_was_written_on_is_no_damage(exported, tmp_path, tiny_llm):
    folder = shutil.copytree(exported, tmp_path / "copy")
    (folder / "README.md").write_text("mine")
    load_exported(str(folder), llm=str(tiny_llm))


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("catalogue.safetensors", Path.unlink, "catalogue.safetensors(: damaged .it)? is missing"),
        ("model.safetensors", cut, "damaged"),
        ("items.parquet", cut, "damaged"),
        ("config.json", cut, "config.json: (damaged|does not describe an exported model)"),
    ],
)
def test_a_damaged_folder_is_one_line(name, change: Callable, expected, listed, exported, tmp_path, tiny_llm):
    folder = shutil.copytree(exported, tmp_path / "copy")
    if not listed:  # as of an earlier version
        (folder / "checksums.json").unlink()
    change(folder / name)
    with pytest.raises(InputError, match=expected) as caught:
        load_exported(str(folder), llm=str(tiny_llm))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--to", "hub:nobody"], "hub:OWNER/NAME"),
        (["--to", "hub:../../x/y"], "hub:OWNER/NAME"),
        (["--to", "x", "--public"], "--public"),
        (["--to", "x", "--model", "ffffffffffffffff"], "no such model among its 1"),
        (["--to", "x", "--model", "nowhere"], "a key has 16 hexadecimal digits"),
        (["--to", "FULL"], "is there already"),
    ],
)
def test_bad_input_of_the_command_is_one_line(arguments, expected, stored_model, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("kept")
    arguments = [str(tmp_path) if word == "FULL" else word for word in arguments]
    common = ["--model", stored_model.name, "--out", str(stored_model.parents[3])]
    assert run(export.main, prog="export", args=[*common, *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_hub_that_does_not_answer_is_one_line(exported, monkeypatch):
    import httpx2
    from huggingface_hub import HfApi

    def refuse(*arguments, **options):
        raise httpx2.ConnectError("connection refused")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(InputError, match="hub:someone/model: connection refused"):
        export.upload(exported, "someone/model", private=True)


def test_a_repository_is_private_and_gets_every_file(exported, monkeypatch):
    from huggingface_hub import HfApi

    calls = {}
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, name, **how: calls.update(made=(name, how)) or "URL"
    )
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **what: calls.update(sent=what))
    assert export.upload(exported, "someone/model", private=True) == "URL"
    assert calls["made"] == ("someone/model", {"private": True, "exist_ok": True})
    assert calls["sent"]["folder_path"] == exported and calls["sent"]["repo_id"] == "someone/model"


def test_a_model_that_is_pushed_is_private_as_well(recommender, monkeypatch):
    from huggingface_hub import ModelHubMixin

    pushed = []
    monkeypatch.setattr(ModelHubMixin, "push_to_hub", lambda self, name, **how: pushed.append((name, how)))
    recommender.model.push_to_hub("someone/model")
    assert pushed == [("someone/model", {"private": True})]


def test_a_repository_of_the_hub_is_loaded(exported, recommender, tiny_llm, monkeypatch):
    """The hub hands out single files: here from the folder."""
    from illmrec.model import hub

    def fetch(repository, name, **where):
        assert repository == "someone/model"
        return str(exported / name)

    monkeypatch.setattr(hub, "hf_hub_download", fetch)
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download", lambda **what: str(exported / "config.json")
    )
    again = load_exported("someone/model", llm=str(tiny_llm))
    history = [recommender.dataset.sequence(0)]
    np.testing.assert_array_equal(again.score(history), recommender.score(history))
    with pytest.raises(InputError, match="OWNER/NAME"):
        ILLMRec.from_pretrained("/nowhere/at/all")


def test_models_are_found_where_the_store_keeps_them(tmp_path):
    from bench.store.store import Store

    folder = Store(tmp_path).artifact("model", {"a": 1})
    folder.mkdir(parents=True)
    assert model_folder(folder.name, out=tmp_path) == folder


@pytest.mark.parametrize("prefix", ["", "folder:", "mllm:", "random:", "random:mllm:"])
def test_names_of_folders_hold_everywhere_and_are_published_without_their_place(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public_name(f"{prefix}models/mine") == f"{prefix}mine"
    assert public_name(f"{prefix}{tmp_path}/models/mine") == f"{prefix}mine"
    assert with_folder(f"{prefix}models/mine", str) == f"{prefix}{tmp_path.resolve()}/models/mine"
    for name in ("toyshop", f"{prefix}owner/model", "smollm2-135m"):
        assert public_name(name) == with_folder(name, str) == name
