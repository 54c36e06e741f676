"""The paper's own numbers, from ``reports/paper/*.csv``; each row names its table, figure or section."""

from __future__ import annotations

import functools
import io
from importlib import resources

import pandas as pd

TABLES = {
    "table1": "Table 1 of the paper: accuracy of all methods on the target and 100 sampled items",
    "table2": "Table 2 of the paper: ablation of RISA and of the feature types of RERI",
    "table4": "Table 4 of the paper: statistics of the data sets",
    "facts": "Numbers that the paper gives in its text",
}


@functools.cache
def published(name: str) -> pd.DataFrame:
    """Return one table of published numbers.

    Args:
        name: ``table1`` (dataset, metric, method, value), ``table2`` (row, risa, image, cf, text, dataset,
            metric, value), ``table4`` (dataset, users, items, interactions, avg_length) or ``facts`` (fact,
            value, unit, statement); each also has ``source``.
    """
    text = (resources.files("reports") / "paper" / f"{name}.csv").read_text(encoding="utf-8")
    return pd.read_csv(io.StringIO(text))


def fact(name: str) -> tuple[float, str]:
    """Return the value of a published fact and where the paper gives it.

    Raises:
        KeyError: If there is no such fact.
    """
    facts = published("facts").set_index("fact")
    return float(facts.at[name, "value"]), str(facts.at[name, "source"])


def ablation_value(row: str, dataset: str, metric: str) -> float:
    """Return a value of the paper's Table 2.

    Args:
        row: ``a`` to ``e``.
        dataset: ``Sport`` or ``Art``.
        metric: ``Hit@5`` or ``NDCG@5``.
    """
    table = published("table2").set_index(["row", "dataset", "metric"])
    return float(table.at[(row, dataset, metric), "value"])
