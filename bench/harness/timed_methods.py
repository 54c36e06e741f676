"""What is timed of a method: what its cost depends on, a model that has learnt nothing, and its work for some users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from baselines import a_llmrec
from baselines.factor_training import FactorScorer
from baselines.generative.tiger_model import TigerScorer
from baselines.generative.written_items import WritingModel
from bench.harness.floors import described_floor, fitted_floor
from bench.harness.idgenrec import described_untrained_idgenrec, untrained_idgenrec
from bench.harness.lcrec import described_untrained_lcrec, untrained_lcrec
from bench.harness.methods import (
    CONTROLS,
    FLOORS,
    GENERATIVE,
    MULTIMODAL,
    RECBOLE,
    TEXTUAL_IDS,
    TOKEN_SCORED,
    WRITERS,
    representation_of,
)
from bench.harness.multimodal import described_multimodal, untrained_multimodal
from bench.harness.pictures import has_pictures
from bench.harness.workspace import Workspace
from bench.meters.scored_histories import ScoredHistories
from bench.meters.time_and_memory import BYTES_PER_MB
from bench.meters.turns import AnyPrompts, Prompts, UnreadPrompts
from bench.meters.written_prompts import WrittenPrompts
from bench.store.cell import Cell
from bench.store.provenance import machine
from illmrec.assembly import ModelConfig, build_model, load_representation
from illmrec.data.dataset import Dataset
from illmrec.features.table import FeatureTable
from illmrec.model.heads import ITEM_TOKEN
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import Readout, reads_llm

HEADS = ("image", "cf", "text")
"""Feature types that score items, those of the methods as they are trained."""
TRAINED_WIDTHS = {"cf": 64, "aligned": a_llmrec.WIDTH}
"""Widths of features that are trained on interactions; values do not matter for cost, and none is trained for it."""


def reads_prompts(method: str) -> bool:
    """Return whether the LLM reads a prompt for a user."""
    if method in CONTROLS:
        return reads_llm(CONTROLS[method].readout or "last")
    return method not in (*FLOORS, *RECBOLE, *MULTIMODAL)


def conditions(workspace: Workspace, method: str, length: int, users: np.ndarray) -> dict[str, Any]:
    """Return what the cost of a method's prompts depends on besides what it shows, for a cell's configuration.

    Args:
        workspace: Data, features and LLM.
        method: Name of the method.
        length: Items of history that are read.
        users: Whose.
    """
    settings, dataset = workspace.settings, workspace.dataset
    prompted = {
        "llm": workspace.backbone.describe(),
        "encoders": workspace.encoder_identities(heads(dataset)),
        "heads": (ITEM_TOKEN,) if method in TOKEN_SCORED else heads(dataset),
        "context": settings.context,
        "instruction": settings.instruction,
    }
    return {
        "seed": 0,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        **(prompted if reads_prompts(method) else {}),
        "device": workspace.device,
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "method": method,
        "history_length": length,
        "users": [str(dataset.user_ids[user]) for user in users],
    }


def described(workspace: Workspace, method: str) -> dict[str, Any]:
    """Return what a method is, as far as its cost depends on it, for a cell's configuration.

    Args:
        workspace: Data, features and LLM.
        method: Name of the method.
    """
    if method in GENERATIVE:
        return {"representation": method, "generative": described_untrained_lcrec()}
    if method in TEXTUAL_IDS:
        return {"representation": method, "idgenrec": described_untrained_idgenrec()}
    if method in MULTIMODAL:
        return described_multimodal(method, workspace, parameters={})
    if method in RECBOLE:
        return {"training": workspace.described_recbole(method)}
    if method in FLOORS:
        read = heads(workspace.dataset)
        return described_floor(method, workspace, features=read, parameters={})
    shown = workspace.shown(representation_of(method))
    readout = CONTROLS[method].readout if method in CONTROLS else None
    if not reads_prompts(method):
        read = heads(workspace.dataset)
        return {
            "representation": shown["representation"],
            "readout": readout,
            "encoders": workspace.encoder_identities(read),
            "heads": read,
        }
    return {**shown, "readout": readout} if readout else shown


def heads(dataset: Dataset) -> tuple[str, ...]:
    """Return the feature types that score items: all, or all but images where there are none."""
    return tuple(name for name in HEADS if has_pictures(dataset) or name != "image")


def shared_model(cell: Cell, workspace: Workspace) -> tuple[Any, ...]:
    """Return what cells have in common that are timed with one model.

    Args:
        cell: What :func:`~bench.harness.timing.efficiency_cell` returned.
        workspace: Its data, features and LLM.
    """
    config = cell.config
    if "representation" not in config:
        return (id(workspace.dataset), cell.method)
    image = config["encoders"].get("image", "")
    return (id(workspace.backbone), image, config["representation"], config.get("readout"))


def untrained(cell: Cell, workspace: Workspace, *, history_length: int) -> Any:
    """Return the model of a cell with parameters that are made up; floors are fitted.

    Args:
        cell: What :func:`~bench.harness.timing.efficiency_cell` returned.
        workspace: Its data, features and LLM.
        history_length: Items of history that the LLM reads at most.

    Raises:
        InputError: If what runs the method is not installed.
        UnsupportedError: If the data lack what the method reads.
    """
    method, config = cell.method, cell.config
    if method in WRITERS:
        return untrained_writer(method, workspace, history_length=history_length)
    if method in MULTIMODAL:
        return untrained_multimodal(method, config, workspace)
    if method in RECBOLE:
        from baselines.recbole_models import RecBoleRecommender  # RecBole is an extra

        return RecBoleRecommender.untrained(
            options=workspace.recbole_options(method),
            n_items=workspace.dataset.n_items,
            device=workspace.device,
        )
    if method in FLOORS:
        return fitted_floor(cell, workspace)
    return untrained_model(
        workspace,
        config["representation"],
        heads=config["heads"],
        history_length=history_length,
        readout=config.get("readout", "last"),
    )


def untrained_writer(method: str, workspace: Workspace, *, history_length: int) -> WritingModel:
    """Return a model that writes the next item and has learnt nothing.

    Args:
        method: Name of the method.
        workspace: Data and LLM.
        history_length: Items of history that are read at most.
    """
    build = untrained_lcrec if method in GENERATIVE else untrained_idgenrec
    return build(workspace, history_length=history_length)


def timed_prompts(cell: Cell, workspace: Workspace, model: Any) -> AnyPrompts:
    """Return what is timed of a cell.

    Args:
        cell: What :func:`~bench.harness.timing.efficiency_cell` returned.
        workspace: Its data and LLM.
        model: What :func:`untrained` returned.
    """
    config, split = cell.config, workspace.split
    users = np.flatnonzero(np.isin(np.asarray(workspace.dataset.user_ids, dtype=str), config["users"]))
    work: dict[str, Any] = {
        "name": cell.label,
        "model": model,
        "histories": [split.history(int(user), "test")[-config["history_length"] :] for user in users],
        "batch_users": config["batch_users"],
    }
    if cell.method in WRITERS:
        return WrittenPrompts(**work)
    if not isinstance(model, ILLMRec):
        work |= {"users": users, "held_mb": _held_mb(model), "device": torch.device(workspace.device)}
        if isinstance(model, TigerScorer):
            levels = model.network.tokens.shape[1]
            work |= {"tokens_per_item": levels, "written_tokens": model.tokens_per_user}
        return ScoredHistories(**work)
    if not reads_llm(model.readout):
        return UnreadPrompts(**work, builder=model.prompts)
    context = config["context"]
    return Prompts(**work, builder=model.prompts if context is None else model.prompts.with_context(context))


def _held_mb(model: Any) -> float | None:
    """Return what a model's parameters take; of floors nobody counts it."""
    if isinstance(model, FactorScorer):
        return model.held_bytes / BYTES_PER_MB
    if isinstance(model, TigerScorer):
        held = [*model.network.parameters(), *model.network.buffers()]
        return sum(part.numel() * part.element_size() for part in held) / BYTES_PER_MB
    parameters = getattr(model, "parameters", None)
    return None if parameters is None else 4.0 * parameters / BYTES_PER_MB  # RecBole's, in float32


