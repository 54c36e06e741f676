"""Figure 11 of the paper: which features recommend to users with short histories, and which to long ones."""

from __future__ import annotations

import sys

from bench.feature_sets import check_feature_sets, check_min_users, evaluate_feature_sets, finish
from bench.frames.groups import FEATURE_SETS, GROUPS
from bench.frames.user_activity import frame
from bench.settings import Settings
from bench.store import Store
from bench.workspace import Workspace
from illmrec.command_line import run
from illmrec.errors import InputError


def main(settings: Settings, *, features: tuple[str, ...] = tuple(FEATURE_SETS), min_users: int = 10) -> int:
    """Compare feature sets on users with short and long sequences (Figure 11, Appendix E.7).

    Users are sorted by the length of their sequence and cut into five groups of equal size. The models are rows (b)
    to (e) of the ablation. Writes tables/user_activity.csv under --out.

    Args:
        settings: Data, model and training.
        features: Feature sets of RERI: image, cf, image+cf, image+cf+text.
        min_users: Users that each group needs.
    """
    names = check_feature_sets(features)
    check_min_users(min_users)
    settings = settings.resolved()
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    evaluated = min(len(workspace.users(seed)) for seed in settings.seeds)
    if evaluated < GROUPS * min_users:
        raise InputError(
            f"{workspace.dataset.name}: {evaluated} users are evaluated and {GROUPS} groups of {min_users} are "
            "needed; take more users (--eval-users, --max-users) or lower --min-users"
        )
    done = evaluate_feature_sets(workspace, store, names)
    table = frame(done.records, store)
    finish(table, workspace, store, name="user_activity", title="group of users, 1 = shortest history")
    return done.status


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.user_activity"))
