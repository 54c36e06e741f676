"""What a store holds on one data set with one LLM: all that exhibits and claims are made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bench.frames import ablation, efficiency
from bench.frames.costs import user_costs
from bench.frames.pricing import NO_PRICE, Pricing
from bench.frames.selection import ACCURACY, OURS, latest, llm_name
from bench.protocol.statistics import paired_interval
from bench.store.cell import Record
from bench.store.store import Store
from reports.sections.commands import command_beside, commands
from reports.sections.methods import CONTROL_GROUP, MethodStyle, is_floor
from reports.sections.paired import Ranks

FEATURES = ("image", "cf", "text")


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
        return next((row for row, kind in ablation.ROWS.items() if kind == (self.risa, self.features)), "")

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
        values = np.array([number(record.results[candidates].get(metric)) for record in self.records])
        if len(values) > 1:
            return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
        errors = self.records[0].results[candidates].get("stderr") or {}
        return float(values[0]), number(errors.get(metric))

    def error_over(self, error: float) -> str:
        """Return what a standard error is over, ``seeds`` or ``users``; nothing where it is not known."""
        return "" if not math.isfinite(error) else "seeds" if len(self.records) > 1 else "users"


@dataclass(frozen=True, kw_only=True)
class Section:
    """Everything that a store holds on one data set with one LLM.

    Attributes:
        store: The store, for what lies beside its cells.
        stored: All its cells, also those of other data sets and LLMs.
        styles: Look of each method of the store.
        ranks: The stored ranks, for tests of significance.
        dataset: Name of the data set, as its user gave it.
        fingerprint: Fingerprint of the data set's content.
        statistics: The data set in the form of the paper's Table 4.
        llm: Name and number of layers of the LLM, or nothing where no cell has one.
        efficiency: One cell per method and history length, the newest.
        accuracy: One entry per method and variant, on the data as they are and evaluated as trained.
        sweeps: Accuracy cells on changed items of this data set, or evaluated with less than was trained.
        label: The data set for titles, told apart from others of its name.
        suffix: Ending of the file names, which tells sections apart.
        pricing: What an hour of the machine costs, and what power it draws.
    """

    store: Store
    stored: Sequence[Record]
    styles: Mapping[str, MethodStyle]
    ranks: Ranks
    dataset: str = ""
    fingerprint: str = ""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    llm: str = ""
    efficiency: tuple[Record, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    sweeps: tuple[Record, ...] = ()
    label: str = ""
    suffix: str = ""
    pricing: Pricing = NO_PRICE
    _found: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def title(self) -> str:
        """Data set and LLM, for titles."""
        dataset = self.label or self.dataset
        return f"{dataset}, {self.llm}" if self.llm else dataset

    @cached_property
    def of_data(self) -> list[Record]:
        """The cells on the data set, or on changed items of it, of any experiment and LLM."""
        return [record for record in self.stored if origin(record.config) == self.fingerprint]

    @cached_property
    def records(self) -> list[Record]:
        """The cells on the data set with the LLM or without any; those of accuracy have ranks."""
        return [
            record
            for record in self.of_data
            if self._fits(record) and (record.experiment != ACCURACY or has_ranks(record))
        ]

    @cached_property
    def with_prompts(self) -> list[Record]:
        """The same without accuracy cells of LLM methods that were stored before prompts were counted."""
        return [record for record in self.records if has_prompt(record)]

    def cells(self, experiment: str) -> list[Record]:
        """Return an experiment's cells of its latest version on the data set as it is, with the LLM or without any."""
        if experiment not in self._found:
            self._found[experiment] = [
                record
                for record in latest(self.stored, experiment)
                if (record.config.get("dataset") or {}).get("fingerprint") == self.fingerprint
                and self._fits(record)
            ]
        return list(self._found[experiment])

    def frame(
        self, make: Callable[[Sequence[Record], Store], pd.DataFrame], *, prompts: bool = False
    ) -> pd.DataFrame:
        """Return what a function of ``bench.frames`` makes of the section's cells, once; not to be changed.

        Args:
            make: Such as ``bench.frames.context_budget.frame``.
            prompts: Without the cells of before prompts were counted.
        """
        if make not in self._found:
            self._found[make] = make(self.with_prompts if prompts else self.records, self.store)
        found: pd.DataFrame = self._found[make]
        return found

    @cached_property
    def timings(self) -> pd.DataFrame:
        """The efficiency cells as the columns of the efficiency table, missing values as NaN; not to be changed."""
        rows = [
            {
                name: record.method if name == "method" else number(record.results.get(name))
                for name in efficiency.COLUMNS
            }
            | user_costs(record, self.pricing)
            for record in self.efficiency
        ]
        frame = pd.DataFrame(rows, columns=list(efficiency.COLUMNS))
        return frame.astype({"history_length": int, "users": int})

    @cached_property
    def headline(self) -> dict[str, Accuracy]:
        """One variant per method for comparisons: RISA and all feature types, or the nearest to it."""

        def fullness(entry: Accuracy) -> tuple[bool, int, str]:
            newest = max(record.created for record in entry.records)
            return (entry.risa is not False, len(entry.features), newest)

        best: dict[str, Accuracy] = {}
        for entry in self.accuracy:
            if entry.method not in best or fullness(entry) > fullness(best[entry.method]):
                best[entry.method] = entry
        return best

    @property
    def llm_methods(self) -> dict[str, Accuracy]:
        """The headline's LLM methods; controls, which run an LLM too, are none."""
        return {
            name: entry
            for name, entry in self.headline.items()
            if entry.records[0].config.get("llm") and self.styles[name].group != CONTROL_GROUP
        }

    def best_floor(self, candidates: str) -> Accuracy | None:
        """Return the floor with the highest NDCG@10 among sampled or all candidates, or None where none is stored."""
        floors = [entry for name, entry in self.headline.items() if is_floor(name) and name != "random"]
        return max(floors, key=lambda entry: entry.value(candidates, "ndcg@10")[0], default=None)

    def floor_above(self, records: Sequence[Record], candidates: str) -> str:
        """Return the label of the best floor if a method is below it on the users and seeds that they share, else "".

        Args:
            records: Cells of the method, one per seed; several claims ask for the same.
            candidates: ``sampled`` or ``full``.
        """
        asked = ("floor", candidates, *(record.key for record in records))
        if asked not in self._found:
            entry = self.best_floor(candidates)
            both = None if entry is None else self.ranks.paired(records, entry.records, candidates)
            below = both is not None and paired_interval(both).high < 0
            self._found[asked] = self.styles[entry.method].label if entry is not None and below else ""
        label: str = self._found[asked]
        return label

    @property
    def generated(self) -> bool:
        """Whether the data were made by the toolkit's generator."""
        return self.dataset.startswith("toyshop")

    def ablation(self, method: str = OURS) -> dict[str, Accuracy]:
        """Return the variants of a method by row of Table 2."""
        return {entry.variant: entry for entry in self.accuracy if entry.method == method and entry.variant}

    def command(self, experiment: str) -> str:
        """Return the command that fills in cells of an experiment, on the data and with the LLM of the others."""
        records = [*self.efficiency, *(record for entry in self.accuracy for record in entry.records)]
        return command_beside(records, experiment)

    def made_by(self, experiment: str) -> tuple[str, ...]:
        """Return the commands of an experiment that left cells, else those of all cells of the section."""
        own = [record for record in self.records if f"bench.{experiment}" in record.command]
        return commands(own or self.records)

    def _fits(self, record: Record) -> bool:
        label = llm_label(record.config)
        # Where an experiment needs the tokeniser alone, the LLM stands without its layers.
        return label in ("", self.llm) or self.llm.startswith(f"{label} (")