def untrained_model(
    workspace: Workspace,
    representation: str,
    *,
    heads: Sequence[str],
    history_length: int,
    readout: Readout = "last",
) -> ILLMRec:
    """Return a method's model with made-up parameters and trained features: cost does not depend on them.

    Args:
        workspace: Data, features and LLM.
        representation: ``package.module:Class``.
        heads: Feature types that score items.
        history_length: Items of history that are read.
        readout: What of a history is projected.

    Raises:
        UnsupportedError: If the data lack what the representation shows.
    """
    loaded = load_representation(representation)
    wanted = list(dict.fromkeys((*loaded.slots, *heads)))
    features, has_image = workspace.features([name for name in wanted if name not in TRAINED_WIDTHS], seed=0)
    n_items = workspace.dataset.n_items
    for name in TRAINED_WIDTHS.keys() & set(wanted):
        values = np.random.default_rng(0).standard_normal((n_items, TRAINED_WIDTHS[name])).astype(np.float32)
        present = np.ones(n_items, dtype=bool)
        features[name] = FeatureTable(values=values, present=present, key="made up", meta={})
    config = ModelConfig(
        representation=representation,
        heads=tuple(heads),
        context=workspace.settings.context,
        instruction=workspace.settings.instruction,
        history_length=history_length,
        readout=readout,
    )
    return build_model(
        config,
        dataset=workspace.dataset_of(loaded),
        backbone=workspace.backbone,
        features={name: features[name] for name in wanted if name in features},
        has_image=has_image,
    ).eval()
