"""LLM methods with several feature sets by groups of users: what the experiments on groups share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.groups import FEATURE_SETS, GROUPS, TARGET_POPULARITY, equal_groups
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.methods import check_llm_methods
from bench.harness.plan import Work
from bench.harness.runner import Overwrite
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome, Record
from bench.store.store import Store
from illmrec.errors import InputError, nearest

VERSION = 1


class Frame(Protocol):
    """Arranges stored cells by group of users."""

    def __call__(self, records: Sequence[Record], store: Store) -> pd.DataFrame:
        """Return columns method, features, group, candidates, users and the metrics, among others."""


@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """What experiments on groups of users compare.

    Attributes:
        methods: LLM methods to train with each feature set.
        features: Feature sets of RERI: image, cf, image+cf, image+cf+text.
        min_users: Users that each group needs.
    """

    methods: tuple[str, ...] = ("illmrec",)
    features: tuple[str, ...] = tuple(FEATURE_SETS)
    min_users: int = 10


def compare_groups(
    settings: Settings,
    options: GroupOptions,
    *,
    check: Callable[[Workspace, int], None],
    about: Experiment,
    frame: Frame,
    title: str,
) -> int:
    """Train and evaluate feature sets, or find them done, and write and print their accuracy by group of users.

    Args:
        settings: Data, model and training, not yet resolved.
        options: What is compared.
        check: Refuses data that leave a group with too few users, before anything is trained.
        about: The experiment.
        frame: Arranges the cells, of which one says how popular every user's test item is.
        title: What the groups are, for the printed table.

    Returns:
        The exit status.

    Raises:
        InputError: If a method or feature set is unknown, the minimum is below 1, or the data cannot support the
            groups.
    """
    chosen = check_llm_methods(options.methods, why="score items by feature sets", by_features=True)
    sets = check_feature_sets(options.features)
    if options.min_users < 1:
        raise InputError(f"--min-users {options.min_users}: must be at least 1")
    bench = Bench(about, settings)
    check(bench.workspace, options.min_users)
    targets = describe_targets(bench)
    records = bench.accuracy(
        # Of I-LLMRec these are rows of the ablation.
        accuracy_cell(bench.workspace, method, seed=seed, features=FEATURE_SETS[name])
        for seed in bench.settings.seeds
        for method in chosen
        for name in sets
    )
    table = frame([*records, *targets], bench.store)
    bench.write(table)
    sampled = table[table["candidates"] == "sampled"]
    keys = ["method", "group"]
    mean = sampled.groupby([*keys, "features"], sort=False)["ndcg@10"].mean().unstack("features")
    users = sampled.groupby(keys, sort=False)["users"].mean()
    bench.show(
        mean.assign(users=users).reset_index(),
        f"NDCG@10 by {title} on {bench.workspace.dataset.name}, sampled candidates",
    )
    return bench.finish()


def check_feature_sets(names: Sequence[str]) -> list[str]:
    """Return the names of feature sets, each once.

    Raises:
        InputError: If there is none or one is unknown.
    """
    for name in names:
        if name not in FEATURE_SETS:
            raise InputError(f"--features {name}: unknown feature set: {nearest(name, list(FEATURE_SETS))}")
    if not names:
        raise InputError("--features: give at least one feature set")
    return list(dict.fromkeys(names))


def item_frequencies(workspace: Workspace) -> np.ndarray:
    """Count the training interactions of every item: int64 [n_items]."""
    return np.bincount(workspace.split.train_items(), minlength=workspace.dataset.n_items)


def describe_targets(bench: Bench) -> list[Record]:
    """Store how popular every user's test item is: one cell for a data set, with two frames.

    ``targets``: user_id, target_frequency (interactions of the test item in training) and item_group (1 to 5); where
    users have several, one row each, with its number in target.
    ``groups``: group, items (their number), lowest and highest (interactions in training).
    """
    dataset = bench.workspace.dataset
    cell = Cell(
        experiment=TARGET_POPULARITY,
        version=VERSION,
        config={
            "method": "popularity",
            "seed": 0,
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "groups": GROUPS,
        },
        method="popularity",
        seed=0,
        dataset=dataset.statistics(),
        label=f"popularity of the test items of {dataset.name}",
    )
    # Counting is cheap and holds for any training: what is found is as good as computed again.
    overwrite: Overwrite = "only-cache" if bench.settings.overwrite == "only-cache" else "only-missing"
    return bench.run(
        [cell],
        _compute_popularity(bench.workspace),
        work=lambda cell: Work(),
        overwrite=overwrite,
        progress=False,
    )


def _compute_popularity(workspace: Workspace) -> Callable[[Cell], Outcome]:
    def compute(cell: Cell) -> Outcome:
        frequencies, tested = item_frequencies(workspace), workspace.split.users("test")
        found = workspace.split.every_target("test", tested)
        targets = found.items
        groups = equal_groups(frequencies, groups=cell.config["groups"])
        items = pd.DataFrame({"group": groups, "frequency": frequencies}).groupby("group")["frequency"]
        users = pd.DataFrame(
            {
                "user_id": np.asarray(workspace.dataset.user_ids)[tested[found.places]],
                "target_frequency": frequencies[targets],
                "item_group": groups[targets],
            }
        )
        if workspace.dataset.test_targets != "next":
            users["target"] = found.numbers
        return Outcome(
            results={
                "users": len(tested),
                "items": len(groups),
                "unseen_users": len(np.unique(found.places[frequencies[targets] == 0])),
            },
            frames={
                "targets": users,
                "groups": items.agg(items="size", lowest="min", highest="max").reset_index(),
            },
        )

    return compute
