"""Figure 1(b), latency against accuracy, and the same at each length of history."""

from __future__ import annotations

import pandas as pd

from bench.frames import tradeoff
from bench.frames.costs import unknown_costs
from bench.frames.tradeoff import on_front
from reports.drawing.deferred import drawing
from reports.drawing.figures import tradeoff_figure
from reports.exhibits.exhibit import Exhibit, Gap, Shown, in_order, table
from reports.paper.published import fact
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.cautions import session_notes, timing_notes, variant_notes
from reports.wording.wording import candidate_words, listing, words

_TITLE = "Figure 1(b). Latency against accuracy"
_LENGTHS = {
    "history_length": "|S_u|",
    "method": "method",
    "latency_ms_median": "latency of one user (ms)",
    "ndcg@10": "NDCG@10",
    "stderr_ndcg@10": "standard error",
    "tokens_per_item": "tokens an item",
    "users_per_second": "users a second",
    "wh_per_1000_users": "Wh for 1,000 users",
    "cost_per_1000_users": "money for 1,000 users",
    "currency": "currency",
    "peak_memory_mb": "peak memory (MB)",
    "on_front": "Pareto front",
}


def exhibits(section: Section) -> list[Shown]:
    """Return Figure 1(b), and the front at each length of history where there is one."""
    return [_figure1b(section), *_lengths(section)]


def _figure1b(section: Section) -> Shown:
    """Return latency against NDCG@10 of the methods that have both for the same data and LLM."""
    timings, variants, styles = section.timings, section.headline, section.styles
    both = [name for name in styles if name in set(timings["method"]) and name in variants]
    timings = timings[timings["method"].isin(both)]
    measured = [set(group["history_length"]) for _, group in timings.groupby("method")]
    lengths = sorted(set.intersection(*measured)) if measured else []
    if not lengths:
        return _missing(section)
    kept = timings[timings["history_length"].isin(lengths)]
    latency = kept.groupby("method")["latency_ms_median"].mean()
    entries = [variants[name] for name in both]
    rows = [
        (entry.method, latency[entry.method], *entry.value("sampled", "ndcg@10"), len(entry.records))
        for entry in entries
    ]
    frame = pd.DataFrame(rows, columns=["method", "latency_ms", "ndcg@10", "stderr", "seeds"])
    frame["pareto"] = on_front(frame["latency_ms"], frame["ndcg@10"])
    front = [styles[name].label for name in frame.loc[frame["pareto"], "method"]]
    beaten = [styles[name].label for name in frame.loc[~frame["pareto"], "method"]]
    behind = f"; for {words(beaten)} another method is at least as fast and as accurate" if beaten else ""
    speedup, source = fact("speedup_over_description")
    gain, _ = fact("gain_over_attributes")
    used = [record for entry in entries for record in entry.records]
    titles = {"latency_ms": "latency (ms)", "ndcg@10": "NDCG@10", "pareto": "Pareto front"}
    caption = "Latency a user and NDCG@10"
    return Exhibit(
        name=f"figure1b{section.suffix}",
        title=_TITLE,
        reading=(
            f"By medians and means, on the Pareto front {'stands' if len(front) == 1 else 'stand'}"
            f" {words(front)}{behind}."
        ),
        paper=(
            f"I-LLMRec is about {speedup:g} times as fast as the description-based representation and"
            f" {gain:g} % better than the attribute-based one ({source})."
        ),
        notes=(
            f"Latency: mean over |S_u| = {words(lengths)} of the median latency a user. NDCG@10 over all test users,"
            f" {candidate_words('sampled', entries)}.",
            *timing_notes(section.efficiency),
            *variant_notes(entries, styles),
        ),
        commands=commands([*section.efficiency, *used]),
        tables=(table(section, "figure1b", caption, frame, titles, {"method": styles}),),
        figure=drawing(tradeoff_figure, frame, styles, section.title),
        alt=listing("Scatter plot of latency in ms a user", frame, "latency_ms", styles, "{:.1f}")
        + listing(" NDCG@10", frame, "ndcg@10", styles, "{:.3f}"),
    )


def _missing(section: Section) -> Gap:
    kinds = {"efficiency": ("efficiency", section.efficiency), "comparison": ("accuracy", section.accuracy)}
    missing = {experiment: kind for experiment, (kind, there) in kinds.items() if not there}
    reason = (
        f"no {' and no '.join(missing.values())} cells for this LLM"
        if missing
        else "no method has both accuracy and latency at the history lengths of the others"
    )
    command = " && ".join(section.command(experiment) for experiment in missing or kinds)
    return Gap(title=_TITLE, reason=reason, command=command)


def _lengths(section: Section) -> list[Shown]:
    """Return the front of Figure 1(b) at each length of history; nothing where that figure itself is a gap."""
    frame = tradeoff.frame(section.with_prompts, section.store, section.pricing)
    frame = frame[(frame["candidates"] == "sampled") & frame["method"].isin(list(section.styles))]
    frame = frame[frame["llm"] == section.llm]
    if frame.empty:
        return []
    lengths = frame["history_length"].nunique()
    places = []
    for name, rows in frame[frame["on_front"]].groupby("method"):
        where = (
            "at every length" if len(rows) == lengths else f"at |S_u| = {words(list(rows['history_length']))}"
        )
        places.append(f"{section.styles[str(name)].label} {where}")
    title = "Figure 1(b) at each length of history"
    titles = {name: title for name, title in _LENGTHS.items() if name not in unknown_costs(frame)}
    shown = in_order(frame, section, "history_length")[[*titles]]
    return [
        Exhibit(
            name=f"figure1b_lengths{section.suffix}",
            title=title,
            reading=f"On the Pareto front of latency and NDCG@10: {', '.join(places)}.",
            paper="The paper draws one point a representation (Figure 1(b)).",
            notes=session_notes(frame["session"]),
            commands=section.made_by("tradeoff"),
            tables=(table(section, "figure1b_lengths", title, shown, titles, {"method": section.styles}),),
        )
    ]