def origin(config: Mapping[str, Any]) -> str:
    """Return the fingerprint of a cell's data set as it was before items were changed; generated vectors have none."""
    dataset = config.get("dataset") or {}
    return str((dataset.get("variant") or {}).get("of") or dataset.get("fingerprint") or "")


def llm_label(config: Mapping[str, Any]) -> str:
    """Return name and layers of a cell's LLM, such as ``smollm2-135m (6 layers)``, or nothing without one."""
    llm = config.get("llm")
    if not llm or isinstance(llm, str):
        return llm or ""
    name = llm_name(llm)
    return name if llm.get("layers") is None else f"{name} ({llm['layers']} layers)"


def stored_at_once(record: Record) -> bool:
    """Tell whether an LLM method's states were stored before anything of it was trained: adaptors are as drawn."""
    cached = (record.config.get("training") or {}).get("cached")
    if not record.config.get("llm") or cached is None:
        return False
    return not (cached.get("warm_up") or cached.get("alternations"))


def has_ranks(record: Record) -> bool:
    """Tell whether ranks lie beside an accuracy cell."""
    return (record.folder / "ranks.parquet").is_file()


def has_prompt(record: Record) -> bool:
    """Tell whether a cell says what prompts cost, or is none of an LLM method's accuracy."""
    return record.experiment != ACCURACY or "prompt" in record.results or not record.config.get("llm")


def number(value: Any) -> float:
    """Return a stored number; NaN where it is missing."""
    return math.nan if value is None or isinstance(value, str) else float(value)
