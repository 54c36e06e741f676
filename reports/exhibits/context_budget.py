"""Figure 4: accuracy within a budget of tokens."""

from __future__ import annotations

import pandas as pd

from bench.frames import context_budget
from reports.drawing.sweep_figures import Panel
from reports.exhibits.exhibit import Shown, gap, in_order, table
from reports.exhibits.lines import curves, lines_exhibit
from reports.sections.section import Section
from reports.wording.cautions import session_notes
from reports.wording.tables import Table

_COLUMNS = {
    "method": "method",
    "context": "budget (tokens)",
    "prompt_tokens": "tokens of a prompt",
    "dropped_items": "items dropped",
    "dropped_tokens": "tokens dropped",
    "latency_ms_median": "latency of one user (ms)",
    "ndcg@10": "NDCG@10",
}


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy by budget, with what each budget leaves of a prompt."""
    title = "Figure 4. Accuracy within a context budget"
    frame = section.frame(context_budget.frame, prompts=True)
    points = curves(frame, "method", "context")
    if points["x"].nunique() < 2:
        return [gap(section, title, "no accuracy cells at several context budgets", "context_budget")]
    return [
        lines_exhibit(
            section,
            name="figure4",
            title=title,
            panels=[Panel(curves=points, xlabel="Context budget in tokens", doubling=True)],
            looks=section.styles,
            varied="tokens of context",
            paper=(
                "Below 512 tokens TRSR and I-LLMRec+ decline sharply; I-LLMRec and TALLRec stay stable down to 256,"
                " TALLRec at a lower level (Section 4.3)."
            ),
            experiment="context_budget",
            notes=session_notes(frame["session"]),
            tables=(_budgets(section, frame),),
        )
    ]


def _budgets(section: Section, frame: pd.DataFrame) -> Table:
    """Return what each budget leaves of a prompt, what it drops, and the latency, as means over seeds."""
    sampled = frame[frame["candidates"] == "sampled"]
    means = sampled.groupby(["method", "context"], sort=False)[list(_COLUMNS)[2:]].mean().reset_index()
    # Of old cells, whose latency was not measured, that column says nothing.
    shown = in_order(means, section, "context")[[*_COLUMNS]].dropna(axis="columns", how="all")
    looks = {"method": section.styles}
    return table(section, "figure4_budgets", "Within a context budget", shown, _COLUMNS, looks)
