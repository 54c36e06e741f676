"""Loading a model of sentence-transformers, part by part: what is refused, and what is checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from illmrec.errors import InputError
from illmrec.features import checkpoint, hub, model_files
from illmrec.features.sources import quiet
from illmrec.files import is_folder

_PROBES = ("a red mug", "2 bags")


def load_sentence_model(folder: Path, *, name: str, device: str) -> Any:
    """Load a model of sentence-transformers, or the encoder of one of transformers, and check that it is whole.

    Code that comes with a model is never run.

    Args:
        folder: Where its files are.
        name: What the user asked for.
        device: Torch device.

    Returns:
        A ``SentenceTransformer``.

    Raises:
        InputError: One line that names the file and the remedy, for everything that is not a whole encoder.
    """
    subject = f"encoder {name} could not be loaded"
    parts = _check_parts(folder, subject)
    with checkpoint.loading(subject=subject, folder=folder), quiet():
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"ignore_mismatched_sizes": True},  # the check below names the weight
        )
        _check_arrived(model, folder, parts, subject)
        _check_vocabularies(model, subject)
        checkpoint.check_values(model, subject=subject)
        first, second = model.encode(list(_PROBES), show_progress_bar=False)
    if (first == second).all():
        raise InputError(
            f"{subject}: {_PROBES[0]!r} and {_PROBES[1]!r} have the same features; give the model's own "
            "tokenizer files"
        )
    return model


def _check_parts(folder: Path, subject: str) -> list[str]:
    """Check the files of every part of a model; return the parts that have weights."""
    model_files.check_descriptions(folder, subject=subject)
    if not any((folder / name).exists() for name in ("modules.json", "config.json")):
        raise InputError(
            f"{subject}: it holds neither modules.json nor config.json; give a folder with a model"
        )
    parts = hub.weighted_parts(folder, subject=subject)
    for part in parts:
        place, named = folder / part, f"{subject}: {part}" if part else subject
        if not is_folder(place):
            raise InputError(f"{named} is not there, but modules.json names it; fetch the whole folder again")
        model_files.check_descriptions(place, subject=named)
        if (place / model_files.ADAPTER).exists():
            raise InputError(f"{named}: {model_files.IS_ADAPTER}")
        model_files.check_weights(place, subject=named)
    return parts


def _check_arrived(model: Any, folder: Path, parts: Sequence[str], subject: str) -> None:
    """Check that the weights of transformers' models inside came from the files; other parts check it themselves.

    sentence-transformers does not tell, so that the names are compared by a second loading that reads no weights.
    """
    from transformers import PreTrainedModel

    kinds: dict[Any, Any] = {
        module.config.model_type: type(module)
        for module in reversed(list(model.modules()))
        if isinstance(module, PreTrainedModel)
    }
    # A pooler that nothing reads is often left out of checkpoints; CLIP's output goes by the same name and is read.
    reads_pooler = any(
        "pooler_output" in str(getattr(module, "modality_config", "")) for module in model.modules()
    )
    unused = None if reads_pooler else re.compile(r"(^|\.)pooler\.")
    for part in parts:
        place, named = folder / part, f"{subject}: {part}" if part else subject
        config = (
            model_files.read_json(place / "config.json", subject=named)
            if (place / "config.json").exists()
            else {}
        )
        if kinds and "model_type" in config:
            kind = kinds.get(config["model_type"], next(iter(kinds.values())))
            found: Any = kind.from_pretrained(
                place,
                device_map="meta",
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            bare, loaded = found
            checkpoint.check_loaded(bare, loaded, subject=named, unused=unused)


def _check_vocabularies(model: Any, subject: str) -> None:
    """Check that every token of every tokenizer inside has a row in the table that it is looked up in."""
    for module in model.modules():
        tokenizer, wrapped = getattr(module, "tokenizer", None), getattr(module, "auto_model", None)
        if not hasattr(tokenizer, "get_vocab"):
            continue
        if wrapped is not None:
            table = getattr(wrapped, "text_model", wrapped).get_input_embeddings()
        else:
            table = getattr(module, "embedding", None)  # of a static model
        if table is not None:
            checkpoint.check_vocabulary(tokenizer, len(table.weight), subject=subject, padded=True)
