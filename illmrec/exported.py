"""A recommender as a folder that stands alone: the model's own files, the items' ids and titles, and a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from illmrec import checksums
from illmrec.data.building import clean_items
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.tables import read_table_file
from illmrec.errors import InputError
from illmrec.features.commits import pinned
from illmrec.files import atomic_directory, is_folder
from illmrec.model.backbone import Backbone
from illmrec.model.hub import AGAIN, CONFIG, SEALED, exported_file
from illmrec.model.illmrec import ILLMRec
from illmrec.model_card import model_card
from illmrec.recommender import Recommender
from illmrec.saved_model import check_model

ITEMS, TRAINING, CARD = "items.parquet", "training.json", "README.md"


def export(folder: Path, target: Path, *, recommender: Recommender) -> None:
    """Write a trained model as a folder that needs neither store nor data set.

    It holds no path of this machine. What it holds of the data are ids and titles of the items, their text as the
    prompts show it (as token ids), and their features; no pictures, no users and no interactions.

    Args:
        folder: Of the trained model, whose options, outcome and results the card tells.
        target: The new folder; what is there is replaced if it is an exported model.
        recommender: What was loaded from the folder.

    Raises:
        InputError: If the target is something else, or cannot be written.
    """
    check_target(target)
    about = told(folder, recommender)
    items = recommender.dataset.items[["item_id", "title"]]
    with atomic_directory(target) as temporary:
        # First, for the mixin would write a card of its own.
        (temporary / CARD).write_text(model_card(about), encoding="utf-8")
        items.to_parquet(temporary / ITEMS, index=False, compression="zstd")
        (temporary / TRAINING).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        recommender.model.save_pretrained(temporary)
        checksums.seal(temporary, *SEALED, ITEMS, TRAINING)  # the card may be written on


def check_target(target: Path) -> None:
    """Raise an ``InputError`` if something lies there that is neither an empty folder nor an exported model."""
    replaceable = target.is_dir() and (not any(target.iterdir()) or is_exported(target))
    if target.exists() and not replaceable:
        raise InputError(f"--to {target}: is there already and is no exported model; give another folder")


def is_exported(folder: Path) -> bool:
    """Tell whether a folder holds an exported model."""
    return (folder / ITEMS).is_file() and (folder / CONFIG).is_file()


def told(folder: Path, recommender: Recommender) -> dict[str, Any]:
    """Return what is known of a trained model: data, how it was trained, and its results.

    Raises:
        InputError: If a file of it cannot be read.
    """
    check_model(folder)
    from illmrec.model.hub import public_name

    saved = _json(folder / "model.json")
    if not saved:
        raise InputError(f"{folder}: is an exported model already; copy the folder")
    dataset = recommender.dataset
    backbone = recommender.model.engine.backbone
    return {
        "dataset": dataset.statistics(),
        "fingerprint": dataset.training_fingerprint,
        "llm": {"name": pinned(public_name(backbone.name), backbone.commit), "layers": backbone.layers},
        "representation": saved["config"]["representation"],
        "heads": list(recommender.model.heads),
        "encoders": {name: public_name(encoder) for name, encoder in saved["encoders"].items()},
        "features": list(saved["features"]),
        "training": _json(folder / "training.json"),
        "options": saved["training"].get("options", {}),
        "results": [_json(path) for path in sorted((folder / "results").glob("*.json"))],
    }


def load_exported(
    source: str, *, backbone: Backbone | None = None, llm: str | None = None, device: str = "cpu"
) -> Recommender:
    """Load an exported model.

    Args:
        source: Its folder, or its repository on the hub, ``OWNER/NAME``.
        backbone: Its LLM, if it is loaded already.
        llm: Where its LLM is, if not where its name says.
        device: Where to run.

    Raises:
        InputError: If a file is missing or damaged, or the LLM is another.
    """
    model: ILLMRec = ILLMRec.from_pretrained(source, backbone=backbone, llm=llm, device=device)
    path = exported_file(source, ITEMS)
    if is_folder(source):
        checksums.check(Path(source), ITEMS, TRAINING, remedy=AGAIN)
    try:
        items = clean_items(read_table_file(path)[["item_id", "title"]], file=str(path))[["item_id", "title"]]
    except KeyError as error:
        raise InputError(f"{path}: damaged ({error}); export the model again") from error
    if len(items) != model.n_items:
        raise InputError(f"{path}: has {len(items)} items and the model {model.n_items}; export it again")
    unknown = {name: "" for name in ITEM_COLUMNS if name not in items}
    place = exported_file(source, TRAINING)
    about = _json(place)
    if not isinstance(about.get("dataset"), dict) or not {"dataset"} <= about["dataset"].keys():
        raise InputError(f"{place}: says nothing of the data; export the model again")
    dataset = Dataset(
        name=str(about["dataset"]["dataset"]),
        items=items.assign(**unknown),
        user_ids=np.array([], dtype=object),
        sequence_items=np.array([], dtype=np.int32),
        offsets=np.zeros(1, dtype=np.int64),
        images=None,
        fingerprint=str(about.get("fingerprint", "")),
        dropped={},
    )
    return Recommender(model=model, dataset=dataset)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return checksums.read_json(path, remedy="export the model again, or run again what wrote it")
