"""Figures 1(a) and 3 of the paper: what a representation costs, in tokens, time, memory and FLOPs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import torch

from bench.harness.methods import REPRESENTATIONS, check_llm_methods
from bench.harness.runner import Run, run_cells
from bench.harness.settings import Preset, Settings
from bench.harness.workspace import Workspace
from bench.meters.time_and_memory import matmul_peak
from bench.meters.turns import Prompts, Session
from bench.store.cell import Cell, Outcome
from bench.store.provenance import machine
from bench.store.results import build_report, print_table, write_table
from bench.store.store import Store
from illmrec.assembly import ModelConfig, build_model, load_representation
from illmrec.command_line import run
from illmrec.data.dataset import Dataset
from illmrec.errors import InputError, UnsupportedError
from illmrec.features.table import FeatureTable
from illmrec.model.illmrec import ILLMRec

logger = logging.getLogger(__name__)

EXPERIMENT = "efficiency"
VERSION = 3

HEADS = ("image", "cf", "text")
"""Feature types that score items, those of the methods as they are trained."""
CF_WIDTH = 64
"""Width of SASRec's item embeddings; their values do not matter for cost, and none is trained for it."""

LENGTHS, SMOKE_LENGTHS = (2, 5, 10, 15, 20), (2, 10, 20)
"""Items of history that are timed, of which the preset smoke takes some."""

