"""The accuracy of one method: train it or find it trained, rank every user's target, keep the ranks.

All experiments on accuracy share these cells, so that row (e) of the ablation is I-LLMRec of the comparison.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from baselines.popularity import Popularity, Random
from bench.harness.workspace import Workspace
from bench.protocol import metrics
from bench.protocol.evaluation import Scorer, evaluate
from bench.store.cell import Cell, Outcome
from bench.store.store import Store
from illmrec.assembly import ModelConfig, build_model, load_representation
from illmrec.errors import InputError, nearest
from illmrec.files import atomic_directory
from illmrec.model import processes
from illmrec.model.illmrec import ILLMRec
from illmrec.recommender import load_parameters, save_model
from illmrec.states.encoding import encode_positions
from illmrec.states.positions import evaluation_positions
from illmrec.states.scorer import StoredScorer
from illmrec.training import CachedTrainer, Trainer, TrainingOptions
from illmrec.training.options import CachedOptions

logger = logging.getLogger(__name__)

EXPERIMENT = "accuracy"
VERSION = 2

_TRAINING = "training.json"

FEATURES = ("image", "cf", "text")

REPRESENTATIONS = {
    "illmrec": "illmrec.prompts.segments:ImageRepresentation",
    "illmrec+": "illmrec.prompts.segments:ImageDescriptionRepresentation",
    "tallrec": "baselines.text_prompts:TALLRec",
    "trsr": "baselines.text_prompts:TRSR",
    "full-description": "baselines.text_prompts:FullDescription",
    "title": "baselines.text_prompts:TitleOnly",
}
"""The LLM methods: they differ in nothing but how an item is shown."""

RECBOLE = ("sasrec", "gru4rec")
FLOORS = ("popularity", "random")
METHODS = (*REPRESENTATIONS, *RECBOLE, *FLOORS)


def check_method(name: str) -> str:
    """Return the method's name if there is such a method or it is a representation, ``package.module:Class``.

    Raises:
        InputError: If there is none, with the nearest valid name.
    """
    if name in METHODS:
        return name
    if ":" in name:
        load_representation(name)
        return name
    raise InputError(f"unknown method '{name}': {nearest(name, METHODS)}, or package.module:Class")


def check_features(names: Sequence[str]) -> list[str]:
    """Return feature types in their usual order, each once.

    Raises:
        InputError: If there is none, or one is unknown, with the nearest valid name.
    """
    for name in names:
        if name not in FEATURES:
            raise InputError(f"--features {name}: {nearest(name, FEATURES)}")
    if not names:
        raise InputError(f"--features: give at least one of {', '.join(FEATURES)}")
    return [name for name in FEATURES if name in names]


def is_llm_method(name: str) -> bool:
    """Return whether a method shows items to the LLM."""
    return name in REPRESENTATIONS or ":" in name


def check_llm_methods(names: Sequence[str], *, why: str) -> list[str]:
    """Return the names of LLM methods, each once.

    Args:
        names: As a user gave them.
        why: What only LLM methods do that the experiment needs, such as ``show items in tokens``.

    Raises:
        InputError: If there is none, or one is unknown or no LLM method.
    """
    for name in names:
        if not is_llm_method(check_method(name)):
            raise InputError(f"--methods {name}: only LLM methods {why}; leave it out")
    if not names:
        raise InputError("--methods: give at least one LLM method, such as illmrec")
    return list(dict.fromkeys(names))


def shows_images(name: str) -> bool:
    """Return whether an LLM method shows items to the LLM by their image, whatever else it shows."""
    return "image" in load_representation(REPRESENTATIONS.get(name, name)).slots


def trains_risa(method: str, risa: bool) -> bool:
    """Return the RISA option of the cell that stands for a row of the ablation.

    Where a frozen LLM reads no slots, RISA changes nothing and rows with and without it are one model: the cell with
    it, which the comparison shows as well.

    Args:
        method: An LLM method.
        risa: Whether the row is one with RISA.
    """
    return risa or not load_representation(REPRESENTATIONS.get(method, method)).slots


def accuracy_cell(
    workspace: Workspace,
    method: str,
    *,
    seed: int,
    risa: bool = True,
    features: Sequence[str] = FEATURES,
    history_length: int | None = None,
    context: int | None = None,
    training: TrainingOptions | None = None,
) -> Cell:
    """Return the cell of a method: everything that its numbers depend on.

    Args:
        workspace: Data, features and LLM.
        method: Name of the method.
        seed: Of candidates, CF features, initial parameters and training.
        risa: Train LLM methods by RISA as well.
        features: Feature types that score items (RERI) in LLM methods.
        history_length: Evaluate an LLM method on so many items of history; None as it was trained.
        context: Evaluate an LLM method in this context budget, in tokens; None as it was trained.
        training: How an LLM method is trained, RISA or not included; None as the settings say.
    """
    settings, dataset = workspace.settings, workspace.dataset
    config: dict[str, Any] = {
        "method": method,
        "seed": seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "evaluation": {"users": settings.eval_users, "negatives": settings.negatives, "part": "test"},
    }
    if workspace.variant:
        config["dataset"]["variant"] = workspace.variant
    limits: dict[str, int] = {}
    if is_llm_method(method):
        given = {"history_length": history_length, "context": context}
        limits = {name: value for name, value in given.items() if value is not None}
        training = training or settings.training(risa=risa)
        risa = training.risa
        config["evaluation"] |= limits
        shown = workspace.shown(REPRESENTATIONS.get(method, method))
        slots = load_representation(shown["representation"]).slots
        if settings.readout != "last":
            config["readout"] = settings.readout
        config |= {
            **shown,
            "llm": workspace.backbone.describe(),
            "encoders": workspace.encoder_identities((*slots, *features)),
            "risa": risa,
            "features": list(features),
            "history_length": settings.history_length,
            "context": settings.context,
            "instruction": settings.instruction,
            "training": training.described(),
        }
        if "summary" in load_representation(config["representation"]).columns:
            config["summarizer"] = workspace.summarizer
        if "cf" in features:
            config["cf"] = workspace.described_recbole("sasrec")
    elif method == "popularity":
        config["ties"] = "drawn"
    elif method in RECBOLE:
        config["training"] = workspace.described_recbole(method)
    parts = f" {'RISA + ' if risa else ''}{'+'.join(features)}" if is_llm_method(method) else ""
    parts += "".join(f" {name} {value}" for name, value in {**workspace.variant, **limits}.items())
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config=config,
        method=method,
        seed=seed,
        dataset=dataset.statistics(),
        label=f"{method}{parts} seed {seed}",
    )


def compute_accuracy(workspace: Workspace, store: Store) -> Callable[[Cell], Outcome]:
    """Return the function that computes an accuracy cell in this workspace."""

    def compute(cell: Cell) -> Outcome:
        users = workspace.users(cell.seed)
        model, training = _trained(cell, workspace, store)
        ranks = evaluate(
            _scorer(model, cell, workspace, users),
            workspace.dataset,
            workspace.split,
            negatives=workspace.negatives(cell.seed),
            users=users,
            progress=workspace.settings.progress,
        )
        sampled = metrics.summarise(ranks["rank_sampled"].to_numpy())
        full = metrics.summarise(ranks["rank_full"].to_numpy())
        results = {"users": len(ranks), "sampled": sampled, "full": full, "training": training}
        if isinstance(model, ILLMRec):
            results["prompt"] = prompt_costs(model, workspace, users)
            if "summarizer" in cell.config:
                results["summaries"] = workspace.summary_report.described()
        logger.info("%s: NDCG@10 %.4f among sampled candidates", cell.label, sampled["ndcg@10"])
        return Outcome(results=results, frames={"ranks": ranks})

    return compute


def _trained(cell: Cell, workspace: Workspace, store: Store) -> tuple[Scorer, dict[str, Any]]:
    """Return a trained method and what its training reported."""
    if cell.method in FLOORS:
        floor = Popularity() if cell.method == "popularity" else Random(seed=cell.seed)
        floor.fit(
            workspace.dataset, workspace.split, seed=cell.seed, negatives=workspace.negatives(cell.seed)
        )
        return floor, {}
    if cell.method in RECBOLE:
        return _recbole(cell, workspace)
    # Evaluation options are not part of a trained model: a sweep over them trains nothing again.
    config = {name: value for name, value in cell.config.items() if name != "evaluation"}
    model, training = _llm_method(cell, workspace, store.artifact("model", config))
    model.limit(**_limits(cell))
    return model, training


def _scorer(method: Scorer, cell: Cell, workspace: Workspace, users: np.ndarray) -> Scorer:
    """Return what scores users: a method itself, or the stored states of one that was trained on such.

    A sweep over lengths or contexts reads other prompts than were stored.
    """
    strategy = cell.config.get("training", {}).get("strategy")
    if not isinstance(method, ILLMRec) or strategy != "cached" or any(_limits(cell).values()):
        return method
    positions = evaluation_positions(workspace.split, "test", length=method.history_length, users=users)
    options = TrainingOptions(**cell.config["training"]).cached
    table = encode_positions(
        method,
        positions,
        dtype=CachedOptions().state_dtype if options is None else options.state_dtype,
        progress=workspace.settings.progress,
    )
    return StoredScorer(model=method, positions=positions, table=table)


def _limits(cell: Cell) -> dict[str, int | None]:
    """Return the evaluation options by which a model reads less than it was trained on."""
    return {name: cell.config["evaluation"].get(name) for name in ("history_length", "context")}


def _recbole(cell: Cell, workspace: Workspace) -> tuple[Scorer, dict[str, Any]]:
    from baselines.recbole_cache import trained_recbole  # RecBole is an extra

    sampled = workspace.negatives(cell.seed)
    with processes.main_first():
        model = trained_recbole(
            workspace.dataset,
            workspace.split,
            options=workspace.recbole_options(cell.method),
            seed=cell.seed,
            negatives=sampled,
            device=workspace.device,
            progress=workspace.settings.progress,
        )
    record = model.record
    if record is None:
        return model, {}
    return model, {
        "epochs": record.epochs,
        "best_epoch": record.best_epoch,
        "targets": record.epochs * record.targets_per_epoch,
        "seconds": record.seconds,
        "valid_ndcg@10": record.validation_ndcg10[record.best_epoch - 1],
    }


def model_config(config: Mapping[str, Any], *, seed: int) -> ModelConfig:
    """Return what the model of an LLM method's cell is.

    Args:
        config: The cell's configuration.
        seed: The cell's seed.
    """
    options = TrainingOptions(**config["training"])
    return ModelConfig(
        representation=config["representation"],
        heads=tuple(config["features"]),
        context=config["context"],
        instruction=config["instruction"],
        history_length=config["history_length"],
        readout=config.get("readout", "last"),
        seed=seed,
        strategy=options.strategy,
        lora_rank=options.lora_rank,
        lora_alpha=options.lora_alpha,
    )


def _llm_method(cell: Cell, workspace: Workspace, directory: Path) -> tuple[ILLMRec, dict[str, Any]]:
    options = TrainingOptions(**cell.config["training"])
    config = model_config(cell.config, seed=cell.seed)
    representation = load_representation(config.representation)
    features, has_image = workspace.features((*representation.slots, *config.heads), seed=cell.seed)
    dataset = workspace.dataset_of(representation)
    model = build_model(
        config, dataset=dataset, backbone=workspace.backbone, features=features, has_image=has_image
    )
    model.engine.checkpointing = workspace.settings.checkpointing
    if processes.of_main([(directory / _TRAINING).exists()])[0]:
        load_parameters(model, directory, features={name: table.values for name, table in features.items()})
        return model, json.loads((directory / _TRAINING).read_text())
    trainer = (CachedTrainer if options.strategy == "cached" else Trainer)(
        model=model,
        split=workspace.split,
        options=options,
        seed=cell.seed,
        negatives=workspace.negatives(cell.seed),
        checkpoint=directory.with_name(f"{directory.name}.unfinished"),
        progress=workspace.settings.progress,
    )
    report = trainer.run()
    training: dict[str, Any] = {
        **report.described(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if processes.is_main():
        with atomic_directory(directory) as folder:
            save_model(
                folder,
                model=model,
                config=config,
                dataset=dataset,
                dataset_arguments=workspace.settings.dataset_arguments(),
                backbone=workspace.backbone_arguments,
                encoders=workspace.encoders,
                features=features,
                training={"options": options.described(), "report": asdict(report)},
            )
            (folder / _TRAINING).write_text(json.dumps(training))
    trainer.discard_checkpoint()
    return model, training


def prompt_costs(model: ILLMRec, workspace: Workspace, users: np.ndarray) -> dict[str, float]:
    """Return per user, on average: tokens of the prompt, and items and tokens that the context had no room for."""
    prompts = model.prompts
    fitted = [
        prompts.fit(workspace.split.history(int(user), "test"), max_items=model.history_length)
        for user in users
    ]
    return {
        "tokens": float(prompts.token_counts(fitted).mean()),
        "dropped_items": float(np.mean([f.dropped_items for f in fitted])),
        "dropped_tokens": float(np.mean([f.dropped_tokens for f in fitted])),
    }
