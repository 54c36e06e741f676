"""Figure 5 and section 4.3 of the paper: how far accuracy depends on the text that an item is described by."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np

from bench.changes.noise import Noise, noisy_descriptions
from bench.frames.robustness import ABOUT, DESCRIBED, EMPTIED, KIND, METHODS, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench, sampled_means
from bench.harness.methods import check_llm_methods, representation_of
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell
from illmrec.assembly import load_representation
from illmrec.command_line import run
from illmrec.data.dataset import Dataset, changed
from illmrec.data.splits import Split
from illmrec.errors import InputError
from illmrec.features.grids import of_pictures
from illmrec.features.table import FeatureTable
from illmrec.prompts.segments import Representation

logger = logging.getLogger(__name__)

Reach = Literal["prompt", "everything"]
Summaries = Literal["clean", "rewritten"]


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = METHODS,
    kinds: tuple[Noise, ...] = ("html", "boilerplate", "shuffled", "missing"),
    levels: tuple[float, ...] = (0.0, 0.5, 1.0),
    reach: tuple[Reach, ...] = ("prompt",),
    summaries: tuple[Summaries, ...] = ("clean",),
) -> int:
    """Compare attributes, summary, full description and image (Figure 5), and inject noise into the descriptions.

    The sentences that are changed are drawn by seed and nested: those changed at 25 percent are among those changed at
    50 percent. A method whose prompts do not change is not trained again: it is the one of the comparison. Writes
    tables/robustness.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods; the default is Figure 5's, with I-LLMRec as the reference that reads no description.
        kinds: Noise. html: sentences in tags, with entities and remnants of scripts and styles; boilerplate: sentences
            about shipping, returns and rights between them; shuffled: in random order; missing: dropped.
        levels: Shares of the sentences that are changed, 0 to 1. 0 is always evaluated, and all of it with 0 alone.
        reach: Where the noise is. prompt: in the descriptions that the LLM reads of the history, and nowhere else:
            RISA's answers, the text features of items and what stands in for missing images stay those of the clean
            descriptions, so that only the representation differs; everything: there too, as when the shop has no
            other descriptions.
        summaries: What methods with a summary show. clean: the summary that comes with the data or was written from
            the clean description; rewritten: the LLM writes it from the noisy one, which takes it minutes to hours.
    """
    names = check_llm_methods(methods, why="read descriptions")
    if not names:
        raise InputError(f"--methods: give at least one, such as {','.join(METHODS)}")
    if not levels or not all(0 <= level <= 1 for level in levels):
        raise InputError("--levels: give shares of the sentences from 0 to 1, such as 0,0.5,1")
    for option, values in (("kinds", kinds), ("reach", reach), ("summaries", summaries)):
        if not values:
            raise InputError(f"--{option}: give at least one")
    bench = Bench(ABOUT, settings)
    plan = planned(
        bench.workspace,
        methods=names,
        kinds=list(dict.fromkeys(kinds)),
        levels=sorted({*levels} - {0.0}),
        reaches=list(dict.fromkeys(reach)),
        summaries=list(dict.fromkeys(summaries)),
    )
    table = frame(bench.accuracy(plan), bench.store)
    bench.write(table)
    bench.show(
        sampled_means(
            table,
            ["method", "reach", "noise", "summaries", "level"],
            ["prompt_tokens", "dropped_items", "hit@5", "ndcg@5", "hit@10", "ndcg@10"],
        ),
        f"Noise in the descriptions of {bench.workspace.dataset.name} (paper: Figure 5)",
    )
    return bench.finish()


class NoisyPrompts(Workspace):
    """A workspace in which prompts are rendered from changed items, and all else comes from the clean ones.

    Args:
        origin: The workspace with the clean items.
        variant: What is changed, as JSON values: part of the cells' keys.
        dataset: Its data set with changed items and a fingerprint of its own.
    """

    def __init__(self, origin: Workspace, *, variant: dict[str, Any], dataset: Dataset) -> None:
        super().__init__(origin.settings)
        self.variant, self._origin, self._clean, self._changed = variant, origin, origin, dataset

    @cached_property
    def dataset(self) -> Dataset:
        """The data set whose items the prompts show."""
        return self._changed

    @cached_property
    def split(self) -> Split:
        """Leave-one-out, with the clean items: RISA asks for what they say."""
        return self._clean.split

    def features(self, names: Sequence[str], *, seed: int) -> tuple[dict[str, FeatureTable], np.ndarray]:
        """Return the feature tables of the clean items, and bool [n_items]: items whose picture is real."""
        return self._clean.features(names, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One version of the items.

    Attributes:
        noise: Kind of the noise, None for the clean descriptions.
        level: Share of the sentences that it changes.
        reach: Where the noise is.
        summaries: What becomes of the summaries, None for a method that shows none.
    """

    noise: Noise | None
    level: float
    reach: Reach | None
    summaries: Summaries | None


