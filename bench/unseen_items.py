"""Appendix E.6 of the paper: which features recommend items that training has never seen."""

from __future__ import annotations

import sys

import numpy as np

from bench.frames.unseen_items import ABOUT, frame
from bench.harness.feature_sets import GroupOptions, compare_groups, item_frequencies
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from illmrec.command_line import run
from illmrec.errors import InputError


def main(settings: Settings, *, groups: GroupOptions) -> int:
    """Compare feature sets on users whose test item does not occur in training (Appendix E.6).

    The other users are shown beside them. The models are rows (b) to (e) of the ablation. Writes
    tables/unseen_items.csv under --out.

    Args:
        settings: Data, model and training.
        groups: What is compared.
    """
    return compare_groups(
        settings,
        groups,
        check=check_unseen,
        about=ABOUT,
        frame=frame,
        title="whether training has seen the test item",
    )


def check_unseen(workspace: Workspace, min_users: int) -> None:
    """Refuse data in which too few test items are unseen.

    Raises:
        InputError: If fewer than ``min_users`` evaluated users have one.
    """
    frequencies = item_frequencies(workspace)
    for seed in workspace.settings.seeds:
        targets = workspace.split.every_target("test", workspace.users(seed))
        unseen = len(np.unique(targets.places[frequencies[targets.items] == 0]))
        if unseen < min_users:
            raise InputError(
                f"{workspace.dataset.name}: {unseen} evaluated users have a test item that is not in training and "
                f"{min_users} are needed; take more users (--eval-users, --max-users), keep rarer items "
                "(--min-interactions 3) or lower --min-users; bench.item_popularity, bench.user_activity and "
                "bench.ablation still run"
            )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.unseen_items"))
