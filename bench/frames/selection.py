"""Which accuracy cells of a store belong to one sweep, and the columns that their tables share; no torch here."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.protocol.metrics import METRICS, by_user, summarise
from bench.store.cell import Record
from bench.store.store import Store

ACCURACY = "accuracy"
OURS = "illmrec"
LIMITS = ("history_length", "context")
"""Evaluation options of an accuracy cell that make a trained LLM method read less."""

CANDIDATES = ("sampled", "full")
IDENTITY = ("dataset", "fingerprint", "llm")
METRIC_COLUMNS = (*METRICS, *(f"stderr_{name}" for name in METRICS))
"""Every metric, then its standard error over users, which is missing with a single user."""

METHOD_OPTIONS = ("method", "representation", "rendered", "summarizer", "alignment", "reader")
"""Options in which two LLM methods that are trained alike differ."""

FEATURE_OPTIONS = ("features", "cf")
"""Options in which two feature sets that are trained alike differ."""

ALL_FEATURES = ["image", "cf", "text"]
ITEM_TOKENS = ["item-token"]
"""Features of methods that score items by tokens of their own."""
TOKEN_OPTIONS = ("features", "cf", "encoders", "adaptor")
"""Options in which such a method differs from others beside it, and the loss of its training."""


def latest(records: Sequence[Record], experiment: str) -> list[Record]:
    """Return the cells of an experiment's latest version: numbers of different versions do not compare."""
    own = [record for record in records if record.experiment == experiment]
    version = max((record.version for record in own), default=0)
    return current([record for record in own if record.version == version])


def current(records: Sequence[Record]) -> list[Record]:
    """Return cells without those that were computed anew after a representation changed what it shows."""
    newest: dict[str, Record] = {}
    for record in records:
        config = {name: value for name, value in record.config.items() if name != "rendered"}
        place = json.dumps([record.experiment, record.version, config], sort_keys=True)
        if place not in newest or record.created >= newest[place].created:
            newest[place] = record
    kept = {id(record) for record in newest.values()}
    return [record for record in records if id(record) in kept]


def llm_cells(records: Sequence[Record], *, limits: Collection[str] = ()) -> list[Record]:
    """Return accuracy cells of LLM methods on the data set as it is, evaluated within some limits.

    Cells on changed items (``config.dataset.variant``) and cells with any other limit are left out; so are the
    rows of the ablation without RISA.

    Args:
        records: Cells of any experiment.
        limits: Evaluation options, of ``LIMITS``, that a cell may have.
    """
    return [
        record
        for record in latest(records, ACCURACY)
        if record.config.get("risa")
        and "variant" not in record.config["dataset"]
        and not ((set(LIMITS) - set(limits)) & record.config["evaluation"].keys())
    ]


def comparable(
    records: Sequence[Record], *, ignored: Collection[str], point: Callable[[Record], Hashable]
) -> list[Record]:
    """Return, for each data set and LLM, the cells of one sweep: trained and evaluated alike but for the sweep.

    Cells are grouped by what they share. Of several groups the newest is taken, one with at least two points of
    the sweep before one with a single point, which other experiments leave behind. Methods that score items by tokens
    stand beside others whose other options they share. Of cells for the same method, point and seed, the newest is
    taken.

    Args:
        records: Accuracy cells.
        ignored: Options that may differ within a sweep, besides seed and ``LIMITS``.
        point: Where in the sweep a cell stands.

    Returns:
        The cells, those of a data set and LLM together, in the order of ``records``; those that score by tokens last.
    """
    groups: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    # Those that score by tokens come last: they join what is there.
    for record in sorted(records, key=_by_tokens):
        where = json.dumps([record.config["dataset"]["fingerprint"], record.config["llm"]], sort_keys=True)
        joined = _joined(record, groups[where], ignored) if _by_tokens(record) else []
        for shared in joined or [_shared_options(record.config, ignored)]:
            groups[where][shared].append(record)
    chosen: list[Record] = []
    for options in groups.values():
        members = max(
            options.values(),
            key=lambda group: (len({point(r) for r in group}) > 1, max(r.created for r in group)),
        )
        newest: dict[Hashable, Record] = {}
        for record in members:
            place = (record.method, point(record), record.seed)
            if place not in newest or record.created >= newest[place].created:
                newest[place] = record
        chosen += newest.values()
    return chosen


