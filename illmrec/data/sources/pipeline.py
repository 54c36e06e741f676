"""All steps of a published data set: from its files to a folder that experiments read, resumable, with counts."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from illmrec.data.dataset import Dataset
from illmrec.data.fetching.pictures import Limits, Wanted, download_pictures, may_pass, picture_files
from illmrec.data.fetching.transport import AddressRules
from illmrec.data.folder import load_folder
from illmrec.data.picture_files import LOW_RESOLUTION
from illmrec.data.registry import RULES, Source
from illmrec.data.sources.cleaning import CleaningStep, clean_texts
from illmrec.data.sources.filtering import (
    Interactions,
    Repeats,
    apply_rules,
    drop_repeats,
    items_with,
    load_interactions,
    picture_names,
    texts_of,
)
from illmrec.data.sources.lines import TextFile
from illmrec.data.sources.parsing import Parsed, Shard, parse
from illmrec.data.sources.picture_stores import FetchedPictures, LocalPictures, PictureStore
from illmrec.data.sources.places import built_folder, pictures_place, texts, work_folder
from illmrec.data.sources.writing import (
    check_tables,
    item_order,
    read_note,
    terms,
    write_note,
    write_pictures,
    write_tables,
)
from illmrec.errors import DamagedError, InputError, nearest
from illmrec.files import atomic_directory, hash_json
from illmrec.locks import exclusive

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised where the same files and options would give other data."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What changes the data that come out.

    Attributes:
        min_interactions: The k of the iterative k-core on users and items.
        require: What items have to have, of title, image-url, description, image; "none" takes what the registry says.
        repeats: Of a user's interactions with an item, keep all that are at different times, or the first alone.
        images: download fetches those that are addresses and takes those that are files; none does without pictures.
        low_resolution: Fetch the shop's small pictures as well, into images-low.zip, which bench.image_quality reads.
        clean: Steps that texts go through, of entities, tags, boilerplate, whitespace and length; the paper has none.
        max_words: Words that the step length leaves of a description.
        max_bad_lines: Lines of a file that cannot be read and are left out; more are an error.
    """

    min_interactions: int = 5
    require: tuple[str, ...] | None = None
    repeats: Repeats = "keep"
    images: Literal["download", "none"] = "download"
    low_resolution: bool = False
    clean: tuple[CleaningStep, ...] = ()
    max_words: int = 500
    max_bad_lines: int = 100

    def __post_init__(self) -> None:
        for name, least in (("min_interactions", 1), ("max_words", 1), ("max_bad_lines", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: give {least} or more")
        for rule in self.require or ():
            if rule not in RULES:
                raise InputError(f"--require: unknown rule '{rule}': {nearest(rule, RULES)}")


@dataclass(kw_only=True)
class Build:
    """A run of the steps.

    Attributes:
        source: The data set.
        options: What changes the data.
        directory: Folder with the publisher's files; None fetches them.
        picture_folder: Folder or zip file with pictures that the user has.
        shard: ``(i, n)``: read every n-th part of the files and fetch every n-th picture, and stop before writing.
        workers: Threads that read.
        retry_missing: Ask again for pictures that were not to be had.
        limits: How much is asked of hosts.
        rules: Which addresses may be connected to.
        progress: Show bars.
        seconds: What each step took.
        again: Pictures that another run may still get.
    """

    source: Source
    options: BuildOptions = field(default_factory=BuildOptions)
    directory: Path | None = None
    picture_folder: Path | None = None
    shard: Shard | None = None
    workers: int = 2
    retry_missing: bool = False
    limits: Limits = field(default_factory=Limits)
    rules: AddressRules = field(default_factory=AddressRules)
    progress: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    again: int = 0

    def run(self) -> Path | None:
        """Run all steps and return the folder, or None where a shard is done and others are not.

        What was built from the same files with the same options is not built again, unless pictures may still be had.

        Raises:
            InputError: If a file or an option cannot be used, or nothing is left.
        """
        target = built_folder(self.source.name)
        with self._timed("files"):
            files = texts(self.source, directory=self.directory, rules=self.rules, progress=self.progress)
            place = self._pictures_place()
        key = self._key(files, place)
        note = self._built_before(target)
        if note is not None and note["key"] == key and not (note["again"] or self.retry_missing):
            logger.info("%s: built before from the same files with the same options", self.source.name)
            return target
        # Shards run beside each other; each writes files of its own.
        with exclusive(target, self.source.name) if self.shard is None else nullcontext():
            with self._timed("parse"):
                parsed = {
                    role: parse(
                        file,
                        getattr(self.source, role),
                        role=role,
                        folder=work_folder(self.source.name),
                        max_bad_lines=self.options.max_bad_lines,
                        shard=self.shard or (1, 1),
                        workers=self.workers,
                        progress=self.progress,
                    )
                    for role, file in files.items()
                }
            if not all(done.complete for done in parsed.values()):
                logger.info("%s: parts of other shards are still to be read", self.source.name)
                return None
            return self._build(
                parsed, place, target=target, key=key, files=[file.path.name for file in files.values()]
            )

    def _build(
        self, parsed: dict[str, Parsed], place: Path | None, *, target: Path, key: str, files: list[str]
    ) -> Path | None:
        with self._timed("filter"):
            found = self._filtered(parsed)
        with self._timed("pictures"):
            stores = self._pictures(found, parsed["items"], place)
            if self.shard is not None:
                logger.info(
                    "%s: the shard is done; after all others run it without --shard", self.source.name
                )
                return None
            self._after_pictures(found, stores)
        if not found.kept.any():
            raise InputError(
                f"{self.source.name}: nothing is left where every user and item has {self.options.min_interactions} "
                f"interactions; {'; '.join(f'{step.name} left {step.interactions:,}' for step in found.steps)}"
            )
        with self._timed("write"), atomic_directory(target) as folder:
            wanted = item_order(found)
            items, cleaned = clean_texts(
                texts_of(parsed["items"], self.source, wanted),
                self.options.clean,
                max_words=self.options.max_words,
            )
            write_tables(folder, found, items)
            item_ids = items["item_id"].tolist()
            for name, store in stores.items():
                write_pictures(folder, store, item_ids, name=name)
            dataset = self._verified(folder, found)
            note = self._note(found, stores, parsed, dataset)
            write_note(folder, note | {"key": key, "files": files, "cleaned": cleaned, "again": self.again})
        return target

    def _built_before(self, target: Path) -> dict[str, Any] | None:
        """Return the note of what is built; None where there is none, or where the log says that it is damaged."""
        try:
            check_tables(target)
            return read_note(target)
        except DamagedError as error:
            logger.warning("%s: it is built again", str(error).partition("; ")[0])
            return None

    def _key(self, files: dict[str, TextFile], place: Path | None) -> str:
        """Return digits over all that the data depend on; of a folder of pictures over its path alone."""
        pictures = str(place) if place is None or place.is_dir() else TextFile(path=place).identity()
        described = json.loads(json.dumps([asdict(self.source), asdict(self.options)], default=dict))
        identities = {role: file.identity() for role, file in files.items()}
        return hash_json([VERSION, described, identities, pictures])

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - start, 2)

    def _require(self) -> tuple[str, ...]:
        rules = self.source.require if self.options.require is None else self.options.require
        if self.options.images == "none":
            return tuple(rule for rule in rules if rule != "image")
        return rules

    def _pictures_place(self) -> Path | None:
        if self.options.images == "none":
            return None
        place = pictures_place(
            self.source,
            given=self.picture_folder,
            directory=self.directory,
            rules=self.rules,
            progress=self.progress,
        )
        if place is None and "image" in self._require() and not self.source.items.images:
            raise InputError(
                f"{self.source.name}: no folder or zip file of pictures; give --picture-folder, or --images none to do "
                "without"
            )
        return place

    def _filtered(self, parsed: dict[str, Parsed]) -> Interactions:
        found = load_interactions(parsed["interactions"], self.source)
        has = items_with(parsed["items"], self.source, found.item_ids)
        unused = parsed["items"].rows - int(has["in the file of items"].sum())
        apply_rules(found, has, self._require())
        if unused > 0:
            found.steps[1].notes["rows of items without interactions, or of an item again"] = unused
        self._without_repeats(found)
        found.core(self.options.min_interactions)
        found.record(f"{self.options.min_interactions}-core")
        return found

    def _without_repeats(self, found: Interactions) -> None:
        before = found.kept.copy()
        drop_repeats(found, self.options.repeats)
        step = found.record("deduplicate")
        if not step.dropped:
            return
        after, found.kept = found.kept, before
        found.core(self.options.min_interactions)
        left = found.kept
        step.notes = {
            f"{self.options.min_interactions}-core with them: users": len(np.unique(found.users[left])),
            "items": len(np.unique(found.items[left])),
            "interactions": int(left.sum()),
        }
        found.kept = after

    def _pictures(self, found: Interactions, items: Parsed, place: Path | None) -> dict[str, PictureStore]:
        """Return the pictures of the items that are left, by the name of the file that they go into."""
        if self.options.images == "none" or not found.kept.any():
            return {}
        wanted = item_order(found)
        if place is not None:
            names = picture_names(items, self.source, wanted)
            cache = work_folder(self.source.name)
            return {"images": LocalPictures(place, names, cache=cache, progress=self.progress)}
        if not self.source.items.images:
            return {}
        rows = texts_of(items, self.source, wanted)
        stores = {"images": self._fetched(rows, ("image_url", "low_image_url"), "images")}
        if self.options.low_resolution:
            stores[LOW_RESOLUTION] = self._fetched(rows, ("low_image_url",), LOW_RESOLUTION)
        return stores

    def _fetched(self, rows: pd.DataFrame, columns: tuple[str, ...], name: str) -> PictureStore:
        wanted = [
            Wanted(item_id=item_id, urls=tuple(url for url in urls if isinstance(url, str)))
            for item_id, *urls in rows[["item_id", *columns]].itertuples(index=False)
        ]
        folder = work_folder(self.source.name) / name
        index, of = self.shard or (1, 1)
        missing = download_pictures(
            wanted[index - 1 :: of],
            folder,
            manifest="manifest.jsonl" if self.shard is None else f"manifest-{index}-of-{of}.jsonl",
            limits=self.limits,
            rules=self.rules,
            retry_missing=self.retry_missing,
            progress=self.progress,
        )
        missing.pop("there", None)
        item_ids = rows["item_id"].tolist()
        self.again += may_pass(folder, item_ids)
        return FetchedPictures(picture_files(folder, item_ids), missing=missing)

    def _after_pictures(self, found: Interactions, stores: dict[str, PictureStore]) -> None:
        """Drop items without a picture, where they have to have one, and take the k-core again."""
        if "image" not in self._require() or "images" not in stores:
            return
        have = np.zeros(len(found.item_ids), dtype=bool)
        left = np.unique(found.items[found.kept])
        ids = found.item_ids.take(left).to_pylist()
        have[left] = [item_id in stores["images"].suffixes for item_id in ids]
        broken = int((~have[left]).sum())
        found.keep_items(have)
        found.record("pictures: image", **{"items without a picture": broken})
        found.core(self.options.min_interactions)
        found.record(f"{self.options.min_interactions}-core after pictures")

    def _verified(self, folder: Path, found: Interactions) -> Dataset:
        """Read what was written as an experiment does, and compare it with what was counted.

        Raises:
            ValueError: If it is something else.
        """
        dataset = load_folder(str(folder), min_interactions=self.options.min_interactions, duplicates="keep")
        step = found.steps[-1]
        there = (dataset.n_users, dataset.n_items, dataset.n_interactions)
        if there != (step.users, step.items, step.interactions):
            raise ValueError(f"{self.source.name}: wrote {there}, counted {step}")
        return dataset

    def _note(
        self,
        found: Interactions,
        stores: dict[str, PictureStore],
        parsed: dict[str, Parsed],
        dataset: Dataset,
    ) -> dict[str, Any]:
        statistics = dataset.statistics() | {"dataset": self.source.name}
        return {
            "name": self.source.name,
            **terms(self.source),
            "options": asdict(self.options)
            | {"require": list(self._require()), "clean": list(self.options.clean)},
            "steps": [asdict(step) for step in found.steps],
            "lines": {
                role: {"lines": done.lines, "rows": done.rows, "cannot be read": done.bad, **done.counts}
                for role, done in parsed.items()
            },
            "pictures": {name: _counted(store) for name, store in stores.items()},
            "statistics": statistics,
            "fingerprint": dataset.fingerprint,
            "seconds": self.seconds,
        }


def _counted(store: PictureStore) -> dict[str, int]:
    return {"there": len(store.suffixes), **Counter(store.missing)}
