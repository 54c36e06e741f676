"""How many users and training runs a wanted difference needs, as tables; no torch here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import ACCURACY, CANDIDATES, LIMITS, METHOD_OPTIONS, latest
from bench.protocol.variance import Variances
from bench.store.cell import Record
from illmrec.files import hash_json

EXPERIMENT = "power"
VERSION = 1

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="",
    question="how many users and seeds a difference between two methods needs",
    place=35,
)

SEEDS = (1, 3, 5)
"""Numbers of training runs that are told."""

STAND_IN = ("item-knn", "popularity")
"""Whose differences stand in for those of methods that nothing is stored of: nothing is trained."""

NOT_KNOWN = "not known"
NO_NUMBER = "more than any number"

COLUMNS = (
    "dataset", "candidates", "first", "second", "from", "users", "seeds", "seed_variance", "stderr", "detectable",
    "difference", "power", "enough",
)  # fmt: skip

NEEDED = ("candidates", "seeds", "users_needed")

Pairs = list[tuple[Record, Record]]
"""Accuracy cells of two methods, a pair for each seed."""

_ALIKE = ("llm", "features", "context", "instruction")
"""Options that two methods with an LLM, or controls of such, share where both have them."""
_OF_CONTROLS = ("readout", "slot_content", "tuned")
"""Options of controls and of searched hyper-parameters: how such a method is trained is its own."""


def stored_pairs(records: Sequence[Record], methods: tuple[str, str], *, fingerprint: str) -> Pairs:
    """Return the cells of two methods on a data set that differ in nothing but the methods' options, one pair a seed.

    Several seeds are preferred to one, then what was computed last. Cells on changed items, those evaluated with less
    than was trained, and those without ranks are left out.

    Args:
        records: Cells of a store.
        methods: Names of the two methods.
        fingerprint: Of the data set.

    Returns:
        The pairs, ordered by seed; nothing where no seed has both.
    """
    groups: dict[str, dict[str, dict[int, Record]]] = {name: defaultdict(dict) for name in methods}
    for record in sorted(latest(records, ACCURACY), key=lambda record: record.created):
        config = record.config
        if (
            record.method in groups
            and config["dataset"]["fingerprint"] == fingerprint
            and "variant" not in config["dataset"]
            and not set(LIMITS) & config["evaluation"].keys()
            and (record.folder / "ranks.parquet").is_file()
        ):
            options = hash_json({name: value for name, value in config.items() if name != "seed"})
            groups[record.method][options][record.seed] = record
    found: list[Pairs] = []
    for first in groups[methods[0]].values():
        for second in groups[methods[1]].values():
            seeds = sorted(first.keys() & second.keys())
            if seeds and _alike(first[seeds[0]].config, second[seeds[0]].config):
                found.append([(first[seed], second[seed]) for seed in seeds])
    return max(
        found,
        key=lambda pairs: (len(pairs) > 1, max(record.created for pair in pairs for record in pair)),
        default=[],
    )


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return what can be found with a quarter, half and all users of the data set, and with as many as are needed.

    Args:
        records: Cells of the experiment.

    Returns:
        ``COLUMNS``: ``from`` whose differences the variances are of; ``seed_variance`` the variance between training
        runs as text, or that it is not known, and then a single number of seeds is told, for users alone; ``stderr``
        of the mean difference of NDCG@10; ``detectable`` the smallest true difference that is found with the wanted
        probability; ``power`` the probability that ``difference`` is found; ``enough`` whether it is the wanted one.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        for candidates, seeds, spread in _places(record):
            needed = _needed(record, spread, seeds)
            everyone = int(record.results["users"])
            counts = {max(2, everyone // 4), max(2, everyone // 2), everyone, *([needed] if needed else ())}
            rows += [
                {
                    "dataset": record.config["dataset"]["name"],
                    "candidates": candidates,
                    "first": record.method,
                    "second": record.config["against"],
                    "from": source(record),
                    "seeds": seeds,
                    "seed_variance": NOT_KNOWN if spread.runs is None else f"{spread.runs:.3g}",
                    **found_with(record, spread, users=users, seeds=seeds),
                }
                for users in sorted(counts)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def needed_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return how many users the wanted difference needs, ``NEEDED``, by candidates and number of training runs.

    ``users_needed`` is a number as text, or ``more than any number`` where the variance between runs alone forbids it.
    """
    rows = [
        (candidates, seeds, str(_needed(record, spread, seeds) or NO_NUMBER))
        for record in records
        for candidates, seeds, spread in _places(record)
    ]
    return pd.DataFrame(rows, columns=list(NEEDED))


