"""Figure 6 of the paper: which features recommend cold items, and which warm ones."""

from __future__ import annotations

import sys

import numpy as np

from bench.frames.groups import GROUPS, equal_groups
from bench.frames.item_popularity import ABOUT, frame
from bench.harness.feature_sets import GroupOptions, compare_groups, item_frequencies
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from illmrec.command_line import run
from illmrec.errors import InputError


def main(settings: Settings, *, groups: GroupOptions) -> int:
    """Compare feature sets on cold and warm items (Figure 6).

    Items are sorted by how often they occur in training and cut into five groups of equal size; users count for the
    group of their test item. The models are rows (b) to (e) of the ablation. Writes tables/item_popularity.csv under
    --out.

    Args:
        settings: Data, model and training.
        groups: What is compared.
    """
    return compare_groups(
        settings,
        groups,
        check=check_groups,
        about=ABOUT,
        frame=frame,
        title="group of test items, 1 = coldest",
    )


def check_groups(workspace: Workspace, min_users: int) -> None:
    """Refuse data that leave a group of items with too few users.

    Raises:
        InputError: If a group has fewer than ``min_users`` users.
    """
    group_of_item = equal_groups(item_frequencies(workspace))
    for seed in workspace.settings.seeds:
        targets = workspace.split.every_target("test", workspace.users(seed))
        # A user counts once for a group, whatever the number of its test items there.
        pairs = np.unique(np.stack([targets.places, group_of_item[targets.items]]), axis=1)
        counts = np.bincount(pairs[1], minlength=GROUPS + 1)[1:]
        fewest = int(counts.argmin())
        if counts[fewest] < min_users:
            raise InputError(
                f"{workspace.dataset.name}: item group {fewest + 1} of {GROUPS} is the test item's for "
                f"{counts[fewest]} users and {min_users} are needed; take more users (--eval-users, --max-users) "
                "or lower --min-users; bench.ablation still runs"
            )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.item_popularity"))
