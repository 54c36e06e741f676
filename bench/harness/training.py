"""Methods trained as their cells say, or found trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.positions import prompt_costs, warn_of_dropped
from bench.harness.workspace import Workspace
from bench.protocol.evaluation import Scorer
from bench.store.cell import Cell, Record
from bench.store.store import Store
from illmrec import checksums
from illmrec.assembly import FORM, ModelConfig, build_model, load_representation
from illmrec.data.dataset import DAY, Dataset
from illmrec.features.table import FeatureTable
from illmrec.files import atomic_write_text
from illmrec.model import processes
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import reads_llm
from illmrec.network_folders import remove_directory
from illmrec.saved_model import load_parameters, save_model
from illmrec.training import CachedTrainer, Trainer, TrainingOptions

_TRAINING = "training.json"


def recbole_options(cell: Cell) -> Any:
    """Return the options of the sequential model that a cell names."""
    from baselines.recbole_options import RecBoleOptions

    own = {field.name for field in fields(RecBoleOptions)}
    return RecBoleOptions(**{name: value for name, value in cell.config["training"].items() if name in own})


def trained_recbole_method(cell: Cell, workspace: Workspace) -> tuple[Scorer, dict[str, Any]]:
    """Return a sequential model, trained, and what its training reported."""
    from baselines.recbole_cache import trained_recbole  # RecBole is an extra

    sampled = workspace.negatives(cell.seed, "valid")
    with processes.main_first():
        model = trained_recbole(
            workspace.dataset,
            workspace.split,
            options=recbole_options(cell),
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
        "converged": record.epochs - record.best_epoch >= model.options.patience,
        "parameters": model.parameters,
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
        **{name: config.get(name, usual) for name, usual in FORM.items()},
        readout=config.get("readout", "last"),
        slot_content=config.get("slot_content", "features"),
        seed=seed,
        strategy=options.tunes,
        lora_rank=options.lora_rank,
        lora_alpha=options.lora_alpha,
    )


def built_model(cell: Cell, workspace: Workspace) -> ILLMRec:
    """Return the untrained model of an LLM method's cell."""
    config, features, has_image, dataset = _parts(cell, workspace)
    model = build_model(
        config, dataset=dataset, backbone=workspace.backbone, features=features, has_image=has_image
    )
    model.engine.checkpointing = workspace.settings.checkpointing
    return model


def trainer_of(
    cell: Cell,
    workspace: Workspace,
    model: ILLMRec,
    *,
    checkpoint: Path | None = None,
    look: Callable[[int, float], None] | None = None,
    other_seeds: Sequence[int] = (),
) -> Trainer | CachedTrainer:
    """Return what trains the model of an LLM method's cell.

    Args:
        cell: The cell.
        workspace: Data and features.
        model: What :func:`built_model` returned.
        checkpoint: Folder for the state of an unfinished training, or ``None``.
        look: Of stored states: is told the number and the validation NDCG@10 of each epoch.
        other_seeds: Of stored states: seeds that are trained by the same options after this.
    """
    options = TrainingOptions(**cell.config["training"])
    arguments: dict[str, Any] = {
        "model": model,
        "split": workspace.split,
        "options": options,
        "seed": cell.base_seed,
        "negatives": workspace.negatives(cell.base_seed, "valid"),
        "checkpoint": checkpoint,
        "progress": workspace.settings.progress,
    }
    if options.strategy == "cached":
        return CachedTrainer(**arguments, look=look, other_seeds=other_seeds)
    return Trainer(**arguments)


def model_folder(store: Store, cell: Cell | Record) -> Path:
    """Return the folder of the trained parameters that an accuracy cell evaluates; it may not exist.

    Evaluation options are not part of a trained model, and neither is which targets are tested: another choice of them
    trains nothing again.
    """
    config = {name: value for name, value in cell.config.items() if name != "evaluation"}
    config["dataset"] = trained_on(config["dataset"])
    return store.artifact("model", {**config, "version": cell.version})


def unfinished(directory: Path) -> Path:
    """Return the folder for the state of an unfinished training.

    Args:
        directory: Where the trained model would be.
    """
    return directory.with_name(f"{directory.name}.unfinished")


def discard(directory: Path) -> None:
    """Remove such a folder, if it is there."""
    if processes.is_main() and directory.exists():
        remove_directory(directory)


def note_results(store: Store, record: Record) -> None:
    """Write an accuracy cell's results beside the model that it evaluates, if it has one: its card tells them."""
    folder = model_folder(store, record)
    note = folder / "results" / f"{record.key}.json"
    told = {
        "method": record.method,
        "seed": record.seed,
        "evaluation": record.config.get("evaluation", {}),
        "results": record.results,
        "git_commit": record.git_commit,
        "created": record.created,
    }
    text = json.dumps(checksums.with_checksum(told), indent=1) + "\n"
    if processes.is_main() and folder.is_dir() and (not note.is_file() or note.read_bytes() != text.encode()):
        atomic_write_text(note, text)


def trained_on(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data set of a cell as that of its training, which knows nothing of the targets of the test."""
    if not dataset["fingerprint"].endswith(DAY):
        return dict(dataset)
    found = {**dataset, **{name: dataset[name].removesuffix(DAY) for name in ("name", "fingerprint")}}
    variant = dataset.get("variant", {})
    if "of" in variant:
        found["variant"] = {**variant, "of": variant["of"].removesuffix(DAY)}
    return found


def trained_llm_method(
    cell: Cell, workspace: Workspace, directory: Path, *, other_seeds: Sequence[int] = ()
) -> tuple[ILLMRec, dict[str, Any]]:
    """Return an LLM method's model, trained or found in a folder, and what its training reported.

    Args:
        cell: The cell.
        workspace: Data, features and LLM.
        directory: Where the model is, or will be.
        other_seeds: Seeds of cells that are otherwise the same and will be trained after this one.
    """
    config, features, _, dataset = _parts(cell, workspace)
    model = built_model(cell, workspace)
    if processes.of_main([(directory / _TRAINING).exists()])[0]:
        load_parameters(model, directory, features={name: table.values for name, table in features.items()})
        return model, checksums.read_json(
            directory / _TRAINING, remedy=f"delete the folder {directory} to train it again"
        )
    if reads_llm(model.readout):  # said before hours of training, and not after them
        costs = prompt_costs(model, workspace, workspace.users(cell.base_seed))
        warn_of_dropped(cell, costs, workspace=workspace)
    trainer = trainer_of(cell, workspace, model, checkpoint=unfinished(directory), other_seeds=other_seeds)
    report = trainer.run()
    training: dict[str, Any] = {
        **report.described(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if processes.is_main():
        with checksums.sealed_directory(directory) as folder:
            save_model(
                folder,
                model=model,
                config=config,
                dataset=dataset,
                dataset_arguments=workspace.settings.dataset_arguments(),
                backbone=workspace.backbone_arguments,
                encoders=workspace.encoders,
                features=features,
                training={"options": trainer.options.described(), "report": asdict(report)},
            )
            (folder / _TRAINING).write_text(json.dumps(training))
    trainer.discard_checkpoint()
    return model, training


def _parts(
    cell: Cell, workspace: Workspace
) -> tuple[ModelConfig, dict[str, FeatureTable], np.ndarray, Dataset]:
    """Return what a model is built from."""
    config = model_config(cell.config, seed=cell.base_seed)
    representation = load_representation(config.representation)
    workspace.check_pictured(method=cell.method, shown=representation.slots, scoring=config.heads)
    features, has_image = workspace.features((*representation.slots, *config.heads), seed=cell.base_seed)
    return config, features, has_image, workspace.dataset_of(representation)
