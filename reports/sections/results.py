"""What the store holds, arranged for a report: one section per data set and LLM, one entry per variant."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.frames.selection import OURS, current, llm_name
from bench.store.cell import Record
from bench.store.store import Store
from illmrec.errors import InputError

CANDIDATES = ("sampled", "full")
METRICS = ("hit@5", "ndcg@5", "hit@10", "ndcg@10", "hit@20", "ndcg@20", "mrr")
EFFICIENCY_COLUMNS = (
    "method",
    "history_length",
    "users",
    "tokens_per_item",
    "prompt_tokens",
    "batch_users",
    "repeats",
    "latency_ms_median",
    "latency_ms_low",
    "latency_ms_high",
    "latency_ms_p95_users",
    "latency_ms_p95_repeats",
    "users_per_second",
    "weights_mb",
    "features_mb",
    "activations_mb",
    "peak_memory_mb",
    "model_gflops",
    "utilisation",
    "session",
)
FEATURES = ("image", "cf", "text")
_LIMITS = ("history_length", "context")
ABLATION_ROWS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "a": (False, ("image",)),
    "b": (True, ("image",)),
    "c": (True, ("cf",)),
    "d": (True, ("image", "cf")),
    "e": (True, ("image", "cf", "text")),
}
"""Rows of the paper's Table 2: RISA or not, and the feature types of RERI."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Accuracy of one method in one variant: the newest group of cells that differ in nothing but their seed.

    Attributes:
        method: Name of the method.
        risa: Whether RISA was trained; None for methods without it.
        features: Feature types of RERI; empty for methods without it.
        records: The cells, one per seed, ordered by seed.
        others: How many older groups, trained or evaluated differently, were left out.
    """

    method: str
    risa: bool | None
    features: tuple[str, ...]
    records: tuple[Record, ...]
    others: int

    @property
    def row(self) -> str:
        """The row of the paper's Table 2 that this variant of I-LLMRec is, or nothing."""
        return self.variant if self.method == OURS else ""

    @property
    def variant(self) -> str:
        """The row of Table 2 whose RISA and features this method was trained with, or nothing."""
        return next((row for row, kind in ABLATION_ROWS.items() if kind == (self.risa, self.features)), "")

    @property
    def users(self) -> int:
        """Number of users evaluated for each seed."""
        return int(self.records[-1].results.get("users", 0))

    def value(self, candidates: str, metric: str) -> tuple[float, float]:
        """Return mean and standard error of a metric: over seeds, or over users where there is one seed.

        Args:
            candidates: ``sampled`` or ``full``.
            metric: Such as ``ndcg@10``.
        """
        values = np.array([_number(record.results[candidates].get(metric)) for record in self.records])
        if len(values) > 1:
            return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
        errors = self.records[0].results[candidates].get("stderr") or {}
        return float(values[0]), _number(errors.get(metric))


@dataclass(frozen=True, kw_only=True)
class Section:
    """Everything that a store holds on one data set with one LLM.

    Attributes:
        dataset: Name of the data set, as its user gave it.
        fingerprint: Fingerprint of the data set's content.
        statistics: The data set in the form of the paper's Table 4.
        llm: Name and number of layers of the LLM, or nothing where no cell has one.
        efficiency: One cell per method and history length, the newest.
        accuracy: One entry per method and variant, on the data as they are and evaluated as trained.
        sweeps: Accuracy cells on changed items of this data set, or evaluated with less than was trained.
        label: The data set for titles, told apart from others of its name.
    """

    dataset: str
    fingerprint: str
    statistics: Mapping[str, Any]
    llm: str
    efficiency: tuple[Record, ...]
    accuracy: tuple[Accuracy, ...]
    sweeps: tuple[Record, ...] = ()
    label: str = ""

    @property
    def title(self) -> str:
        """Data set and LLM, for titles."""
        dataset = self.label or self.dataset
        return f"{dataset}, {self.llm}" if self.llm else dataset

    def efficiency_frame(self) -> pd.DataFrame:
        """Return the efficiency cells as the columns of the efficiency table, missing values as NaN."""
        rows = [
            {
                name: record.method if name == "method" else _number(record.results.get(name))
                for name in EFFICIENCY_COLUMNS
            }
            for record in self.efficiency
        ]
        frame = pd.DataFrame(rows, columns=list(EFFICIENCY_COLUMNS))
        return frame.astype({"history_length": int, "users": int})

    def headline(self) -> dict[str, Accuracy]:
        """Return one variant per method for comparisons: RISA and all feature types, or the nearest to it."""
        best: dict[str, Accuracy] = {}
        for entry in self.accuracy:
            if entry.method not in best or _rank(entry) > _rank(best[entry.method]):
                best[entry.method] = entry
        return best


