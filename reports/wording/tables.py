"""One table, four forms: CSV for machines, Markdown, LaTeX (booktabs) and the rows that the page shows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pandas as pd

from illmrec.escaping import csv_text, for_latex, for_markdown, shortened
from reports.sections.methods import MethodStyle

MISSING = "–"
DAGGER = "†"
DOUBLE_DAGGER = "‡"
CHECK = "✓"
METRIC_TITLES = {
    "ndcg@5": "NDCG@5",
    "hit@5": "Hit@5",
    "ndcg@10": "NDCG@10",
    "hit@10": "Hit@10",
    "ndcg@20": "NDCG@20",
    "hit@20": "Hit@20",
    "mrr": "MRR",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table for readers: its title, its alignment and the title shared with neighbours."""

    title: str
    align: Literal["l", "c", "r"] = "r"
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table for readers and the tidy numbers behind it.

    Attributes:
        name: File name without its ending.
        caption: One line.
        columns: The columns that readers see.
        rows: Display text, one list per row, one entry per column.
        data: The tidy data of the CSV, in full precision.
        marks: ``best`` or ``second`` by row and column: bold or underlined.
        wrap: Whether cells hold sentences, which may wrap.
        folded: Whether the page shows its caption alone until a reader opens it; tables behind the first always are.
    """

    name: str
    caption: str
    columns: list[Column]
    rows: list[list[str]]
    data: pd.DataFrame = field(compare=False)
    marks: Mapping[tuple[int, int], Literal["best", "second"]] = field(default_factory=dict)
    wrap: bool = False
    folded: bool = False

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Titles over neighbouring columns with the number of columns each spans; empty without any."""
        if not any(column.group for column in self.columns):
            return []
        return [(title, len(list(members))) for title, members in groupby(self.columns, lambda c: c.group)]

    def csv(self) -> str:
        """Return the tidy data as CSV, floats in full precision, missing values empty, no text a formula."""
        return csv_text(self.data)

    def markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table; text from users is escaped."""
        titles = [f"{column.group} {column.title}".strip() for column in self.columns]
        rules = {"l": ":--", "c": ":-:", "r": "--:"}
        lines = [
            for_markdown(self.caption),
            "",
            _pipes([for_markdown(title) for title in titles]),
            _pipes([rules[column.align] for column in self.columns]),
            *(_pipes(row) for row in self._marked(for_markdown, best="**{}**", second="<u>{}</u>")),
        ]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """Return a LaTeX table in booktabs form; text from users is escaped."""
        rows = self._marked(for_latex, best=r"\textbf{{{}}}", second=r"\underline{{{}}}")
        lines = [
            "% needs \\usepackage{booktabs} and \\usepackage{amssymb}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{for_latex(self.caption)}}}",
            f"\\label{{tab:{re.sub(r'[^a-z0-9-]', '-', self.name.lower())}}}",
            f"\\begin{{tabular}}{{{''.join(column.align for column in self.columns)}}}",
            "\\toprule",
            *self._latex_groups(),
            _ampersands([for_latex(column.title) for column in self.columns]),
            "\\midrule",
            *(_ampersands(row) for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def _marked(self, escape: Callable[[str], str], *, best: str, second: str) -> list[list[str]]:
        """Return the rows escaped, the best and second-best numbers in their forms, errors as they are."""
        forms = {"best": best, "second": second}
        rows = []
        for position, row in enumerate(self.rows):
            texts = []
            for column, text in enumerate(row):
                mark = self.marks.get((position, column))
                number, sign, error = text.partition(" ± ")
                texts.append(
                    forms[mark].format(escape(number)) + escape(sign + error) if mark else escape(text)
                )
            rows.append(texts)
        return rows

    def _latex_groups(self) -> list[str]:
        titles, rules, first = [], [], 1
        for title, span in self.groups:
            titles.append(f"\\multicolumn{{{span}}}{{c}}{{{for_latex(title)}}}")
            if title:
                rules.append(f"\\cmidrule(lr){{{first}-{first + span - 1}}}")
            first += span
        return [_ampersands(titles), " ".join(rules)] if titles else []


def frame_table(
    name: str,
    caption: str,
    data: pd.DataFrame,
    titles: Mapping[str, str] | None = None,
    looks: Mapping[str, Mapping[str, MethodStyle]] | None = None,
) -> Table:
    """Return a table that shows a data frame as it is, numbers rounded for reading.

    Args:
        name: File name without its ending.
        caption: One line.
        data: Tidy data.
        titles: Titles that replace column names.
        looks: By column, looks whose labels readers see; the CSV has the names.
    """
    names = titles or {}
    labels = {
        column: [styles[value].label for value in data[column]] for column, styles in (looks or {}).items()
    }
    shown = data.assign(**labels)
    numeric = [pd.api.types.is_numeric_dtype(shown[column]) for column in shown.columns]
    columns = [
        Column(
            title=names.get(str(column), shortened(str(column).replace("_", " "))),
            align="r" if number else "l",
        )
        for column, number in zip(shown.columns, numeric, strict=True)
    ]
    rows = [[display(value) for value in row] for row in shown.itertuples(index=False, name=None)]
    return Table(name=name, caption=caption, columns=columns, rows=rows, data=data)


def display(value: Any) -> str:
    """Return a value as readers see it: thousands separated, decimals by size, missing as a dash."""
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return CHECK if value else ""
    if isinstance(value, str):
        return shortened(value) or MISSING
    number = float(value)
    if number == int(number) and not isinstance(value, float):
        return f"{int(number):,}"
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    if abs(number) >= 100:
        return f"{number:.1f}"
    if abs(number) >= 1:
        return f"{number:.2f}"
    # Two digits of what is very small, such as the price of a user, and a plain 0.0000 of what is nothing.
    decimals = 4 if not 1e-9 < abs(number) < 1e-3 else 1 - math.floor(math.log10(abs(number)))
    return f"{number:.{decimals}f}"


def mean_and_error(mean: float, error: float) -> str:
    """Return ``0.3711 ± 0.0012``, the mean alone where no error is known, or a dash."""
    if not math.isfinite(mean):
        return MISSING
    return f"{mean:.4f} ± {error:.4f}" if math.isfinite(error) else f"{mean:.4f}"


def _pipes(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _ampersands(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"