def found_with(record: Record, spread: Variances, *, users: int, seeds: int) -> dict[str, Any]:
    """Return users, stderr, detectable, difference, power and enough of one plan.

    Args:
        record: A cell of the experiment, for the wanted difference and probability.
        spread: The variances.
        users: Users of the plan.
        seeds: Training runs of the plan.
    """
    planned = spread.spread(users=users, runs=seeds)
    difference = float(record.config["difference"])
    detectable = planned.detectable(float(record.config["power"]))
    return {
        "users": users,
        "stderr": planned.stderr,
        "detectable": detectable,
        "difference": difference,
        "power": planned.chance(difference),
        "enough": detectable <= difference,
    }


def spreads(record: Record) -> dict[str, Variances]:
    """Return a cell's variances by candidates."""
    return {candidates: Variances(**record.results[candidates]) for candidates in CANDIDATES}


def seeds_told(spread: Variances) -> tuple[int, ...]:
    """Return the numbers of training runs that variances tell something of: one where a single run was seen."""
    return SEEDS[:1] if spread.runs is None else SEEDS


def source(record: Record) -> str:
    """Return whose differences a cell's variances are of."""
    of, runs = record.config["of"], int(record.results["runs"])
    if stands_in(record):
        return f"{of[0]} and {of[1]}, standing in"
    return f"{of[0]} and {of[1]}, {runs} {'seed' if runs == 1 else 'seeds'}"


def stands_in(record: Record) -> bool:
    """Tell whether a cell's variances are those of other methods than the two that it is on."""
    return set(record.config["of"]) != {record.method, record.config["against"]}


def _places(record: Record) -> list[tuple[str, int, Variances]]:
    return [
        (candidates, seeds, spread)
        for candidates, spread in spreads(record).items()
        for seeds in seeds_told(spread)
    ]


def _needed(record: Record, spread: Variances, seeds: int) -> int | None:
    difference, power = (float(record.config[name]) for name in ("difference", "power"))
    return spread.users_needed(difference=difference, runs=seeds, power=power)


def _alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Tell whether two methods' cells differ in nothing but what makes the methods.

    Where one has no LLM they share the evaluation. Two LLM methods share all but what they show, and the encoders that
    both have; where one is a control, or its hyper-parameters were searched, how it is trained is its own.
    """
    names = {"evaluation"}
    if "risa" in first and "risa" in second:
        own = any(first.get(name) != second.get(name) for name in _OF_CONTROLS)
        names |= set(_ALIKE) if own else (first.keys() | second.keys()) - {*METHOD_OPTIONS, "seed"}
        # Cells of before say nothing of what was shown: prompts had another form then.
        if first.get("base_seed") != second.get("base_seed") or _old(first) != _old(second):
            return False
    shared = names & first.keys() & second.keys()
    encoders = [config.get("encoders", {}) for config in (first, second)]
    return all(first[name] == second[name] for name in shared - {"dataset", "encoders"}) and all(
        encoders[0][name] == encoders[1][name]
        for name in (encoders[0].keys() & encoders[1].keys() if "encoders" in shared else ())
    )


def _old(config: Mapping[str, Any]) -> bool:
    return "llm" in config and "rendered" not in config