def read_sections(records: Sequence[Record]) -> list[Section]:
    """Arrange the cells of a store by data set and LLM, the data set and LLM of the newest cell first.

    Cells of methods without an LLM appear in every section of their data set.

    Args:
        records: The cells, of any experiment; only ``efficiency`` and ``accuracy`` are read.
    """
    by_dataset: dict[str, list[Record]] = defaultdict(list)
    sweeps: dict[str, list[Record]] = defaultdict(list)
    for record in _latest_versions(records):
        if record.experiment in ("efficiency", "accuracy"):
            place = sweeps if _swept(record.config) else by_dataset
            place[_origin(record.config)].append(record)
    for fingerprint in _knob_positions(records, by_dataset):
        del by_dataset[fingerprint]
    sections = []
    for fingerprint, members in by_dataset.items():
        newest = max(members, key=_created)
        llms = {label for record in members if (label := llm_label(record.config))} or {""}
        for llm in llms:
            own = [record for record in members if llm_label(record.config) in (llm, "")]
            sections.append(
                Section(
                    dataset=str(newest.config["dataset"].get("name", fingerprint)),
                    fingerprint=fingerprint,
                    statistics=newest.dataset,
                    llm=llm,
                    efficiency=_newest_timings(own),
                    accuracy=_newest_groups(own),
                    sweeps=tuple(
                        record for record in sweeps[fingerprint] if llm_label(record.config) in (llm, "")
                    ),
                )
            )
    when = {fingerprint: max(map(_created, members)) for fingerprint, members in by_dataset.items()}
    labels = _labels(sections)
    return sorted(
        (replace(section, label=labels[section.fingerprint]) for section in sections),
        key=lambda section: (when[section.fingerprint], _section_created(section), section.llm),
        reverse=True,
    )


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


def read_store(store: Store) -> list[Record]:
    """Return all cells of a store.

    Raises:
        InputError: If a cell cannot be read, or lacks what a report needs of it.
    """
    records = current(store.records())
    for record in records:
        _check(record)
    return records


def llm_label(config: Mapping[str, Any]) -> str:
    """Return name and layers of a cell's LLM, such as ``smollm2-135m (6 layers)``, or nothing without one."""
    llm = config.get("llm")
    if not llm:
        return ""
    if isinstance(llm, str):
        return llm
    name = llm_name(llm)
    return f"{name} ({llm['layers']} layers)" if llm.get("layers") else name


def differing(records: Iterable[Record], ignored: Iterable[str] = ()) -> dict[str, list[str]]:
    """Return the options in which cells differ, each with its values.

    Args:
        records: Cells to compare.
        ignored: Names of options that may differ.
    """
    skip = set(ignored)
    values: dict[str, dict[str, None]] = defaultdict(dict)
    options = [dict(_flat(record.config, skip)) for record in records]
    for name in dict.fromkeys(name for option in options for name in option):
        for option in options:
            values[name].setdefault(option.get(name, "not set"))
    return {name: list(found) for name, found in values.items() if len(found) > 1}


def _check(record: Record) -> None:
    """Refuse a cell of ours that lacks what a report reads, with the remedy."""

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise InputError(
                f"{record.folder / 'cell.json'} lacks {what}; delete the folder {record.folder} and run its"
                " command again"
            )

    if record.experiment not in ("efficiency", "accuracy"):
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
    return bool(config["dataset"].get("variant")) or any(name in evaluation for name in _LIMITS)


def _origin(config: Mapping[str, Any]) -> str:
    """Return the fingerprint of a cell's data set as it was before a sweep changed its items."""
    variant = config["dataset"].get("variant") or {}
    return str(variant.get("of") or config["dataset"]["fingerprint"])


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


def _flat(value: Mapping[str, Any], skip: set[str], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, item in value.items():
        if key in skip or key == "seed" or key.endswith("_seed"):
            continue
        if isinstance(item, Mapping):
            yield from _flat(item, skip, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(item, ensure_ascii=False)


def _rank(entry: Accuracy) -> tuple[bool, int, str]:
    return (entry.risa is not False, len(entry.features), max(map(_created, entry.records)))


def _section_created(section: Section) -> str:
    records = [*section.efficiency, *(record for entry in section.accuracy for record in entry.records)]
    return max((_created(record) for record in records if llm_label(record.config)), default="")


def _created(record: Record) -> str:
    return record.created


def _number(value: Any) -> float:
    return math.nan if value is None or isinstance(value, str) else float(value)
