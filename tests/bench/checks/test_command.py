"""``python -m bench.checks`` lists what passes and fails; experiments refuse a class that lacks a part, by its name."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import comparison, token_cost
from bench.checks.__main__ import main
from bench.checks.representations import REPRESENTATION_CHECKS
from bench.checks.scorers import SCORER_CHECKS

MODULE = """
    import numpy as np
    from illmrec.prompts.segments import Slot, Text

    class Sound:
        name, columns, slots = "sound", ("title",), ()

        def render(self, item, available):
            return [Text(f" {{{item['title']}}},")]

    class NoSlots:
        name, columns, render = "no-slots", ("title",), Sound.render

    class NoName:
        columns, slots, render = ("title",), (), Sound.render

    class NoRender:
        name, columns, slots = "no-render", ("title",), ()

    class SlotsAreText(Sound):
        slots = "image"

    class SlotsUnknown(Sound):
        slots = ("sound",)

    class ReadsBrand(Sound):
        def render(self, item, available):
            return [Text(f" {item['brand']}")]

    class Divides(Sound):
        def render(self, item, available):
            return [Text(f" {1 / 0}")]

    class ShowsNothing(Sound):
        def render(self, item, available):
            return [Text("")]

    class GivesText(Sound):
        def render(self, item, available):
            return item["title"]

    class NeedsWidth(Sound):
        def __init__(self, width):
            self.width = width

    class Scores:
        def __init__(self, split):
            self.n_items = split.dataset.n_items

        def score(self, histories):
            return np.zeros((len(histories), self.n_items), dtype=np.float32)
"""

REFUSED = [
    ("NoSlots", "lacks slots: "),
    ("NoName", "lacks name: "),
    ("NoRender", "lacks render(item, available)"),
    ("SlotsAreText", "has slots 'image': write a tuple"),
    ("SlotsUnknown", "slots names 'sound': "),
    ("ReadsBrand", "it reads 'brand', which its columns do not name (own_methods.py, line "),
    ("Divides", "ZeroDivisionError: division by zero (own_methods.py, line "),
    ("ShowsNothing", "shows nothing of item row 0"),
    ("GivesText", "render returned 'G' for item row 0"),
    ("NeedsWidth", "'width'"),
    ("Scores", "only LLM methods show items in tokens"),
    ("Absent", "has no attribute 'Absent'"),
]


@pytest.fixture
def own_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of a user's where Python finds it."""
    (tmp_path / "own_methods.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_methods", raising=False)


@pytest.mark.usefixtures("own_methods")
@pytest.mark.parametrize(("name", "said"), REFUSED)
def test_experiments_refuse_a_class_by_the_part_that_it_lacks(
    name: str, said: str, refusal: Callable[..., str]
) -> None:
    program = comparison if name in ("NoSlots", "ReadsBrand") else token_cost
    error = refusal(program.main, ["--methods", f"own_methods:{name}", "--users", "40", "--items", "60"])
    assert said in error


@pytest.mark.usefixtures("own_methods")
def test_all_checks_are_listed_and_the_status_is_1_where_one_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["own_methods:Sound", "own_methods:Scores"]) == 0
    assert main(["own_methods:Sound", "own_methods:NoSlots"]) == 1
    out = capsys.readouterr().out
    assert "own_methods:Sound (representation)" in out and "own_methods:Scores (scorer)" in out
    assert f"{len(SCORER_CHECKS)} of {len(SCORER_CHECKS)} checks passed" in out
    (failed,) = [line for line in out.splitlines() if "FAILED" in line]
    assert failed.split()[:4] == ["FAILED", "contract", "lacks", "slots:"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["no_such_module:Class"],
            "'no_such_module:Class' cannot be loaded: No module named 'no_such_module'",
        ),
        (["illmrecc"], "'illmrecc' names no method: write it as package.module:Class"),
        (["--fast", "illmrec"], "unknown option '--fast'"),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_teaches_every_check(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for check in (*REPRESENTATION_CHECKS, *SCORER_CHECKS):
        assert check.meaning and f"  {check.name} " in out
    assert max(map(len, out.splitlines())) <= 120


def test_ctrl_c_is_one_line_and_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.checks.__main__.checked", interrupted)
    assert main(["package.module:Name"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
