"""The toyshop's users: taste, drift, popularity and habits, and the sequences that come of them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from tqdm import tqdm

from illmrec.data.toyshop.catalogue import VOCABULARIES
from illmrec.data.toyshop.kinds import KINDS

LENGTHS = (5, 40)
"""Shortest and longest sequence."""
MEDIAN_LENGTH = 12
LENGTH_SPREAD = 0.85
"""Standard deviation of the logarithm of a length."""

CIRCLES = 10
"""Users belong to circles with similar taste; that is what collaborative filtering can find."""
CIRCLE_SHARE = 0.7
"""Share of a taste's variance that the members of a circle have in common."""
TASTE = {"kind": 2.5, "brand": 1.5, "colour": 2.0, "pattern": 1.7, "shape": 0.8}
"""How much each attribute matters: standard deviation of its values' part of the utility."""
DRIFT = math.pi / 4
"""How far taste turns towards another one from a user's first interaction to the 40th."""
LEADS_TO = 2.5
"""Utility of a kind that the last item leads to (a mug after a teapot)."""
SAME_STYLE = 0.8
"""Utility of having the colour, and as much again of having the pattern, of the last item."""
POPULARITY = 0.8
"""Exponent of Zipf's law for the popularity of items."""
POPULARITY_HEAD = 10
"""Added to the ranks in Zipf's law (Mandelbrot): no item takes everything."""

_CHUNK = 512  # users at a time; part of the drawing: another size gives other users
_START, _DAY = 1_672_531_200, 86_400


def make_interactions(*, users: int, attributes: dict[str, np.ndarray], seed: int) -> pd.DataFrame:
    """Let users choose items, one after the other, none twice.

    A user's next item is drawn from a softmax over the catalogue of: logarithm of popularity + taste for its
    attributes at that time + habits that depend on the last item. The draws use the Gumbel trick, for many
    users at once.

    Args:
        users: How many.
        attributes: As in :class:`illmrec.data.toyshop.catalogue.Catalogue`.
        seed: Of everything about the users.

    Returns:
        Columns user_id, item_id row number (``item``), timestamp in seconds.
    """
    n_items = len(attributes["kind"])
    rng = np.random.default_rng([seed, 3])
    log_popularity = _log_popularity(n_items, rng)
    one_hot = np.hstack(
        [
            np.eye(len(vocabulary), dtype=np.float32)[attributes[name]]
            for name, vocabulary in VOCABULARIES.items()
        ]
    )
    circles = _tastes(CIRCLES, rng), _tastes(CIRCLES, rng)
    log_popularity = _calibrated(log_popularity, circles=circles, one_hot=one_hot, rng=rng)
    habits = _habits(attributes)
    tables = []
    starts = range(0, users, _CHUNK)
    for first in tqdm(starts, desc="toyshop users", unit="chunk", delay=1, disable=len(starts) == 1):
        count = min(_CHUNK, users - first)
        tables.append(
            _chunk(
                first=first,
                count=count,
                rng=np.random.default_rng([seed, 4, first]),
                circles=circles,
                log_popularity=log_popularity,
                one_hot=one_hot,
                habits=habits,
            )
        )
    return pd.concat(tables, ignore_index=True)


def _chunk(
    *,
    first: int,
    count: int,
    rng: np.random.Generator,
    circles: tuple[np.ndarray, np.ndarray],
    log_popularity: np.ndarray,
    one_hot: np.ndarray,
    habits: np.ndarray,
) -> pd.DataFrame:
    lengths = _lengths(count, n_items=len(log_popularity), rng=rng)
    circle = rng.integers(CIRCLES, size=count)
    early, late = (_members(taste, circle, rng) for taste in circles)

    n_items = len(log_popularity)
    free = np.ones((count, n_items), dtype=bool)
    chosen = np.full((count, LENGTHS[1]), -1, dtype=np.int64)
    for step in range(int(lengths.max())):
        active = np.flatnonzero(lengths > step)
        angle = DRIFT * step / LENGTHS[1]
        taste = math.cos(angle) * early[active] + math.sin(angle) * late[active]
        utility = taste @ one_hot.T + log_popularity
        if step:
            utility += habits[chosen[active, step - 1]]
        utility += rng.gumbel(size=utility.shape).astype(np.float32)
        utility[~free[active]] = -np.inf
        pick = utility.argmax(axis=1)
        chosen[active, step] = pick
        free[active, pick] = False

    taken = chosen >= 0
    gaps = rng.integers(_DAY // 24, 12 * _DAY, size=chosen.shape)
    times = _START + rng.integers(0, 365 * _DAY, size=(count, 1)) + np.cumsum(gaps, axis=1)
    user = np.broadcast_to(first + np.arange(count)[:, None], chosen.shape)
    return pd.DataFrame(
        {
            "user_id": [f"user-{number:06d}" for number in user[taken]],
            "item": chosen[taken],
            "timestamp": times[taken],
        }
    )


def _lengths(count: int, *, n_items: int, rng: np.random.Generator) -> np.ndarray:
    """Draw sequence lengths: log-normal, cut to :data:`LENGTHS` and to half the catalogue."""
    drawn = np.exp(math.log(MEDIAN_LENGTH) + LENGTH_SPREAD * rng.standard_normal(count))
    return np.rint(drawn).clip(LENGTHS[0], max(LENGTHS[0], min(LENGTHS[1], n_items // 2))).astype(np.int64)


def _log_popularity(n_items: int, rng: np.random.Generator) -> np.ndarray:
    ranks = rng.permutation(n_items) + 1
    return (-POPULARITY * np.log(ranks + POPULARITY_HEAD)).astype(np.float32)


def _calibrated(
    log_popularity: np.ndarray,
    *,
    circles: tuple[np.ndarray, np.ndarray],
    one_hot: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return item constants with which a crowd's first choices follow the wanted popularity.

    Without them a product that no circle likes would never be bought, and one that a large circle likes would
    stand above Zipf's law.
    """
    crowd = _members(circles[0], np.arange(1024) % CIRCLES, rng) @ one_hot.T
    wanted = log_popularity - np.log(np.exp(log_popularity).sum())
    constants = wanted.copy()
    for _ in range(8):
        utility = crowd + constants
        utility -= utility.max(axis=1, keepdims=True)
        share = np.exp(utility)
        share /= share.sum(axis=1, keepdims=True)
        constants += wanted - np.log(share.mean(axis=0))
    return constants


def _members(circle_tastes: np.ndarray, circle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw tastes around those of the users' circles: float32 [users, all attributes' values]."""
    shared, own = math.sqrt(CIRCLE_SHARE), math.sqrt(1 - CIRCLE_SHARE)
    drawn: np.ndarray = shared * circle_tastes[circle] + own * _tastes(len(circle), rng)
    return drawn


def _tastes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw tastes: float32 [count, all attributes' values side by side]."""
    parts = [
        TASTE[name] * rng.standard_normal((count, len(vocabulary)))
        for name, vocabulary in VOCABULARIES.items()
    ]
    return np.hstack(parts).astype(np.float32)


def _habits(attributes: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the last item adds to the utility of the next: float32 [n_items, n_items]."""
    names = [kind.name for kind in KINDS]
    leads = np.zeros((len(KINDS), len(KINDS)), dtype=np.float32)
    for row, kind in enumerate(KINDS):
        leads[row, [names.index(name) for name in kind.leads_to]] = LEADS_TO
    habits = leads[np.ix_(attributes["kind"], attributes["kind"])]
    for name in ("colour", "pattern"):
        values = attributes[name]
        habits += SAME_STYLE * (values[:, None] == values[None, :])
    return habits
