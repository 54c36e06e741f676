"""What fast paths change: the smoke table as it is computed, and with every fast path off (``--plain``).

Two questions are apart. Of one set of trained parameters: does a user's rank depend on how the LLM is run? And of
training: are ranks the same where that, too, went the plain way, whose gradients are rounded otherwise?
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.harness.accuracy import accuracy_cell, scorer_of
from bench.harness.methods import is_reri_method
from bench.harness.settings import Settings
from bench.harness.training import built_model, model_folder, trained_llm_method
from bench.harness.workspace import Workspace
from bench.protocol.evaluation import Scorer, UserScorer, evaluate
from bench.store.cell import Cell
from bench.store.store import Store
from illmrec.command_line import parse_options
from illmrec.model.illmrec import ILLMRec
from illmrec.saved_model import load_parameters

COLUMNS = (
    "method", "features", "seed", "parameters", "users", "sampled_differ", "full_differ", "score_difference",
)  # fmt: skip
RANKS = ("rank_sampled", "rank_full")


def plain_differences(fast: Sequence[str], plain: Sequence[str], *, cache: Path) -> pd.DataFrame:
    """Return what fast paths change of LLM methods, ``COLUMNS``: two rows for each method and seed.

    ``parameters`` says whose are scored both ways: ``the same``, those that the fast run trained, or ``their own``.
    ``score_difference`` is the largest of a score, in standard deviations of the user's scores.

    Args:
        fast: Options of a comparison that has been computed, with its caches in place.
        plain: Those of the same, computed with ``--plain``.
        cache: Folder of the caches of the former.
    """
    with _caches_at(cache):
        return pd.DataFrame(_differences(fast, plain), columns=list(COLUMNS))


def _differences(fast: Sequence[str], plain: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for (cell, place, usual), (plain_cell, plain_place, own) in zip(
        _trained(fast), _trained(plain), strict=True
    ):
        shared = built_model(plain_cell, plain_place)
        features, _ = place.features(shared.tables, seed=cell.base_seed)
        tables = {name: table.values for name, table in features.items()}
        load_parameters(shared, model_folder(Store(place.settings.out), cell), features=tables)
        here = _ranked(usual, cell, place)
        for parameters, model in (("the same", shared), ("their own", own)):
            there = _ranked(model, plain_cell, plain_place)
            rows.append(
                {
                    "method": cell.method,
                    "features": "+".join(cell.config["features"]),
                    "seed": cell.seed,
                    "parameters": parameters,
                    **compared(here, there),
                }
            )
    return rows


def compared(here: tuple[pd.DataFrame, np.ndarray], there: tuple[pd.DataFrame, np.ndarray]) -> dict[str, Any]:
    """Return how ranks and scores of the same users differ: the last four of ``COLUMNS``.

    Args:
        here: Ranks of users, and their scores [users, n_items].
        there: The same of the other way.
    """
    (ranks, scores), (other_ranks, other_scores) = here, there
    spread = scores.std(axis=1)
    difference = np.abs(scores - other_scores).max(axis=1) / spread
    differ = np.stack([(ranks[name] != other_ranks[name]).to_numpy() for name in RANKS])
    return {
        "users": len(ranks),
        "sampled_differ": int(differ[0].sum()),
        "full_differ": int(differ[1].sum()),
        "score_difference": float(difference.max()),
    }


@contextmanager
def _caches_at(folder: Path) -> Iterator[None]:
    before = os.environ.get("ILLMREC_CACHE")
    os.environ["ILLMREC_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["ILLMREC_CACHE"]
        if before is not None:
            os.environ["ILLMREC_CACHE"] = before


def _settings(options: Sequence[str]) -> dict[str, Any]:
    return parse_options(_asked, prog="python -m bench.comparison", args=options)


def _asked(settings: Settings, *, methods: tuple[str, ...], features: tuple[str, ...]) -> None:
    """Take those options of a comparison that its models depend on.

    Args:
        settings: Data, model and training.
        methods: Methods.
        features: Feature types that score items.
    """


def _trained(options: Sequence[str]) -> Iterator[tuple[Cell, Workspace, ILLMRec]]:
    """Yield the cells of LLM methods, where they were computed, and their models as they were trained."""
    given = _settings(options)
    place = Workspace(given["settings"].resolved())
    store = Store(place.settings.out)
    for seed in place.settings.seeds:
        for name in filter(is_reri_method, given["methods"]):
            cell = accuracy_cell(place, name, seed=seed, features=given["features"])
            model, _ = trained_llm_method(cell, place, model_folder(store, cell))
            yield cell, place, model


class _Kept:
    """A method whose scores are kept."""

    def __init__(self, method: Scorer | UserScorer) -> None:
        assert not isinstance(method, UserScorer)  # no LLM method is told who the users are
        self._method = method
        self.scores: list[np.ndarray] = []

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        self.scores.append(self._method.score(histories))
        return self.scores[-1]


def _ranked(model: ILLMRec, cell: Cell, place: Workspace) -> tuple[pd.DataFrame, np.ndarray]:
    users = place.users(cell.base_seed)
    kept = _Kept(scorer_of(model, cell, place, users))
    ranks = evaluate(
        kept,
        place.dataset,
        place.split,
        negatives=place.negatives(cell.base_seed),
        name=cell.method,
        users=users,
        progress=False,
    )
    return ranks, np.concatenate(kept.scores)
