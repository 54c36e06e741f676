"""Table 11: accuracy and cost by LLM and vision encoder."""

from __future__ import annotations

import pandas as pd

from bench.frames import backbones
from reports.drawing.cost_figures import cost_figure
from reports.drawing.deferred import drawing
from reports.exhibits.exhibit import Exhibit, Shown, each_method, gap
from reports.paper.paper_tables import Line, published_lines, seed_means, short_name, side_by_side
from reports.sections.commands import commands
from reports.sections.methods import method_styles
from reports.sections.section import Section
from reports.wording.cautions import session_notes
from reports.wording.tables import frame_table


def exhibits(section: Section) -> list[Shown]:
    """Return the LLMs and vision encoders of each method on the data; other LLMs are sections of their own."""
    return each_method(section, backbones.frame(section.of_data, section.store), _backbones)


def _backbones(section: Section, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Table 11. LLMs and vision encoders{of}"
    if len(frame[["llm", "vision"]].drop_duplicates()) < 2:
        return gap(section, title, "no accuracy cells of several LLMs or vision encoders", "backbones")
    lines, points = [], []
    for (llm, vision), rows in frame.groupby(["llm", "vision"], sort=False):
        measured, seeds = seed_means(rows)
        costs = rows.drop_duplicates("seed").iloc[-1]
        labels = {"LLM": short_name(llm), "Vision encoder": short_name(vision)}
        spent = {
            "LLM parameters": int(costs["llm_parameters"]),
            "Training (s)": rows["training_seconds"].astype(float).mean(),
            "Latency of one user (ms)": costs["latency_ms_median"],
            "Peak memory (MB)": costs["peak_memory_mb"],
        }
        lines.append(Line(labels=labels, measured=measured, seeds=seeds, costs=spent))
        points.append((", ".join(labels.values()), costs["latency_ms_median"], *measured["ndcg@10"], seeds))
    drawn = pd.DataFrame(points, columns=["series", "cost", "mean", "stderr", "seeds"])
    if not of:
        lines += [
            Line(labels={"LLM": f"Paper: {llm}", "Vision encoder": vision}, paper=values)
            for (llm, vision), values in published_lines("table11", ("llm", "vision")).items()
        ]
    best = drawn.sort_values("mean", ascending=False).to_dict("records")
    reading = "NDCG@10 among sampled candidates: " + ", ".join(
        f"{row['series']} {row['mean']:.4f} at {row['cost']:.1f} ms a user" for row in best
    )
    name = f"table11{section.suffix}"
    caption = f"NDCG@10 against latency{of}, {section.label}"
    titles = {"series": "LLM, vision encoder", "cost": "latency of one user (ms)", "mean": "NDCG@10"}
    xlabel = "Median latency of one user in ms (left is better)"
    used = [record for record in section.of_data if "bench.backbones" in record.command]
    return Exhibit(
        name=name,
        title=title,
        reading=f"{reading}.",
        paper=(
            "The larger Vicuna is better than LLaMA with either encoder, and SigLIP better than CLIP with either LLM:"
            " stronger backbones help (Appendix E.12)."
        ),
        notes=session_notes(frame["session"]),
        commands=commands(used or section.of_data),
        tables=(
            frame_table(name, caption, drawn, titles),
            side_by_side(
                section, "table11_backbones", f"LLMs and vision encoders{of}, {section.label}", lines
            ),
        ),
        figure=drawing(cost_figure, drawn, method_styles(drawn["series"]), section.label, xlabel),
        alt=f"Scatter plot of NDCG@10 against latency. {reading}.",
    )
