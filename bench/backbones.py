"""Table 11 of the paper: I-LLMRec with other LLMs and vision encoders, what they gain and what they cost."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.changes.changed_images import images_of
from bench.frames.backbones import ABOUT, EXPERIMENT, KIND, frame
from bench.harness.accuracy import accuracy_cell, compute_accuracy
from bench.harness.bench import Bench, sampled_means
from bench.harness.methods import check_llm_methods
from bench.harness.settings import Settings
from bench.harness.timing import Timing, compute_cost, cost_groups, efficiency_cell, to_time
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome, Record
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.features import image_features
from illmrec.model.backbone import load_backbone

logger = logging.getLogger(__name__)

VERSION = 3


@dataclass(frozen=True, kw_only=True)
class LLM:
    """An LLM of the grid.

    Attributes:
        name: As in ``--llm``.
        layers: Transformer blocks to keep; None keeps all.
        given: What the user wrote.
    """

    name: str
    layers: int | None
    given: str


def main(
    settings: Settings,
    *,
    timing: Timing,
    methods: tuple[str, ...] = ("illmrec",),
    llms: tuple[str, ...] | None = None,
    visions: tuple[str, ...] | None = None,
) -> int:
    """Train and evaluate methods for each LLM with each vision encoder, and measure its cost (Table 11).

    One LLM is loaded at a time. What cannot be loaded is left out and named at the end, with exit status 1; the
    others go on. Cost is that of bench.efficiency: from item ids to scores of the whole catalogue, with untrained
    parameters. Writes tables/backbones.csv under --out.

    Args:
        settings: Data, model and training.
        timing: How prompts are timed.
        methods: LLM methods at each place of the grid.
        llms: LLMs as for --llm; NAME@3 keeps the first 3 transformer blocks, a bare NAME as many as --layers says. If
            left open, --llm and its first half.
        visions: Image encoders as for --vision; if left open, that one.
    """
    chosen = check_llm_methods(methods, why="have an LLM to exchange")
    bench = Bench(ABOUT, settings)
    workspace, timing = bench.workspace, timing.resolved(bench.settings.preset)
    images_of(workspace.dataset, experiment=EXPERIMENT)
    wanted = [parse_llm(given, layers=bench.settings.layers) for given in llms or default_llms(workspace)]
    skipped: dict[str, str] = {}
    encoders = visions or (bench.settings.vision,)
    if not bench.planning:
        encoders = usable_encoders(workspace, encoders, skipped)
    groups = cost_groups(workspace, timing)
    records: list[Record] = []
    for llm in dict.fromkeys(wanted):
        try:
            records += run_llm(bench, llm, encoders, methods=chosen, groups=groups, timing=timing)
        except LLMNotLoaded as error:
            skipped[llm.given] = str(error)
    table = frame(records, bench.store)
    bench.write(table)
    shown = ["llm_parameters", "prompt_tokens", "latency_ms_median", "hit@5", "ndcg@5", "hit@10", "ndcg@10"]
    means = sampled_means(table, ["method", "llm", "vision"], shown).astype({"llm_parameters": int})
    bench.show(means, f"Backbones on {workspace.dataset.name} (paper: Table 11, Sport and Art)")
    for name, reason in skipped.items():
        logger.error("skipped: %s: %s", name, reason)
    bench.status = max(bench.status, int(bool(skipped)))
    return bench.finish()


class LLMNotLoaded(InputError):
    """An LLM of the grid cannot be loaded; the message is that of the loader."""


def parse_llm(given: str, *, layers: int | None) -> LLM:
    """Read the name of an LLM, with how many transformer blocks to keep after an ``@``.

    Args:
        given: ``NAME`` or ``NAME@3``; a folder whose own name ends like that is a name.
        layers: Of a name without.

    Raises:
        InputError: If there is no name.
    """
    name, _, kept = given.rpartition("@")
    if name and kept.isdecimal() and not Path(given).exists():
        return LLM(name=name, layers=int(kept), given=given)
    if not given or given.startswith("@"):
        raise InputError(f"--llms {given!r}: write NAME, or NAME@3 for its first 3 transformer blocks")
    return LLM(name=given, layers=layers, given=given)


def default_llms(workspace: Workspace) -> tuple[str, ...]:
    """Return the run's LLM, and the first half of it."""
    # Not the workspace's, which would stay in memory while cells are timed, unless it is there already.
    loaded = vars(workspace).get("backbone") or load_backbone(**workspace.backbone_arguments, device="cpu")
    settings, layers = workspace.settings, loaded.layers
    return (settings.llm, f"{settings.llm}@{layers // 2}") if layers > 1 else (settings.llm,)


