"""Every stop of ``docs/tour.md`` exists, and the tour goes up through the floors without turning back."""

from __future__ import annotations

import importlib
import operator
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "tour.md").read_text()
NAMES = re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+):([\w.]+)`", TEXT)
FLOORS = ("illmrec", "bench", "reports")


@pytest.mark.parametrize(("module", "name"), NAMES, ids=":".join)
def test_what_the_tour_names_exists(module: str, name: str) -> None:
    found = operator.attrgetter(name)(importlib.import_module(module))
    assert callable(found) and found.__doc__, "a stop says what it returns"


def test_the_tour_has_ten_to_fifteen_stops_and_goes_up() -> None:
    stops = [int(number) for number in re.findall(r"^(\d+)\. `", TEXT, flags=re.MULTILINE)]
    assert stops == list(range(1, len(stops) + 1)) and 10 <= len(stops) <= 15
    floors = [FLOORS.index(module.partition(".")[0]) for module, _ in NAMES]
    assert floors == sorted(floors)
