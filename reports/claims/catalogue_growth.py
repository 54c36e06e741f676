"""The claim on a growing catalogue."""

from __future__ import annotations

from typing import Any

from bench.frames.catalogue_growth import EXPERIMENT
from bench.frames.selection import OURS
from bench.store.cell import Record
from reports.claims.claim import Claim, Found
from reports.claims.evidence import Judge
from reports.claims.rules import WITHIN_25_PERCENT
from reports.paper.published import fact
from reports.sections.section import Section, llm_label


def _size_before(section: Section, judge: Judge) -> Found:
    """Compare the model of the size before with one trained for the catalogue, at each size and per feature set."""
    newest: dict[tuple[Any, ...], dict[int, Record]] = {}
    for record in sorted(section.cells(EXPERIMENT), key=lambda record: record.created):
        config = record.config
        if llm_label(config) == section.llm and record.method == OURS:
            place = (tuple(config["features"]), config["served"]["items"], config["trained"]["items"])
            newest.setdefault(place, {})[record.seed] = record
    found = []
    for features, served, trained in newest:
        smaller = [size for *place, size in newest if place == [features, served] and size < served]
        if trained != served or not smaller:
            continue
        older = newest[features, served, max(smaller)]
        names = (f"{'+'.join(features)}: {max(smaller)} items serve {served}", "trained for them")
        sides = (list(older.values()), list(newest[features, served, served].values()))
        found.append(judge.compare(*sides, names))
    return found or [None]


def _published() -> str:
    """Return what models of a smaller Phone catalogue lose against those trained for the larger one."""
    changes = []
    for smaller, larger in (("5k", "10k"), ("10k", "15k"), ("15k", "20k")):
        older, retrained = (
            fact(f"catalogue_performance_{name}")[0] for name in (f"{smaller}_to_{larger}", larger)
        )
        changes.append(
            f"−{100 * (1 - older / retrained):.1f} % from {smaller.upper()} to {larger.upper()} items"
        )
    return "; ".join(changes)


CLAIMS = (
    Claim(
        id="older-models-serve",
        text="As the catalogue grows, the model of the size before keeps three quarters of the accuracy",
        source="Appendix E.13",
        published=_published(),
        rule=WITHIN_25_PERCENT,
        test=_size_before,
        content=False,
    ),
)