def usable_encoders(workspace: Workspace, names: Sequence[str], skipped: dict[str, str]) -> tuple[str, ...]:
    """Compute the image features of every encoder; those that cannot be loaded go to ``skipped``, with the reason."""
    usable = []
    for name in dict.fromkeys(names):
        try:
            image_features(
                workspace.dataset,
                encoder=name,
                device=workspace.device,
                progress=workspace.settings.progress,
            )
        except InputError as error:
            skipped[name] = str(error)
        else:
            usable.append(name)
    return tuple(usable)


def run_llm(
    bench: Bench,
    llm: LLM,
    encoders: Sequence[str],
    *,
    methods: Sequence[str],
    groups: dict[int, np.ndarray],
    timing: Timing,
) -> list[Record]:
    """Compute what the store lacks of one LLM with every vision encoder; the LLM is let go afterwards.

    Raises:
        LLMNotLoaded: If it cannot be loaded.
    """
    computes: dict[str, Callable[[Cell], Outcome]] = {}
    places: dict[str, Workspace] = {}
    cells: list[Cell] = []
    costs: list[Cell] = []
    for method, place in grid_places(bench.workspace, llm, encoders, bench.store, methods):
        accuracy = [accuracy_cell(place, method, seed=seed) for seed in place.settings.seeds]
        cost = cost_cell(place, method, groups=groups, timing=timing)
        cells += accuracy
        costs.append(cost)
        places |= {cell.key: place for cell in (cost, *accuracy)}
        computes |= {cell.key: compute_accuracy(place, bench.store) for cell in accuracy}
    measured = compute_grid_cost(to_time(bench, costs), places)
    computes |= {cost.key: measured for cost in costs}
    # Timed first, while this process holds nothing but the LLM.
    return bench.run(
        [*costs, *cells],
        lambda cell: computes[cell.key](cell),
        place_of=lambda cell: places[cell.key],
    )


def grid_places(
    workspace: Workspace, llm: LLM, encoders: Sequence[str], store: Store, methods: Sequence[str]
) -> Iterator[tuple[str, Workspace]]:
    """Yield each method with a workspace for one LLM with each vision encoder.

    The workspaces share data, split, candidates and CF features.
    Cells of a backbone that is not the run's own carry a variant, which keeps them from the tables that are about the
    run's own, unless a run of its own has left them in the store.

    Raises:
        LLMNotLoaded: If the LLM cannot be loaded.
    """
    run_settings = workspace.settings
    settings = replace(run_settings, llm=llm.name, layers=llm.layers)
    try:
        there = vars(workspace).get("backbone") if settings == run_settings else None
        backbone = there or load_backbone(
            llm.name,
            layers=llm.layers,
            dtype=settings.dtype,
            device=workspace.device,
            compiled=settings.compile,
            plain=settings.plain,
        )
    except InputError as error:
        raise LLMNotLoaded(str(error)) from error
    for vision, method in itertools.product(encoders, methods):
        place = workspace.derive(variant={}, settings=replace(settings, vision=vision))
        place.backbone = backbone
        cells = [accuracy_cell(place, method, seed=seed) for seed in settings.seeds]
        if place.settings != run_settings and not all(store.find(cell) for cell in cells):
            place.variant = {"kind": KIND, "of": workspace.dataset.fingerprint}
        yield method, place


def cost_cell(place: Workspace, method: str, *, groups: Mapping[int, np.ndarray], timing: Timing) -> Cell:
    """Return the cell of what a backbone costs on this machine."""
    (length, users), settings = next(iter(groups.items())), place.settings
    return replace(
        efficiency_cell(place, method, length, users, timing=timing),
        experiment=EXPERIMENT,
        version=VERSION,
        label=f"cost of {method} by {settings.llm} ({place.backbone.layers} layers) with {settings.vision}",
    )


def compute_grid_cost(cells: Sequence[Cell], places: Mapping[str, Workspace]) -> Callable[[Cell], Outcome]:
    """Return the function that measures a cost cell: as bench.efficiency does, and the sizes of the models."""
    measured = compute_cost(cells, lambda cell: places[cell.key])

    def compute(cell: Cell) -> Outcome:
        place = places[cell.key]
        outcome = measured(cell)
        features, _ = place.features(("image",), seed=0)
        sizes = {
            "llm_parameters": sum(parameter.numel() for parameter in place.backbone.model.parameters()),
            "vision_width": features["image"].width,
        }
        return replace(outcome, results={**outcome.results, **sizes})

    return compute


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.backbones"))
