"""Model folders: LLMs, trained models and exported ones."""

from __future__ import annotations

import json
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from contained import Reader
from mutated_files import json_text, mutated_bytes, mutated_safetensors, mutated_value

from illmrec.checksums import CHECKSUMS, seal


def _spoil(rng: random.Random, path: Path) -> None:
    """Change a file as suits its kind."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        content = mutated_safetensors(rng, content)
    elif path.suffix == ".json":
        value = json.loads(content)
        kind = rng.randrange(4)
        content = (
            mutated_bytes(rng, content) if kind == 0 else json_text(rng, mutated_value(rng, value, most=2))
        )
    elif path.suffix == ".parquet":
        from hostile_tables import parquet

        rows = [{"item_id": f"i{row}", "title": f"Thing {row}"} for row in range(60)]
        content = parquet(rng, rows) if rng.random() < 0.6 else mutated_bytes(rng, content)
    else:
        content = mutated_bytes(rng, content)
    path.write_bytes(content)


def _copied(rng: random.Random, source: Path, folder: Path, *, spoilt: tuple[str, ...]) -> Path:
    target = folder / "model"
    shutil.copytree(source, target)
    path = target / rng.choice(spoilt)
    kind = rng.randrange(40)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.unlink()
        path.symlink_to("nowhere")  # others are followed: the hub's cache consists of links
    elif kind == 2:
        path.write_bytes(
            rng.choice(
                (b"", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", b"PK\x03\x04")
            )
        )
    else:
        _spoil(rng, path)
    if (target / CHECKSUMS).is_file() and rng.random() < 0.8:
        seal(
            target
        )  # who sends a hostile model sums it up as well; else nothing behind the checksums is reached
    return target


def _prepare_llm(corpus: Path) -> None:
    from llm_models import save_llm

    save_llm(corpus / "llm")


_LLM_FILES = ("config.json", "config.json", "tokenizer.json", "tokenizer.json", "tokenizer_config.json",
              "generation_config.json", "model.safetensors")  # fmt: skip


def _write_llm(rng: random.Random, folder: Path, corpus: Path) -> None:
    _copied(rng, corpus / "llm", folder, spoilt=_LLM_FILES)


def _read_llm(folder: Path, corpus: Path) -> None:
    import torch

    from illmrec.model.backbone import load_backbone

    backbone = load_backbone(str(folder / "model"), layers=1, dtype="float32")
    assert len(backbone.tokenizer("a red mug")["input_ids"]) > 0
    assert all(torch.isfinite(value).all() for value in backbone.model.parameters())


def _prepare_trained(corpus: Path) -> None:
    from llm_models import save_llm
    from sentence_models import save_sentence_model
    from small_models import save_trained
    from vision_models import save_model

    save_llm(corpus / "llm")
    save_model(corpus / "vision", "clip")
    save_sentence_model(corpus / "text", "mean", corpus / "work")
    (corpus / "trained").mkdir()
    encoders = {"image": str(corpus / "vision"), "text": str(corpus / "text")}
    save_trained(corpus / "trained", llm=corpus / "llm", encoders=encoders, cache=corpus / "cache")


def _write_trained(rng: random.Random, folder: Path, corpus: Path) -> None:
    _copied(
        rng,
        corpus / "trained",
        folder,
        spoilt=("model.json", "model.json", "model.json", "parameters.safetensors"),
    )


@cache
def _given(corpus: Path) -> tuple[Any, Any]:
    """Return data and LLM of the trained model, loaded once a process."""
    from small_models import STORED_DATA

    from illmrec.data import load_dataset
    from illmrec.model.backbone import load_backbone

    return load_dataset(**STORED_DATA), load_backbone(str(corpus / "llm"), layers=2, dtype="float32")


def _read_trained(folder: Path, corpus: Path) -> None:
    from illmrec.recommender import Recommender

    dataset, backbone = _given(corpus)
    _recommends(Recommender.load(folder / "model", dataset=dataset, backbone=backbone))


def _recommends(recommender: Any) -> None:
    items = recommender.dataset.items["item_id"]
    assert all(isinstance(item_id, str) for item_id in items)
    found = recommender.recommend([items.iloc[0]], k=3)
    assert len(found) <= 3 and np.isfinite(found["score"]).all() and found["item_id"].isin(items).all()


def _prepare_exported(corpus: Path) -> None:
    from illmrec.exported import export
    from illmrec.recommender import Recommender

    _prepare_trained(corpus)
    export(corpus / "trained", corpus / "exported", recommender=Recommender.load(corpus / "trained"))


_EXPORTED = (
    "config.json",
    "config.json",
    "model.safetensors",
    "catalogue.safetensors",
    "items.parquet",
    "training.json",
)


def _write_exported(rng: random.Random, folder: Path, corpus: Path) -> None:
    _copied(rng, corpus / "exported", folder, spoilt=_EXPORTED)


def _read_exported(folder: Path, corpus: Path) -> None:
    from illmrec.recommender import Recommender

    _, backbone = _given(corpus)
    _recommends(Recommender.load(folder / "model", backbone=backbone))


def _loaded() -> None:
    import torch
    from transformers import LlamaForCausalLM, LlamaTokenizerFast  # noqa: F401

    import illmrec.exported
    import illmrec.recommender  # noqa: F401

    torch.set_num_threads(1)


READERS = (
    Reader(name="llms", write=_write_llm, read=_read_llm, inputs=30, prepare=_prepare_llm, load=_loaded),
    Reader(
        name="trained",
        write=_write_trained,
        read=_read_trained,
        inputs=30,
        prepare=_prepare_trained,
        load=_loaded,
    ),
    Reader(
        name="exported",
        write=_write_exported,
        read=_read_exported,
        inputs=40,
        prepare=_prepare_exported,
        load=_loaded,
    ),
)
