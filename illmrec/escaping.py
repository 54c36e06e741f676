"""Text from users in what is written for people: one function for each form, so that none of it is read as markup.

Titles, names of methods, data sets and files may hold anything. HTML is escaped by its templates; what stands here is
for terminals, spreadsheets, Markdown, LaTeX, and, for all of these, characters that nobody can see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 300
"""Characters of a text that a table for readers shows; its CSV has the whole."""

# Controls of terminals (C0, C1), lone halves of a character, what turns the direction of the text around it, and tags.
_CONTROLS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\U000e0000-\U000e007f"
)
_UNSEEN = re.compile(f"[{_CONTROLS}]")
_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACKED = re.compile(f"({_MARK}{{4}}){_MARK}+")
_FORMULA = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d[\d,]*\.?\d*|\.\d+)([eE][+-]?\d+)?%?")
_SCHEME = re.compile(r"\b(https?|ftp|mailto|xmpp|javascript):", re.IGNORECASE)


def visible(text: str) -> str:
    """Return text in which what cannot be seen but acts is ``�``, and no letter carries more than four marks."""
    return _STACKED.sub(r"\1", _UNSEEN.sub("\ufffd", text))


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text cut to so many characters, with an ellipsis where something is missing."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def for_terminal(text: str) -> str:
    """Return text for a terminal: its controls spelt out as ``\\x1b``, line breaks and tabs as they are."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def for_cell(text: str) -> str:
    """Return text for a spreadsheet: an apostrophe before what would be a formula; numbers are as they are.

    Ends of lines are line feeds: a carriage return alone is not quoted, and whoever reads it begins a row there.
    """
    if "\r" in text:
        text = re.sub(r"\r\n?", "\n", text)
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text.strip()):
        return f"'{text}"
    return text


def csv_text(table: pd.DataFrame, **options: Any) -> str:
    """Return a table as CSV without its index, for people and their spreadsheets.

    Args:
        table: The table; texts and titles of columns that spreadsheets would compute get an apostrophe.
        options: Those of :meth:`pandas.DataFrame.to_csv`, such as ``float_format``.
    """
    import pandas as pd  # late: every command imports this module, and not every one has tables

    safe = table.rename(columns={name: for_cell(name) for name in table.columns if isinstance(name, str)})
    for place, kind in enumerate(table.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            values = [for_cell(value) if isinstance(value, str) else value for value in table.iloc[:, place]]
            if any(value is not old for value, old in zip(values, table.iloc[:, place], strict=True)):
                safe.isetitem(place, pd.Series(values, index=table.index, dtype=object))
    return str(safe.to_csv(index=False, lineterminator="\n", **options))


def for_markdown(text: str) -> str:
    """Return text in one line that Markdown, and the HTML inside it, shows as it is, addresses unlinked."""
    text = re.sub(r"\s+", " ", visible(text))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)
    text = re.sub(r"\bwww\.", "www&#46;", _SCHEME.sub(r"\1&#58;", text), flags=re.IGNORECASE)
    return re.sub(r"(?<!\w)@(?=\w)|@(?=[\w-]+\.\w)", "&#64;", text)


_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After the end of a row these would be its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\ufffd": "?",
    "±": r"$\pm$",
    "−": "$-$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "×": r"$\times$",
    "–": "--",
    "✓": r"\checkmark",
}


def for_latex(text: str) -> str:
    """Return text in one line without LaTeX's commands; the signs that our tables use become their commands."""
    text = re.sub(r"\s+", " ", visible(text))
    return "".join(_LATEX.get(character, character) for character in text)
