"""Text from users in what is written for people: no form reads any of it as markup."""

from __future__ import annotations

import csv
import io
import logging
import re
import sys

import pandas as pd
import pytest

from illmrec.command_line import run, set_up_logging
from illmrec.errors import InputError
from illmrec.escaping import csv_text, for_cell, for_latex, for_markdown, for_terminal, shortened, visible

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\rgone"


@pytest.mark.parametrize(
    "text", ["=cmd|'/c calc'!A0", "+1+cmd", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", " =1", "-"]
)
def test_what_a_spreadsheet_would_compute_is_text(text: str) -> None:
    assert for_cell(text) == "'" + text.replace("\r", "\n")


@pytest.mark.parametrize("text", ["-0.5", "+3", "-1e-05", "-.5", "-12,345", "-3%", "a=b", "", "'=x", "x-y"])
def test_numbers_and_words_are_what_they_are(text: str) -> None:
    assert for_cell(text) == text


def test_tables_of_numbers_are_those_of_pandas() -> None:
    table = pd.DataFrame({"method": ["a", "b"], "difference": [-0.5, 1 / 3], "n": [1, -2], "x": [None, "y"]})
    assert csv_text(table) == table.to_csv(index=False, lineterminator="\n")
    assert csv_text(table, float_format="%.6g") == table.to_csv(index=False, float_format="%.6g")


@pytest.mark.parametrize("text", ["gone\r 24", "a\r\nb", "\r", "a\r\r\nb"])
def test_a_carriage_return_begins_no_row(text: str) -> None:
    table = pd.DataFrame({text: [text, "b"], "c": ["d", text]})
    rows = list(csv.reader(io.StringIO(csv_text(table), newline="")))
    assert [len(row) for row in rows] == [2, 2, 2]
    assert not any("\r" in cell for row in rows for cell in row)
    assert rows[1][0].lstrip("'") == text.replace("\r\n", "\n").replace("\r", "\n")


def test_formulas_in_cells_and_titles_of_a_table() -> None:
    table = pd.DataFrame({"=title": ['=HYPERLINK("http://x")', "-0.5"], "n": [-0.5, -1.0]})
    title, first, second = csv.reader(io.StringIO(csv_text(table)))
    assert title == ["'=title", "n"]
    assert first == ['\'=HYPERLINK("http://x")', "-0.5"] and second == ["-0.5", "-1.0"]
    assert table.columns[0] == "=title" and table.iloc[0, 0].startswith(
        "="
    )  # the table itself is not changed


def test_a_row_of_latex_has_no_options_and_no_command() -> None:
    text = for_latex("[x] *y \\input{z} \\write18{w} %&_$#^~{}\x1b\u202e")
    assert text.startswith("{[}x{]} {*}y")
    left = re.sub(r"\\(textbackslash|textasciicircum|textasciitilde)\{\}|\\[&%$#_{}]", "", text)
    assert not set(left) & set("\\%&$#_^~\x1b\u202e")


def test_addresses_and_mentions_are_no_links_in_markdown() -> None:
    text = for_markdown(
        "https://x.y www.x.y javascript:alert(1) a@b.org @someone NDCG@10 [a](b) ![c](d) `e` |f|"
    )
    for live in ("https:", "www.", "javascript:", "a@b", " @s"):
        assert live not in text
    assert "NDCG@10" in text and re.findall(r"(?<!\\)[\[\]`|]", text) == []


def test_what_cannot_be_seen_but_acts_is_shown() -> None:
    assert visible("a\u202eb\u2066c\x00d\x1b[31me\U000e0041") == "a�b�c�d�[31me�"
    assert visible("Zoë, 東京, עברית, 👩\u200d🔧\n") == "Zoë, 東京, עברית, 👩\u200d🔧\n"
    assert visible("e" + "\u0301" * 1000 + "x") == "e" + "\u0301" * 4 + "x"
    assert shortened("x" * 100_000, 10) == "x" * 9 + "…" and shortened("abc", 3) == "abc"


def test_terminals_are_not_steered_by_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        """Print what a user wrote."""
        print(f"title: {ESCAPES}\tkept")
        sys.stderr.flush()
        logging.getLogger("illmrec.x").warning("title %s", f"{ESCAPES}\n12:00:00 INFO    a line like ours")
        raise InputError(f"title {ESCAPES}")

    assert run(main, prog="x", args=[]) == 2
    printed = capsys.readouterr()
    assert "\tkept\n" in printed.out and "\\x1b[2J" in printed.out
    assert not re.search(r"[\x1b\x9b\x07\r]", printed.out + printed.err)
    assert "\n12:00:00 INFO    a line" not in printed.err and "\n    12:00:00 INFO" in printed.err
    (error,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert "\\x1b]0;owned\\x07" in error


def test_tracebacks_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    try:
        raise ValueError(ESCAPES)
    except ValueError:
        logging.getLogger("illmrec.x").exception("failed")
    found = capsys.readouterr().err
    assert "\n    Traceback" in found and "\x1b" not in found and for_terminal("\x1b") in found
