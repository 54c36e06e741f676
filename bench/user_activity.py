"""Figure 11 of the paper: which features recommend to users with short histories, and which to long ones."""

from __future__ import annotations

import sys

from bench.frames.groups import GROUPS
from bench.frames.user_activity import ABOUT, frame
from bench.harness.feature_sets import GroupOptions, compare_groups
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from illmrec.command_line import run
from illmrec.errors import InputError


def main(settings: Settings, *, groups: GroupOptions) -> int:
    """Compare feature sets on users with short and long sequences (Figure 11, Appendix E.7).

    Users are sorted by the length of their sequence and cut into five groups of equal size. The models are rows (b)
    to (e) of the ablation. Writes tables/user_activity.csv under --out.

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
        title="group of users, 1 = shortest history",
    )


def check_groups(workspace: Workspace, min_users: int) -> None:
    """Refuse data with too few users for five groups of them.

    Raises:
        InputError: If a group would have fewer than ``min_users`` users.
    """
    evaluated = min(len(workspace.users(seed)) for seed in workspace.settings.seeds)
    if evaluated < GROUPS * min_users:
        raise InputError(
            f"{workspace.dataset.name}: {evaluated} users are evaluated and {GROUPS} groups of {min_users} are "
            "needed; take more users (--eval-users, --max-users) or lower --min-users; bench.ablation still runs"
        )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.user_activity"))
