"""Figure 1(a) as distributions: the tokens of an item and of a prompt."""

from __future__ import annotations

from bench.frames import token_cost
from reports.drawing.deferred import drawing
from reports.drawing.sweep_figures import ranges_figure
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.sections.section import Section


def exhibits(section: Section) -> list[Shown]:
    """Return the distributions of tokens by method."""
    title = "Figure 1(a) as distributions. Tokens of an item and of a prompt"
    frame = section.frame(token_cost.frame)
    frame = frame[frame["method"].isin(list(section.styles))].drop_duplicates(["method", "unit"], keep="last")
    if frame.empty:
        return [gap(section, title, "no distributions of tokens for this LLM", "token_cost")]
    parts = [
        (label, frame[frame["unit"] == unit])
        for unit, label in (("item", "Tokens of an item"), ("prompt", "Tokens of a prompt"))
    ]
    values = [
        f"{section.styles[row['method']].label} {row['median']:.0f} (95th percentile {row['p95']:.0f})"
        for row in parts[0][1].sort_values("median").to_dict("records")
    ]
    shown = frame.assign(method=[section.styles[name].label for name in frame["method"]])
    shown = shown.drop(columns=["dataset", "fingerprint", "llm"])
    name = "figure1a_distribution"
    return [
        Exhibit(
            name=f"{name}{section.suffix}",
            title=title,
            reading=f"Median tokens of an item: {', '.join(values)}.",
            paper=(
                "About 10 tokens for attributes, 160 for a summary and 209 for a full description"
                " (Section 2, Appendix D.3)."
            ),
            notes=("Thin lines: 5th to 95th percentile; bars: the middle half; dots: the median.",),
            commands=section.made_by("token_cost"),
            tables=(table(section, name, "Distribution of tokens", shown),),
            figure=drawing(ranges_figure, parts, section.styles, section.title),
            alt=f"Ranges of tokens. Median tokens of an item: {', '.join(values)}.",
        )
    ]
