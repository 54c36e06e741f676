"""The short form of ``damaged_files.py``: every file by those who read it, and some by the whole command."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from damaged_files import (
    KINDS,
    Comparison,
    Damage,
    compare,
    comparison_arguments,
    damages,
    kind_of,
    one_of_each,
    read_by_command,
    read_by_reader,
)

from illmrec.checksums import CHECKSUMS

COMMANDS = {"cells": "refused", "trained models": "refused", "state tables": "made again"}
"""Kinds that are read by the command here, and how that ends; the program does it with all."""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, tiny_llm: Path, tiny_encoders: list[str]) -> Comparison:
    arguments = comparison_arguments(tiny_llm, tiny_encoders)
    return compare(tmp_path_factory.mktemp("whole"), arguments)


def test_every_kind_of_file_is_known_and_there(comparison: Comparison) -> None:
    kinds = {kind_of(path).name for path in comparison.files()}
    absent = {kind.name for kind in KINDS} - kinds
    assert not absent - {"speed of data types"}, absent


def test_what_is_read_has_checksums(comparison: Comparison) -> None:
    for path in comparison.files():
        whole = comparison.folder / path
        if kind_of(path).ends != "unread":
            assert (whole.parent / CHECKSUMS).is_file() or '"checksum": "' in whole.read_text(), path


def test_every_cut_and_flip_is_named_or_changes_nothing(comparison: Comparison, tmp_path: Path) -> None:
    ended: Counter[str] = Counter()
    for path in one_of_each(comparison.files()):
        if kind_of(path).name in ("claims and locks", "tables for readers"):  # no number is read from them
            continue
        for damage in damages((comparison.folder / path).stat().st_size, flips=6, seed=0):
            how, fault = read_by_reader(comparison, path, damage, where=tmp_path)
            assert not fault, f"{path}, {damage}: {how}: {fault}"
            ended[how] += 1
            if damage.cut is not None and not path.endswith(".json"):
                assert how == "named", f"{path}, {damage}"
    assert ended["named"] > 10 * ended["the same"]


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_command_ends_in_the_same_numbers_or_in_one_line(
    comparison: Comparison, tmp_path: Path, kind: str
) -> None:
    drawn = random.Random(kind)
    numbers = [
        p for p in comparison.files() if kind_of(p).name == kind and p.endswith(("ors", "npy", "quet"))
    ]
    path = drawn.choice(numbers)
    size = (comparison.folder / path).stat().st_size
    damage = Damage(byte=drawn.randrange(size // 2, size), bit=drawn.randrange(8))
    how, fault = read_by_command(comparison, path, damage, where=tmp_path)
    assert not fault, f"{path}, {damage}: {how}: {fault}"
    assert how == COMMANDS[kind], f"{path}, {damage}"
