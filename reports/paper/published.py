"""The paper's own numbers, ``reports/paper/EXPERIMENT_tableN.csv``; each row names its table, figure or section."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from importlib import resources

import pandas as pd

TABLES = {
    "table1": "Table 1 of the paper: accuracy of all methods on the target and 100 sampled items",
    "table2": "Table 2 of the paper: ablation of RISA and of the feature types of RERI",
    "table3": "Table 3 of the paper: the LLM frozen or fine-tuned with LoRA",
    "table4": "Table 4 of the paper: statistics of the data sets",
    "table5": "Table 5 of the paper: other data sets; choices on Clothing and H&M are visual",
    "table6": "Table 6 of the paper: micro-videos",
    "table7": "Table 7 of the paper: a visually weak domain",
    "table8": "Table 8 of the paper: the percentage of images that I-LLMRec does without",
    "table9": "Table 9 of the paper: image quality",
    "table10": "Table 10 of the paper: training strategy",
    "table11": "Table 11 of the paper: LLM and vision encoder",
    "facts": "Numbers that the paper gives in its text",
}
PAPER_LLM_METHODS = ("TALLRec", "A-LLMRec", "TRSR", "UniMP", "I-LLMRec+", "I-LLMRec")
"""The methods of Table 1 that have an LLM."""
_MARKS = ("risa", "image", "cf", "text")
_BESIDE = ("source", "visual_centric")


@functools.cache
def published(name: str) -> pd.DataFrame:
    """Return one table of published numbers.

    Args:
        name: A key of ``TABLES``. ``table4`` has the columns dataset, users, items, interactions and avg_length,
            ``facts`` fact, value, unit and statement; the others are tidy: what tells the rows of the printed
            table apart (method, row, strategy, llm, vision, features, quality, missing_images), dataset, metric
            and value. Each also has ``source``.
    """
    folder = resources.files("reports") / "paper"
    # Before the table's name stands that of its experiment.
    files = {path.name.removesuffix(".csv").rpartition("_")[2]: path for path in folder.iterdir()}
    return pd.read_csv(io.StringIO(files[name].read_text(encoding="utf-8")))


def printed(name: str) -> pd.DataFrame:
    """Return a table in its printed form: methods, rows or settings down, data sets and metrics across.

    Args:
        name: A key of ``TABLES``. Table 1 has its methods across; facts lose their identifiers.
    """
    frame = published(name)
    if name == "facts":
        return frame[["statement", "value", "unit", "source"]]
    if "metric" not in frame:
        return frame.drop(columns="source")
    if name == "table1":
        down, across = ["dataset", "metric"], frame["method"]
    else:
        down = [column for column in frame if column not in ("dataset", "metric", "value", *_BESIDE)]
        across = frame["dataset"] + " " + frame["metric"]
    marked = frame.astype({mark: bool for mark in _MARKS if mark in frame}).assign(across=across)
    rows = marked[down].drop_duplicates()
    wide = marked.pivot(index=down, columns="across", values="value")[list(dict.fromkeys(across))]
    return rows.merge(wide, left_on=down, right_index=True)


@functools.cache
def fact(name: str) -> tuple[float, str]:
    """Return the value of a published fact and where the paper gives it.

    Raises:
        KeyError: If there is no such fact.
    """
    facts = published("facts").set_index("fact")
    return float(facts.at[name, "value"]), str(facts.at[name, "source"])


def gains(name: str, first: str | Sequence[str], second: str, within: Mapping[str, str] | None = None) -> str:
    """Return by how much the paper has one method, row or setting above another, in NDCG, over its data sets.

    Args:
        name: A key of ``TABLES`` with the columns dataset, metric and value; NDCG@10 of ``table1``, else NDCG@5.
        first: A method, row or setting, or several, whose mean is taken.
        second: What it is compared with.
        within: Values of columns that both share.
    """
    table = published(name)
    for column, value in (within or {}).items():
        table = table[table[column] == value]
    metric = "NDCG@10" if name == "table1" else "NDCG@5"
    named = next(
        column
        for column in ("row", "method", "strategy", "llm", "vision")
        if column in table and column not in (within or {})
    )
    wide = table[table["metric"] == metric].pivot(index="dataset", columns=named, values="value")
    above = wide[[first] if isinstance(first, str) else list(first)].mean(axis="columns")
    percent = 100 * (above / wide[second] - 1)
    low, high = (f"{value:+.1f}".replace("-", "−") for value in (percent.min(), percent.max()))
    if len(percent) == 1:
        return f"{low} % {metric} on {percent.index[0]}"
    return f"{low} to {high} % {metric} over {len(percent)} data sets"


@functools.cache
def ablation_value(row: str, dataset: str, metric: str) -> float:
    """Return a value of the paper's Table 2.

    Args:
        row: ``a`` to ``e``.
        dataset: ``Sport`` or ``Art``.
        metric: ``Hit@5`` or ``NDCG@5``.
    """
    table = published("table2").set_index(["row", "dataset", "metric"])
    return float(table.at[(row, dataset, metric), "value"])