class Places:
    """The workspaces on changed items, each made once.

    Args:
        workspace: With the clean items.
        seed: Of the noise.
    """

    def __init__(self, workspace: Workspace, *, seed: int) -> None:
        self.workspace, self.seed = workspace, seed
        self._descriptions: dict[tuple[Noise, float], list[str]] = {}
        self._made: dict[Change, Workspace] = {}

    def get(self, change: Change) -> Workspace:
        """Return the workspace with a change."""
        if change not in self._made:
            clean = self.workspace.dataset
            columns: dict[str, Any] = {"description": self.descriptions(change)}
            if change.summaries == "rewritten":
                columns["summary"] = ""
            elif change.summaries == "clean":
                columns["summary"] = self.workspace.summarised.items["summary"]
            dataset = with_texts(clean, columns)
            variant = {
                "kind": KIND,
                "of": clean.fingerprint,
                "noise": change.noise or "",
                "level": change.level,
                "reach": change.reach or "",
                "summaries": change.summaries or "",
                "noise_seed": self.seed,
            }
            self._made[change] = (
                self.workspace.derive(variant=variant, dataset=dataset)
                if change.reach == "everything"
                else NoisyPrompts(self.workspace, variant=variant, dataset=dataset)
            )
        return self._made[change]

    def descriptions(self, change: Change) -> list[str]:
        """Return every item's description after a change."""
        items = self.workspace.dataset.items
        texts: list[str] = items["description"].tolist()
        if change.noise is None:
            return texts
        key = (change.noise, change.level)
        if key not in self._descriptions:
            self._descriptions[key] = noisy_descriptions(
                texts, items["item_id"].tolist(), kind=change.noise, level=change.level, seed=self.seed
            )
        return self._descriptions[key]


def planned(
    workspace: Workspace,
    *,
    methods: Sequence[str],
    kinds: Sequence[Noise],
    levels: Sequence[float],
    reaches: Sequence[Reach],
    summaries: Sequence[Summaries],
) -> list[tuple[Workspace, Cell]]:
    """Return the cells and the workspace that computes each; what cannot be computed is left out and logged.

    Args:
        workspace: With the clean items.
        methods: Names of LLM methods.
        kinds: Of noise.
        levels: Above 0.
        reaches: Where the noise is.
        summaries: What methods with a summary show.

    Raises:
        InputError: If no item has a description, or a method shows a column that the items do not have.
    """
    dataset = workspace.dataset
    if not (dataset.items["description"] != "").any():
        raise InputError(
            f"{dataset.name}: no item has a description (column 'description'), which bench.robustness needs; add it; "
            "experiments that read none still run, such as bench.comparison --methods title,sasrec,popularity"
        )
    representations = {
        name: _checked(load_representation(representation_of(name)), dataset) for name in methods
    }
    summarised = {
        name: "summary" in representation.columns for name, representation in representations.items()
    }
    plan: list[tuple[Workspace, Cell]] = []
    for seed in workspace.settings.seeds:
        places = Places(workspace, seed=seed)
        plan += [(workspace, accuracy_cell(workspace, name, seed=seed)) for name in methods]
        if "rewritten" in summaries and (dataset.items["summary"] != "").any():
            place = places.get(Change(noise=None, level=0.0, reach=None, summaries="rewritten"))
            plan += [(place, accuracy_cell(place, name, seed=seed)) for name in methods if summarised[name]]
        for reach, kind, level, name in product(reaches, kinds, levels, methods):
            written: Sequence[Summaries | None] = summaries if summarised[name] else (None,)
            for each in written:
                change = Change(noise=kind, level=level, reach=reach, summaries=each)
                found = noisy_cell(places, change, name, representations[name])
                plan += [] if found is None else [found]
    return plan


def noisy_cell(
    places: Places, change: Change, method: str, representation: Representation
) -> tuple[Workspace, Cell] | None:
    """Return the cell of a method under noise, and where it is computed; None where there is nothing to train.

    Args:
        places: The workspaces of a seed.
        change: Some noise.
        method: Name of the method.
        representation: That of the method.
    """
    workspace, seed = places.workspace, places.seed
    in_prompt, rewritten = change.reach == "prompt", change.summaries == "rewritten"
    if in_prompt and not rewritten and "description" not in representation.columns:
        return None
    if places.descriptions(change) == workspace.dataset.items["description"].tolist():
        return None
    place = places.get(change)
    clean = workspace.summarised if change.summaries == "clean" else workspace.dataset
    if in_prompt and not rewritten and not changes_prompts(representation, clean, place.dataset):
        return None
    items = place.dataset.items
    empty = [name for name in representation.columns if name != "summary" and (items[name] == "").all()]
    if not empty:
        return place, accuracy_cell(place, method, seed=seed)
    if method == DESCRIBED:
        # Without any sentence nothing but the title is shown.
        there = workspace if in_prompt else place
        return there, accuracy_cell(there, EMPTIED, seed=seed)
    logger.warning(
        "%s with %s noise at level %g in %s is left out: no item has a %s then, which it shows",
        method, change.noise, change.level, change.reach, empty[0],
    )  # fmt: skip
    return None


def changes_prompts(representation: Representation, clean: Dataset, noisy: Dataset) -> bool:
    """Return whether some item is shown otherwise.

    Where a representation shows an image, items without one do not count: the description that stands in for the image
    stays clean, so that I-LLMRec is the reference whose prompt no noise reaches.

    Args:
        representation: How items are shown.
        clean: Items.
        noisy: The same items with other texts.
    """
    columns = list(representation.columns)
    differs = (clean.items[columns] != noisy.items[columns]).any(axis=1).to_numpy()
    if any(map(of_pictures, representation.slots)):
        differs = differs & (False if clean.images is None else clean.images.available)
    available = frozenset(representation.slots)
    before, after = (items.loc[differs, columns].to_dict("records") for items in (clean.items, noisy.items))
    return any(
        representation.render(one, available) != representation.render(other, available)
        for one, other in zip(before, after, strict=True)
    )


def with_texts(dataset: Dataset, columns: dict[str, Any]) -> Dataset:
    """Return a data set with other text columns of the same items, and with a fingerprint of its own."""
    return changed(dataset, items=dataset.items.assign(**columns))


def _checked(representation: Representation, dataset: Dataset) -> Representation:
    for column in representation.columns:
        if column not in dataset.items.columns:
            raise InputError(
                f"method {representation.name}: the items have no '{column}'; add that column or leave the method out"
            )
    return representation


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.robustness"))
