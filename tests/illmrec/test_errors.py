"""Messages for users: one line, whatever was quoted in it."""

from __future__ import annotations

from illmrec.errors import LONGEST, InputError, UnsupportedError


def test_a_message_is_one_line_of_characters_that_are_seen() -> None:
    assert str(InputError("a.csv: two\n lines\r\nhere")) == "a.csv: two lines here"
    assert str(UnsupportedError("\x1b[31mred\x07 \u202eevil \ud800")) == r"\x1b[31mred\x07 \u202eevil \ud800"
    assert str(InputError("Café 漢字 \u2028 next")) == "Café 漢字 next"


def test_a_long_message_keeps_where_and_remedy() -> None:
    said = str(InputError("a.csv: " + "x" * 100_000 + "; remove it"))
    assert len(said) <= LONGEST and said.startswith("a.csv: x") and said.endswith("x; remove it")
    spelled = str(InputError("a.csv: " + "\0" * 100_000 + "; remove it"))
    assert len(spelled) <= LONGEST and spelled.startswith(r"a.csv: \x00") and spelled.endswith("; remove it")
    assert str(InputError()) == ""