def without_options(record: Record, names: Collection[str]) -> Record:
    """Return a cell as if its training had none of these options."""
    training = {name: value for name, value in record.config["training"].items() if name not in names}
    return replace(record, config={**record.config, "training": training})


def scores_in_full(record: Record) -> bool:
    """Return whether an LLM method scores items by all feature types, or by tokens of the items."""
    return record.config["features"] in (ALL_FEATURES, ITEM_TOKENS)


def by_method(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the cells of each method: those of I-LLMRec first, then the others by name."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.method].append(record)
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != OURS, pair[0])))


def identity(record: Record) -> dict[str, str]:
    """Return name and fingerprint of a cell's data set and its LLM, such as ``smollm2-135m (6 layers)``, if any."""
    dataset, llm = record.config["dataset"], record.config.get("llm")
    label = f"{llm_name(llm)} ({llm['layers']} layers)" if llm else ""
    return {"dataset": dataset["name"], "fingerprint": dataset["fingerprint"], "llm": label}


def llm_name(llm: Mapping[str, Any]) -> str:
    """Return the name of a cell's LLM, with digits of its content: two LLMs may have had one name."""
    name = str(llm.get("name", "LLM"))
    return f"{name}@{llm['content'][:8]}" if "content" in llm else name


def stored_metrics(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return ``METRIC_COLUMNS`` of one kind of candidates of an accuracy cell's results."""
    errors = results["stderr"]
    return {name: results[name] for name in METRICS} | {f"stderr_{name}": errors[name] for name in METRICS}


def accuracy_rows(record: Record, labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row for each kind of candidates of an accuracy cell."""
    return [{**labels, "candidates": candidates, **record.results[candidates]} for candidates in CANDIDATES]


def rank_metrics(ranks: pd.DataFrame, candidates: str) -> dict[str, float | None]:
    """Return ``METRIC_COLUMNS`` of some stored ranks.

    Args:
        ranks: Rows of a frame of ranks, one for each target of a user.
        candidates: ``sampled`` or ``full``.
    """
    return stored_metrics(summarise(ranks[f"rank_{candidates}"].to_numpy(), users=ranks["user_id"]))


def ndcg_by_user(records: Sequence[Record], store: Store, candidates: str) -> pd.Series:
    """Return NDCG@10 of some accuracy cells, one per seed, by seed and user_id.

    Args:
        records: The cells.
        store: The store that holds their ranks.
        candidates: ``sampled`` or ``full``.
    """
    parts = {record.seed: by_user(store.read_frame(record, "ranks"), candidates) for record in records}
    return pd.concat(parts, names=["seed"])


def _shared_options(config: Mapping[str, Any], ignored: Collection[str]) -> str:
    shared = {name: value for name, value in config.items() if name not in ignored and name != "seed"}
    # Cells of before say nothing of what was shown: prompts had another form then.
    shared["knows what was shown"] = "rendered" in config
    shared["evaluation"] = {name: value for name, value in config["evaluation"].items() if name not in LIMITS}
    return json.dumps(shared, sort_keys=True)


def _by_tokens(record: Record) -> bool:
    return bool(record.config.get("features") == ITEM_TOKENS)


def _joined(record: Record, groups: Mapping[str, Sequence[Record]], ignored: Collection[str]) -> list[str]:
    """Return the groups from whose cells one that scores by tokens differs in how it scores alone."""
    own = _beside_tokens(record.config, ignored)
    return [
        options for options, members in groups.items() if _beside_tokens(members[0].config, ignored) == own
    ]


def _beside_tokens(config: Mapping[str, Any], ignored: Collection[str]) -> str:
    training = {
        name: value for name, value in config["training"].items() if name not in ("loss", "negatives_from")
    }
    return _shared_options({**config, "training": training}, (*ignored, *TOKEN_OPTIONS))
