"""Tables: escaping of user text in every form, rounding for readers, full precision in CSV."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest

from illmrec.escaping import for_latex, for_markdown
from reports.wording.tables import Column, Table, display, frame_table, mean_and_error

HOSTILE = "<script>a|b</script> \\input{x} $5_0% #1 & `c` [d](e) ~^\nnext"


@pytest.fixture
def table() -> Table:
    return Table(
        name="table9_x",
        caption="Caption with 100%",
        columns=[
            Column(title="Data", align="l"),
            Column(title="Hit@5", group="A & B"),
            Column(title="NDCG@5", group="A & B"),
            Column(title="MRR"),
        ],
        rows=[[HOSTILE, "0.1 ± 0.2", "✓", "–"]],
        data=pd.DataFrame({"data": [HOSTILE], "value": [1 / 3]}),
    )


def test_markdown_has_one_line_per_row_and_no_markup_of_users(table: Table) -> None:
    lines = table.markdown().splitlines()
    assert lines[3] == "| :-- | --: | --: | --: |"
    assert len(lines) == 5
    assert "<script>" not in lines[4]
    unescaped = [
        part for position, part in enumerate(lines[4]) if part == "|" and lines[4][position - 1] != "\\"
    ]
    assert len(unescaped) == 5


def test_latex_is_booktabs_with_groups_and_escapes(table: Table) -> None:
    text = table.latex()
    for command in ("\\toprule", "\\midrule", "\\bottomrule", "\\begin{tabular}{lrrr}"):
        assert command in text
    assert r"\multicolumn{2}{c}{A \& B}" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert "\\input" not in text
    assert r"\checkmark" in text and r"$\pm$" in text
    body = text.split("\\midrule")[1].split("\\bottomrule")[0].strip()
    assert body.endswith(r"\\") and "\n" not in body


def test_csv_keeps_text_and_full_precision(table: Table) -> None:
    back = pd.read_csv(io.StringIO(table.csv()))
    assert back.loc[0, "data"] == HOSTILE
    assert back.loc[0, "value"] == pytest.approx(1 / 3, abs=1e-15)


def test_groups_span_neighbours(table: Table) -> None:
    assert table.groups == [("", 1), ("A & B", 2), ("", 1)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (np.nan, "–"),
        (np.float64("inf"), "–"),
        ("", "–"),
        (True, "✓"),
        (np.bool_(False), ""),
        (12345, "12,345"),
        (np.int64(7), "7"),
        (0.12345, "0.1235"),
        (12.345, "12.35"),
        (123.45, "123.5"),
        (12345.6, "12,346"),
        (-0.5, "-0.5000"),
        (0.0, "0.0000"),
    ],
)
def test_display(value: object, text: str) -> None:
    assert display(value) == text


def test_mean_and_error() -> None:
    assert mean_and_error(0.37114, 0.00123) == "0.3711 ± 0.0012"
    assert mean_and_error(0.37114, math.nan) == "0.3711"
    assert mean_and_error(math.nan, math.nan) == "–"


def test_escapes_leave_plain_text_alone() -> None:
    assert for_latex("I-LLMRec+ (a)") == "I-LLMRec+ (a)"
    assert for_markdown("I-LLMRec+ (a)") == "I-LLMRec+ (a)"


def test_frame_table_aligns_numbers_right_and_takes_titles() -> None:
    table = frame_table("x", "y", pd.DataFrame({"a_b": ["t"], "n": [2]}), {"n": "count"})
    assert [(column.title, column.align) for column in table.columns] == [("a b", "l"), ("count", "r")]
    assert table.rows == [["t", "2"]]


def test_a_title_that_would_fill_the_page_is_cut_and_whole_in_the_csv() -> None:
    table = frame_table("x", "y", pd.DataFrame({"title": ["x" * 100_000]}))
    assert len(table.rows[0][0]) == 300 and len(table.markdown()) < 1000 and len(table.csv()) > 100_000
