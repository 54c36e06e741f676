"""``python -m bench same``: whether the smoke table is the same, rank by rank, of two commits or without fast paths.

For changes that should change no number, ``--against REV``: the working tree and a checkout of REV each compute the
comparison on the small generated data with a store and a cache of their own, and every user's rank under every method
is compared. ``--plain``: the working tree computes it twice, the second time with every fast path off.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from bench.store.results import print_table
from illmrec import checksums
from illmrec.errors import InputError
from illmrec.files import parsed_json
from illmrec.temporary import scratch_folder

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("popularity", "item-knn", "no-llm", "illmrec", "tallrec")
COLUMNS = ("method", "features", "seed", "users", "sampled_differ", "full_differ", "here", "there")
RANKS = ("rank_sampled", "rank_full")


def main(
    *,
    against: str | None = None,
    plain: bool = False,
    methods: tuple[str, ...] = METHODS,
    features: tuple[str, ...] = ("image", "text"),
    options: tuple[str, ...] = (),
) -> int:
    """Compute the smoke comparison here and at another commit, or with every fast path off; 1 if a rank differs.

    Nothing is taken from stores or caches, so that each side computes all of it; the default methods take some minutes.
    With --plain both are in float32, and a second table scores the same trained parameters both ways.

    Args:
        against: A commit, branch or tag of this repository.
        plain: Compare the working tree with itself, computed with --plain.
        methods: Methods that both know.
        features: Feature types that score items in LLM methods.
        options: Further options of bench.comparison for both, such as instruction=before,max-users=30.
    """
    if not methods:
        raise InputError("--methods: give at least one, such as popularity")
    if plain == (against is not None):
        raise InputError("give either --against, a commit, or --plain")
    asked = ["--methods", ",".join(methods), "--features", ",".join(features)]
    asked += [f"--{option}" for option in options]
    return _against_plain(asked) if against is None else _against_commit(against, asked)


def _against_commit(against: str, asked: Sequence[str]) -> int:
    with (
        scratch_folder() as folder,
        checkout(against, folder) as there,
    ):
        tables = {}
        for name, tree in (("here", ROOT), ("there", there)):
            logger.info("computing %s", "the working tree" if name == "here" else against)
            out = folder / name
            _compare_methods(tree, [*asked, "--out", str(out)], cache=folder / f"cache-{name}")
            tables[name] = stored_ranks(out)
    table = differences(tables["here"], tables["there"])
    print_table(table, title=f"Ranks of the working tree against {against}")
    return _said(bool((table["here"] & table["there"]).all()) and _no_rank_differs(table))


def _against_plain(asked: Sequence[str]) -> int:
    from bench.suite.plain import plain_differences  # loads PyTorch

    with scratch_folder() as folder:
        sides = {"here": ["--dtype", "float32", "--state-dtype", "float32"], "there": ["--plain"]}
        for name, own in sides.items():
            logger.info("computing the working tree, %s", "as it is" if name == "here" else "plainly")
            own += [*asked, "--preset", "smoke", "--no-progress", "--out", str(folder / name)]
            _compare_methods(ROOT, own, cache=folder / f"cache-{name}")
        table = differences(*(stored_ranks(folder / name) for name in sides))
        print_table(table, title="Ranks as computed against ranks with every fast path off")
        logger.info("scoring with the same parameters")
        scored = plain_differences(*sides.values(), cache=folder / "cache-here")
        print_table(scored, title="LLM methods, scored as usual against plainly")
    shared = scored[scored["parameters"] == "the same"]
    return _said(_no_rank_differs(shared) and bool((table["here"] & table["there"]).all()))


def _no_rank_differs(table: pd.DataFrame) -> bool:
    return not table[["sampled_differ", "full_differ"]].any(axis=None)


def _said(same: bool) -> int:
    logger.info("all ranks are the same" if same else "ranks differ")
    return 0 if same else 1


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """Give a checkout of a commit of this repository, which is removed at the end.

    Args:
        revision: The commit.
        folder: An existing folder for it.

    Raises:
        InputError: If this is no git repository, or there is no such commit.
    """
    tree = folder / "tree"
    _git(
        "rev-parse",
        "--verify",
        "--quiet",
        f"{revision}^{{commit}}",
        said=f"--against {revision}: no such commit here",
    )
    _git("worktree", "add", "--detach", "--quiet", str(tree), revision, said="git cannot check it out")
    try:
        yield tree
    finally:
        _git("worktree", "remove", "--force", str(tree), said="the checkout stays")


def _git(*arguments: str, said: str) -> None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise InputError("git is not installed") from None
    if done.returncode:
        detail = " ".join(done.stderr.split())
        raise InputError(f"{said}{f' ({detail})' if detail else ''}")


def _compare_methods(tree: Path, options: Sequence[str], *, cache: Path) -> None:
    command = [sys.executable, "-m", "bench.comparison", "--preset", "smoke", "--no-report", "--no-progress"]
    command += options
    environment = {**os.environ, "PYTHONPATH": str(tree), "ILLMREC_CACHE": str(cache)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise InputError(f"{tree}: bench.comparison ended with {done.returncode}: {''.join(last)}")


def stored_ranks(out: Path) -> pd.DataFrame:
    """Return what a store has of ranks: ``method, features, seed, user_id, rank_sampled, rank_full``.

    Args:
        out: Folder of results, of this or an earlier version of the toolkit.
    """
    parts = []
    for path in sorted(out.glob("store/cells/accuracy/*/cell.json")):
        checksums.check(path.parent, remedy=f"delete the folder {path.parent} and compute it again")
        cell = parsed_json(path.read_text(encoding="utf-8"))
        ranks = pd.read_parquet(path.with_name("ranks.parquet"), columns=["user_id", *RANKS])
        features = "+".join(cell["config"].get("features") or ())
        parts.append(ranks.assign(method=cell["method"], features=features, seed=cell["seed"]))
    if not parts:
        raise InputError(f"{out}: no ranks were stored")
    return pd.concat(parts, ignore_index=True)


def differences(here: pd.DataFrame, there: pd.DataFrame) -> pd.DataFrame:
    """Return how many ranks differ, ``COLUMNS``: one row for each method, feature types and seed.

    ``here`` and ``there`` say whether each side has it; users that one side lacks count as different.

    Args:
        here: What :func:`stored_ranks` returned of one side.
        there: Of the other.
    """
    at = ["method", "features", "seed"]
    both = here.merge(there, on=[*at, "user_id"], how="outer", suffixes=("", "_there"))
    rows = []
    for (method, features, seed), part in both.groupby(at, sort=True):
        counts = {
            f"{name.removeprefix('rank_')}_differ": int((part[name] != part[f"{name}_there"]).sum())
            for name in RANKS
        }
        sides = {
            "here": bool(part["rank_full"].notna().any()),
            "there": bool(part["rank_full_there"].notna().any()),
        }
        rows.append(
            {"method": method, "features": features, "seed": seed, "users": len(part), **counts, **sides}
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
