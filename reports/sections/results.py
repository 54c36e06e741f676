"""Reading a store for a report: its cells, and one section per data set and LLM."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.frames.pricing import NO_PRICE, Pricing
from bench.frames.released_code import KIND
from bench.frames.selection import ACCURACY, CANDIDATES, LIMITS, current
from bench.frames.time_to_accuracy import EXPERIMENT as TIME_TO_ACCURACY
from bench.frames.token_cost import TOKEN_COST
from bench.frames.tune import EXPERIMENT as TUNE
from bench.store.cell import Record
from bench.store.store import Store
from illmrec.errors import InputError
from reports.sections.file_names import section_suffixes
from reports.sections.methods import method_styles
from reports.sections.paired import Ranks
from reports.sections.section import FEATURES, Accuracy, Section, llm_label, origin

ALONE = (TOKEN_COST, TUNE, TIME_TO_ACCURACY)
"""Experiments with exhibits of their own, for which nothing need be timed or evaluated."""


def read_store(store: Store) -> list[Record]:
    """Return all cells of a store.

    Raises:
        InputError: If a cell cannot be read, or lacks what a report needs of it.
    """
    records = current(store.records())
    for record in records:
        _check(record)
    return records


def whole_store(records: Sequence[Record], store: Store, pricing: Pricing = NO_PRICE) -> Section:
    """Return a section of no data set and no LLM, with all cells of a store."""
    styles = method_styles(record.method for record in records)
    return Section(store=store, stored=records, styles=styles, ranks=Ranks(store), pricing=pricing)


def read_sections(
    records: Sequence[Record], store: Store | None = None, pricing: Pricing = NO_PRICE
) -> list[Section]:
    """Arrange the cells of a store by data set and LLM, the data set and LLM of the newest cell first.

    Cells on changed items alone make none. Cells of methods without an LLM appear in every section of their data set.

    Args:
        records: The cells, of any experiment; ``efficiency`` and ``accuracy`` make sections, and where a data set has
            none of them, those of ``ALONE``.
        store: The store, for what lies beside its cells, which any store finds through their folders.
        pricing: What an hour of the machine costs.
    """
    whole = whole_store(records, store or Store(Path()), pricing)
    by_dataset: dict[str, list[Record]] = defaultdict(list)
    sweeps: dict[str, list[Record]] = defaultdict(list)
    for record in _latest_versions(records):
        if record.experiment in ("efficiency", ACCURACY):
            place = sweeps if _swept(record.config) else by_dataset
            place[origin(record.config)].append(record)
    for fingerprint in _knob_positions(records, by_dataset):
        del by_dataset[fingerprint]
    for fingerprint, members in sweeps.items():
        # The walk to the released code changes no items: it has a section where nothing else was run.
        walk = [r for r in members if (r.config["dataset"].get("variant") or {}).get("kind") == KIND]
        if walk and fingerprint not in by_dataset:
            by_dataset[fingerprint] = walk
    shown = set(by_dataset)
    for record in _latest_versions(records):
        if record.experiment in ALONE and origin(record.config) not in shown:
            by_dataset[origin(record.config)].append(record)
    sections: list[tuple[tuple[str, str, str], Section]] = []
    for fingerprint, members in by_dataset.items():
        newest = max(members, key=_created)
        for llm in {label for record in members if (label := llm_label(record.config))} or {""}:
            own = [record for record in members if llm_label(record.config) in (llm, "")]
            swept = [record for record in sweeps[fingerprint] if llm_label(record.config) in (llm, "")]
            section = Section(
                store=whole.store,
                stored=whole.stored,
                styles=whole.styles,
                ranks=whole.ranks,
                dataset=str(newest.config["dataset"].get("name", fingerprint)),
                fingerprint=fingerprint,
                statistics=newest.dataset,
                llm=llm,
                efficiency=_newest_timings(own),
                accuracy=_newest_groups([record for record in own if not _swept(record.config)]),
                sweeps=tuple(swept),
                pricing=pricing,
            )
            sections.append(((newest.created, _section_created(section), llm), section))
    ordered = [section for _, section in sorted(sections, key=lambda entry: entry[0], reverse=True)]
    labels, suffixes = _labels(ordered), section_suffixes(ordered)
    return [
        replace(section, label=labels[section.fingerprint], suffix=suffix)
        for section, suffix in zip(ordered, suffixes, strict=True)
    ]


def _labels(sections: Iterable[Section]) -> dict[str, str]:
    """Return what titles call each data set, by fingerprint: its name, with its size where others have that name."""
    datasets = {section.fingerprint: section for section in sections}
    names = [section.dataset for section in datasets.values()]
    labels = {}
    for fingerprint, section in datasets.items():
        sizes = [f"{section.statistics.get(what, 0):,} {what}" for what in ("users", "items")]
        alone = names.count(section.dataset) == 1
        labels[fingerprint] = section.dataset if alone else f"{section.dataset} ({', '.join(sizes)})"
    shown = list(labels.values())
    return {
        fingerprint: label if shown.count(label) == 1 else f"{datasets[fingerprint].dataset} ({fingerprint})"
        for fingerprint, label in labels.items()
    }


def _check(record: Record) -> None:
    """Refuse a cell of ours that lacks what a report reads, with the remedy."""

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise InputError(
                f"{record.folder / 'cell.json'} lacks {what}; delete the folder {record.folder} and run its"
                " command again"
            )

    if record.experiment not in ("efficiency", ACCURACY):
        return
    dataset = record.config.get("dataset")
    need(isinstance(dataset, dict) and bool(dataset.get("fingerprint")), "config.dataset.fingerprint")
    if record.experiment == "efficiency":
        need(isinstance(record.results.get("history_length"), int), "results.history_length")
    else:
        for candidates in CANDIDATES:
            need(isinstance(record.results.get(candidates), dict), f"results.{candidates}")


def _knob_positions(records: Sequence[Record], by_dataset: Mapping[str, Sequence[Record]]) -> set[str]:
    """Return data sets that the sweep over toyshop's overlap made: one of a family stays, or what else was run on."""
    families: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        if record.experiment == "overlap" and record.config.get("overlap") is not None:
            family = json.dumps(record.config.get("family"), sort_keys=True)
            families[family][str(record.config["dataset"]["fingerprint"])] = None
    positions: set[str] = set()
    for members in families.values():
        there = [name for name in members if name in by_dataset]
        swept = [
            name
            for name in there
            if all(r.experiment == "accuracy" and llm_label(r.config) for r in by_dataset[name])
        ]
        if len(swept) == len(there) and swept:
            swept.remove(max(swept, key=lambda name: max(map(_created, by_dataset[name]))))
        positions.update(swept)
    return positions


