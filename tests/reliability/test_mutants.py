"""The short form of mutants.py: mutants of metrics and ranks are all seen, and what makes them works."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from mutants import EQUIVALENT, ROOT, equivalents
from mutation_targets import TARGETS
from mutations import Mutation, mutations
from programs import run_program

SOURCE = '''
"""A module."""
import functools
LIMIT = 3

@functools.cache
def share(values: list[int], *, least: int = 1) -> float:
    """Say."""
    if not values or len(values) < least:
        raise ValueError("too few " + str(least))
    return sum(sorted(values, reverse=True)[:least]) / len(values)
'''


def of(source: str, *, only: tuple[str, ...] = ()) -> tuple[ast.Module, list[Mutation]]:
    tree = ast.parse(source)
    return tree, mutations(tree, only=only)


def test_every_kind_of_place_is_changed_once() -> None:
    tree, found = of(SOURCE)
    names = [mutation.name for mutation in found]
    assert len(set(names)) == len(names)
    for expected in (
        "module: LIMIT = 3 -> LIMIT = 4",
        "module: LIMIT = 3 -> LIMIT = 2",
        "share: if not values or len(values) < least: -> if not values and len(values) < least:",
        "share: if not values or len(values) < least: -> if values or len(values) < least:",
        "share: if not values or len(values) < least: -> if not values or len(values) <= least:",
        "share: if not values or len(values) < least: -> if not (not values or len(values) < least):",
        "share: raise ValueError('too few ' + str(least)) -> pass",
        "share: return sum(sorted(values, reverse=True)[:least]) / len(values) -> return None",
        "share: return sum(sorted(values, reverse=True)[:least]) / len(values)"
        " -> return sum(sorted(values, reverse=True)[:least]) * len(values)",
        "share: return sum(sorted(values, reverse=True)[:least]) / len(values)"
        " -> return sum(sorted(values, reverse=False)[:least]) / len(values)",
        "share: return sum(sorted(values, reverse=True)[:least]) / len(values)"
        " -> return sum(sorted(values)[:least]) / len(values)",
        "share: return sum(sorted(values, reverse=True)[:least]) / len(values)"
        " -> return sum(sorted(values, reverse=True)[:least + 1]) / len(values)",
    ):
        assert expected in names
    assert any(mutation.kind == "decorator removed" for mutation in found)
    # Texts of errors, docstrings and annotations stay; the source is left as it was.
    assert not any("XX" in name for name in names)
    assert ast.unparse(tree) == ast.unparse(ast.parse(SOURCE))
    assert {mutation.scope for mutation in of(SOURCE, only=("share",))[1]} == {"share"}
    assert {mutation.scope for mutation in of(SOURCE, only=("LIMIT",))[1]} == {""}


def test_a_mutation_changes_what_it_says() -> None:
    for number in range(len(of(SOURCE)[1])):
        tree, found = of(SOURCE)
        found[number].apply()
        changed = ast.unparse(ast.fix_missing_locations(tree))
        assert changed != ast.unparse(ast.parse(SOURCE)), found[number].name
        compile(changed, "changed", "exec")


def test_names_stay_when_lines_move_and_tell_alike_ones_apart() -> None:
    moved = of("\n\n" + SOURCE)[1]
    assert [mutation.name for mutation in moved] == [mutation.name for mutation in of(SOURCE)[1]]
    twice = [mutation.name for mutation in of("def f(x):\n    x += 1\n    x += 1\n")[1]]
    assert "f: x += 1 -> x -= 1" in twice and "f: x += 1 -> x -= 1 (2)" in twice


@pytest.mark.parametrize("name", TARGETS)
def test_known_equivalents_and_tests_exist(name: str) -> None:
    source = (ROOT / Path(*name.split("."))).with_suffix(".py").read_text(encoding="utf-8")
    names = {mutation.name for mutation in mutations(ast.parse(source), only=TARGETS[name].only)}
    assert names and not equivalents(name).keys() - names
    assert all(len(reason) > 20 for reason in equivalents(name).values())
    assert all((ROOT / "tests" / file).is_file() for file in TARGETS[name].tests)
    assert json.loads(EQUIVALENT.read_text(encoding="utf-8")).keys() <= TARGETS.keys()


def test_mutants_of_metrics_and_ranks_are_killed(tmp_path: Path) -> None:
    arguments = ["--modules", "bench.protocol.metrics,illmrec.ranking", "--sample", "4", "--seed", "1"]
    path = (ROOT, ROOT / "tests" / "reliability")
    done = run_program("mutants", arguments, folder=tmp_path, path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nall: 8 mutants, " in done.stdout and "0 survived" in done.stdout


def test_what_no_test_sees_survives_and_is_said(tmp_path: Path) -> None:
    # Equivalent, which nobody says here.
    arguments = [
        "--modules",
        "bench.protocol.metrics",
        "--match",
        "minlength",
        "--out",
        str(tmp_path / "noted"),
    ]
    empty = tmp_path / "none.json"
    empty.write_text("{}")
    script = "import mutants, pathlib, sys\nfrom illmrec.command_line import run\n"
    script += f"mutants.EQUIVALENT = pathlib.Path({str(empty)!r})\n"
    script += "raise SystemExit(run(mutants.main, prog='mutants'))\n"
    (tmp_path / "unlisted.py").write_text(script)
    path = (ROOT, ROOT / "tests" / "reliability")
    done = run_program("unlisted", arguments, folder=tmp_path, path=path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert (
        "keyword removed, mean_by_user: targets = np.bincount(numbers, minlength=len(owners)) -> "
        in done.stdout
    )
    noted = [json.loads(line) for line in (tmp_path / "noted").read_text().splitlines()]
    assert {"survived"} <= {line["verdict"] for line in noted}
