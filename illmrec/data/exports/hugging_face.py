"""A data set as a folder that Hugging Face ``datasets`` loads, with a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from illmrec.data.dataset import Dataset
from illmrec.data.exports.tables import candidates, interactions_by_part
from illmrec.files import atomic_directory, atomic_write_text

_SPLITS = {"train": "train", "valid": "validation", "test": "test"}

_CARD = """\
# {name}

{users:,} users, {items:,} items, {interactions:,} interactions, {avg_length} on average; a share of {descriptions:.4g}
of the items has a description. Fingerprint {fingerprint}.

| configuration | content |
|---|---|
| `interactions` | `user_id`, `item_id`, `place` in the user's sequence{time}; {split} |
| `items` | `item_id`, `title`, `brand`, `category`, `description`, `summary` |
| `candidates` | `user_id`, `target`, `candidates` |

Each user's target is ranked among {n} candidates and itself, drawn uniformly from the items that the user never had
to do with (seed {seed}); ties count against it.

Pictures are not part of it. Texts and interactions are the publisher's: see to the licence before you share this
folder.

{origin}
"""


def export_hugging_face(
    dataset: Dataset, out: Path, *, seed: int, n: int, origin: Mapping[str, Any] | None = None, cache: Path
) -> list[str]:
    """Write a data set as Parquet files with a card (``README.md``) and return the files' names.

    Args:
        dataset: The data set.
        out: Folder that becomes theirs; what was in it is replaced.
        seed: Of the candidates.
        n: Candidates of each user beside the target.
        origin: Page, licence and citation of the publisher, for the card.
        cache: Folder that holds drawn candidates.
    """
    with atomic_directory(out) as folder:
        for name in ("interactions", "items", "candidates"):
            (folder / name).mkdir()
        table = interactions_by_part(dataset)
        for part, split in _SPLITS.items():
            rows = table[table["part"] == part].drop(columns="part")
            rows.to_parquet(folder / "interactions" / f"{split}.parquet", index=False)
        columns = ["item_id", "title", "brand", "category", "description", "summary"]
        dataset.items[columns].to_parquet(folder / "items" / "items.parquet", index=False)
        for part in ("valid", "test"):
            found = candidates(dataset, part=part, seed=seed, n=n, cache=cache)  # type: ignore[arg-type]
            found.to_parquet(folder / "candidates" / f"{_SPLITS[part]}.parquet", index=False)
        atomic_write_text(folder / "README.md", card(dataset, seed=seed, n=n, origin=origin or {}))
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def card(dataset: Dataset, *, seed: int, n: int, origin: Mapping[str, Any]) -> str:
    """Return the card of a data set: what ``datasets`` reads, then what people read."""
    splits = list(_SPLITS.values())
    configs = [
        _config("interactions", {split: f"interactions/{split}.parquet" for split in splits}, default=True),
        _config("items", {"items": "items/items.parquet"}),
        _config("candidates", {split: f"candidates/{split}.parquet" for split in splits[1:]}),
    ]
    head: dict[str, Any] = {"pretty_name": dataset.name, "configs": configs, "tags": ["recommendation"]}
    if origin.get("licence"):
        head["license"] = "other"
        head["license_name"] = origin["licence"]
    statistics = dataset.statistics()
    said = [
        f"{name.replace('_', ' ')}: {origin[name]}"
        for name in ("page", "licence", "licence_note", "citation")
        if origin.get(name)
    ]
    text = _CARD.format(
        **{**statistics, "name": dataset.name},
        fingerprint=dataset.fingerprint,
        time=", `timestamp`" if dataset.times is not None else "",
        split="the last item of a user is tested, the one before it validates"
        if dataset.points is None
        else "all users are split at the same two moments",
        n=n,
        seed=seed,
        origin="\n".join(f"- {line}" for line in said) or "The data are the user's own.",
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}"


def _config(name: str, files: Mapping[str, str], *, default: bool = False) -> dict[str, Any]:
    entry = {
        "config_name": name,
        "data_files": [{"split": split, "path": path} for split, path in files.items()],
    }
    return entry | ({"default": True} if default else {})