COLUMNS = (
    "method", "history_length", "users", "batch_users", "repeats", "tokens_per_item", "prompt_tokens",
    "latency_ms_median", "latency_ms_low", "latency_ms_high", "latency_ms_p95_users", "latency_ms_p95_repeats",
    "users_per_second", "weights_mb", "features_mb", "activations_mb", "peak_memory_mb", "model_gflops", "utilisation",
    "session",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How prompts are timed.

    Attributes:
        group_users: Users whose prompts are timed, the same for every method and, where enough users have so long a
            history, for every length; "none" takes 20, and 4 with the preset smoke.
        batch_users: Of them in a batch, for throughput; "none" takes 4, and 2 with the preset smoke.
        repeats: Times that everything is run, in an order drawn anew each time; "none" takes 3, and 2 with the preset
            smoke.
    """

    group_users: int | None = None
    batch_users: int | None = None
    repeats: int | None = None

    def __post_init__(self) -> None:
        for name in ("group_users", "batch_users", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: give at least 1")

    def resolved(self, preset: Preset) -> Timing:
        """Return the timing with what was left open."""
        smoke = preset == "smoke"
        return replace(
            self,
            group_users=self.group_users or (4 if smoke else 20),
            batch_users=self.batch_users or (2 if smoke else 4),
            repeats=self.repeats or (2 if smoke else 3),
        )


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = tuple(REPRESENTATIONS),
    lengths: tuple[int, ...] | None = None,
    group_users: int | None = None,
    batch_users: int | None = None,
    repeats: int | None = None,
) -> int:
    """Measure what each representation costs at inference, by length of the history (Figures 1(a) and 3).

    Users are read with exactly their last |S_u| items: the same users for every method and length. Timed is everything
    from item ids to scores of the whole catalogue; features are computed before, as in the paper (E.5). All methods and
    lengths are timed in turns, one user alone (latency) and several together (users_per_second). Parameters, and the
    values of CF features, are made up: cost does not depend on them. Memory is that of a method by itself. Writes
    tables/efficiency.csv under --out.

    Args:
        settings: Data and model; the whole LLM unless --layers says otherwise.
        methods: Representations to measure.
        lengths: Lengths of history |S_u|; "none" takes 2,5,10,15,20, and 2,10,20 with the preset smoke.
        group_users: Users of each length; "none" takes 20, and 4 with the preset smoke.
        batch_users: Of them in a batch, for throughput; "none" takes 4, and 2 with the preset smoke.
        repeats: Times that everything is run, in an order drawn anew each time; "none" takes 3, for smoke 2.
    """
    names = check_llm_methods(methods, why="have prompts to measure")
    if lengths is None:
        lengths = SMOKE_LENGTHS if settings.preset == "smoke" else LENGTHS
    if min(lengths, default=0) < 1:
        raise InputError("--lengths: give at least 1")
    timing = Timing(group_users=group_users, batch_users=batch_users, repeats=repeats)
    resolved = settings.resolved()
    timing = timing.resolved(resolved.preset)
    # Presets shorten the LLM to train faster; here its cost is what is measured.
    settings = resolved if settings.preset == "smoke" else replace(resolved, layers=settings.layers)
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    done = time_lengths(workspace, names, user_groups(workspace, lengths, timing), store, timing=timing)
    table = pd.DataFrame([record.results for record in done.records], columns=list(COLUMNS))
    write_table(table, store, "efficiency")
    shown = table.drop(columns=["session", "repeats", "features_mb", "weights_mb", "latency_ms_p95_repeats"])
    print_table(shown, title=f"Efficiency on {workspace.dataset.name}, {workspace.backbone.name}")
    if settings.report:
        build_report(settings.out)
    return done.status


def time_lengths(
    workspace: Workspace,
    methods: Sequence[str],
    groups: Mapping[int, np.ndarray],
    store: Store,
    *,
    timing: Timing,
) -> Run:
    """Time methods at lengths of history in turns, or find them timed.

    Args:
        workspace: Data, features and LLM.
        methods: Names of LLM methods.
        groups: By length, the users to read, int64 [users].
        store: Where cells are kept.
        timing: How.
    """
    cells = [
        efficiency_cell(workspace, name, length, groups[length], timing=timing)
        for name in methods
        for length in groups
    ]
    return run_timed(cells, lambda cell: workspace, store, settings=workspace.settings)


def run_timed(
    cells: Sequence[Cell], place_of: Callable[[Cell], Workspace], store: Store, *, settings: Settings
) -> Run:
    """Run cells of prompts that are timed: those that the store lacks, in one session.

    Args:
        cells: What :func:`efficiency_cell` returned, whatever was made of it.
        place_of: Returns the workspace of a cell.
        store: Where cells are kept.
        settings: Overwrite and progress.
    """
    return run_cells(
        cells,
        compute_cost(to_time(cells, store, settings=settings), place_of),
        store,
        overwrite=settings.overwrite,
        progress=settings.progress,
    )


def to_time(cells: Sequence[Cell], store: Store, *, settings: Settings) -> list[Cell]:
    """Return the cells that are timed now, and say so where others were timed before.

    Args:
        cells: What is wanted.
        store: Where cells are kept.
        settings: Overwrite.
    """
    wanted = list({cell.key: cell for cell in cells}.values())
    missing = [cell for cell in wanted if settings.overwrite == "always" or store.find(cell) is None]
    if missing and len(missing) < len(wanted) and settings.overwrite == "only-missing":
        logger.warning(
            "%d of %d timings are there from before: ratios to them are not of one session; "
            "--overwrite always times all of them in turns",
            len(wanted) - len(missing),
            len(wanted),
        )
    return missing


def efficiency_cell(
    workspace: Workspace, method: str, length: int, users: np.ndarray, *, timing: Timing
) -> Cell:
    """Return the cell that measures a method at a length of history.

    Args:
        workspace: Data, features and LLM.
        method: Name of the method.
        length: Items of history that are read.
        users: Whose.
        timing: How.
    """
    settings, dataset = workspace.settings, workspace.dataset
    shown = workspace.shown(REPRESENTATIONS.get(method, method))
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config={
            "seed": 0,
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "llm": workspace.backbone.describe(),
            "encoders": workspace.encoder_identities(heads(dataset)),
            "heads": heads(dataset),
            "context": settings.context,
            "instruction": settings.instruction,
            "device": workspace.device,
            "machine": machine(),
            "threads": torch.get_num_threads(),
            "group_users": len(users),
            "batch_users": timing.batch_users,
            "repeats": timing.repeats,
            "method": method,
            **shown,
            "history_length": length,
            "users": [str(dataset.user_ids[user]) for user in users],
        },
        method=method,
        seed=0,
        dataset=dataset.statistics(),
        label=f"{method} |S_u| = {length}",
    )


def heads(dataset: Dataset) -> tuple[str, ...]:
    """Return the feature types that score items: all, or all but images where there are none."""
    pictured = dataset.images is not None and bool(dataset.images.available.any())
    return tuple(name for name in HEADS if pictured or name != "image")


def user_groups(workspace: Workspace, lengths: Sequence[int], timing: Timing) -> dict[int, np.ndarray]:
    """Draw the users of each length of history, int64 [group_users]; a length that too few users have is an error.

    They are the same for all lengths where enough users have the longest, so that lengths are compared, not users.
    """
    count = timing.group_users or 1
    history_lengths = workspace.dataset.lengths - 1
    ordered = sorted(set(lengths))
    enough = {length: np.flatnonzero(history_lengths >= length) for length in ordered}
    for length, users in enough.items():
        if len(users) < count:
            raise InputError(
                f"--lengths {length}: {len(users)} users of {workspace.dataset.name} have so long a history and "
                f"{count} are needed; leave that length out or lower --group-users"
            )
    drawn = np.sort(np.random.default_rng(0).choice(enough[ordered[-1]], count, replace=False))
    return dict.fromkeys(ordered, drawn)


def cost_groups(workspace: Workspace, timing: Timing) -> dict[int, np.ndarray]:
    """Draw the users whose prompts are timed: with L items of history, or as many as that many users have."""
    longest = np.sort(workspace.dataset.lengths - 1)[::-1]
    count = min(timing.group_users or 1, len(longest))
    length = min(workspace.settings.history_length, int(longest[count - 1]))
    return user_groups(workspace, [length], replace(timing, group_users=count))


def compute_cost(cells: Sequence[Cell], place_of: Callable[[Cell], Workspace]) -> Callable[[Cell], Outcome]:
    """Return the function that measures a cell: the first one asked for times all of them, in turns.

    Args:
        cells: What the session is to time.
        place_of: Returns the workspace of a cell.
    """
    models: dict[tuple[int, str, str], ILLMRec] = {}
    refused: dict[str, UnsupportedError] = {}

    def prompts(cell: Cell) -> Prompts:
        place, config = place_of(cell), cell.config
        at = (id(place.backbone), config["encoders"].get("image", ""), config["representation"])
        if at not in models:
            models[at] = timed_model(
                place, config["representation"], max(c.config["history_length"] for c in cells)
            )
        model, split = models[at], place.split
        users = np.flatnonzero(np.isin(np.asarray(place.dataset.user_ids, dtype=str), config["users"]))
        builder = model.prompts
        return Prompts(
            name=cell.label,
            model=model,
            builder=builder if config["context"] is None else builder.with_context(config["context"]),
            histories=[split.history(int(user), "test")[-config["history_length"] :] for user in users],
            batch_users=config["batch_users"],
        )

    @cache
    def session() -> Session:
        found: dict[str, Prompts] = {}
        for cell in cells:
            try:
                found[cell.key] = prompts(cell)
            except UnsupportedError as error:
                refused[cell.key] = error
        timed = Session(
            found,
            repeats=cells[0].config["repeats"],
            progress=place_of(cells[0]).settings.progress,
        )
        timed.run()
        return timed

    def compute(cell: Cell) -> Outcome:
        timed = session()
        if cell.key in refused:
            raise refused[cell.key]
        backbone = place_of(cell).backbone
        results = timed.results(cell.key, peak_gflops=peak(backbone.dtype, backbone.device))
        results |= {"method": cell.method, "history_length": cell.config["history_length"]}
        shared = timed.timed_as[cell.key]
        if shared != cell.key:
            results["timed_as"] = timed.prompts[shared].name
        return Outcome(results=results, frames={"timings": timed.timings(cell.key)})

    return compute


@cache
def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Return the best rate of matrix products, GFLOP/s, measured once a process."""
    return matmul_peak(dtype, device)


def timed_model(workspace: Workspace, representation: str, history_length: int) -> ILLMRec:
    """Return a method's model with made-up parameters and CF features, with the heads that it is trained with.

    Raises:
        UnsupportedError: If the data lack what the representation shows.
    """
    loaded = load_representation(representation)
    used = heads(workspace.dataset)
    wanted = dict.fromkeys((*loaded.slots, *used))
    features, has_image = workspace.features([name for name in wanted if name != "cf"], seed=0)
    n_items = workspace.dataset.n_items
    values = np.random.default_rng(0).standard_normal((n_items, CF_WIDTH)).astype(np.float32)
    features["cf"] = FeatureTable(values=values, present=np.ones(n_items, dtype=bool), key="made up", meta={})
    config = ModelConfig(
        representation=representation,
        heads=used,
        context=workspace.settings.context,
        instruction=workspace.settings.instruction,
        history_length=history_length,
    )
    return build_model(
        config,
        dataset=workspace.dataset_of(loaded),
        backbone=workspace.backbone,
        features={name: features[name] for name in wanted},
        has_image=has_image,
    ).eval()


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.efficiency"))