def _swept(config: Mapping[str, Any]) -> bool:
    """Tell whether a cell belongs to a sweep only: changed items, or evaluation with less than was trained."""
    evaluation = config.get("evaluation") or {}
    return bool(config["dataset"].get("variant")) or any(name in evaluation for name in LIMITS)


def _latest_versions(records: Sequence[Record]) -> list[Record]:
    """Keep the cells of each experiment's latest version: numbers of different versions do not compare."""
    latest: dict[str, int] = {}
    for record in records:
        latest[record.experiment] = max(latest.get(record.experiment, record.version), record.version)
    return [record for record in records if record.version == latest[record.experiment]]


def _newest_timings(records: Sequence[Record]) -> tuple[Record, ...]:
    """Return the newest efficiency cell per method and history length, in that order."""
    newest: dict[tuple[str, int], Record] = {}
    for record in sorted(records, key=_created):
        if record.experiment == "efficiency":
            newest[record.method, int(record.results["history_length"])] = record
    return tuple(newest[key] for key in sorted(newest))


def _newest_groups(records: Sequence[Record]) -> tuple[Accuracy, ...]:
    """Return the newest group of accuracy cells per method and variant."""
    groups: dict[tuple[str, bool | None, tuple[str, ...]], dict[str, list[Record]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for record in records:
        if record.experiment == "accuracy":
            features = tuple(name for name in FEATURES if name in (record.config.get("features") or ()))
            variant = (record.method, record.config.get("risa"), features)
            groups[variant][_without_seeds(record.config)].append(record)
    found = []
    for (method, risa, features), options in sorted(groups.items(), key=lambda item: str(item[0])):
        newest = max(options.values(), key=lambda members: max(map(_created, members)))
        by_seed = {record.seed: record for record in sorted(newest, key=_created)}
        found.append(
            Accuracy(
                method=method,
                risa=risa,
                features=features,
                records=tuple(by_seed[seed] for seed in sorted(by_seed)),
                others=len(options) - 1,
            )
        )
    return tuple(found)


def _without_seeds(config: Mapping[str, Any]) -> str:
    """Return a configuration as text without its seeds, at any depth: what cells of one group share."""

    def strip(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: strip(item) for key, item in value.items() if key != "seed" and not key.endswith("_seed")
            }
        return value

    return json.dumps(strip(config), sort_keys=True)


def _section_created(section: Section) -> str:
    records = [*section.efficiency, *(record for entry in section.accuracy for record in entry.records)]
    return max((_created(record) for record in records if llm_label(record.config)), default="")


def _created(record: Record) -> str:
    return record.created
