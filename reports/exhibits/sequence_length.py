"""Figure 3 with accuracy: NDCG@10 against the length of history that is read."""

from __future__ import annotations

from bench.frames import sequence_length
from reports.drawing.sweep_figures import Panel
from reports.exhibits.exhibit import Shown, gap
from reports.exhibits.lines import curves, lines_exhibit
from reports.sections.section import Section


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy against the length of history, of the methods that were read at several."""
    title = "Figure 3 with accuracy. NDCG@10 against the length of history that is read"
    points = curves(section.frame(sequence_length.frame), "method", "history_length")
    # A method that was read at one length only, as it was trained, is in no sweep.
    points = points[points.groupby("series")["x"].transform("nunique") > 1]
    if points["x"].nunique() < 2:
        return [gap(section, title, "no accuracy cells at several lengths of history", "sequence_length")]
    return [
        lines_exhibit(
            section,
            name="figure3_accuracy",
            title=title,
            panels=[Panel(curves=points, xlabel="Items of the history that are read, |S_u|")],
            looks=section.styles,
            varied="items of history",
            paper="Figure 3 has latency only; TALLRec's surpasses that of I-LLMRec at long histories (Section 4.3).",
            experiment="sequence_length",
        )
    ]
