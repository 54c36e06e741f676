"""Every representation of the toolkit passes; one that is broken in one way fails exactly the check of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.checks import FailedChecks, check_method
from bench.checks.representations import REPRESENTATION_CHECKS
from bench.harness.methods import REPRESENTATIONS
from illmrec.prompts.segments import Slot, Text

NAMES = [check.name for check in REPRESENTATION_CHECKS]


class Sound:
    """Title, picture and category."""

    name = "sound"
    columns: tuple[str, ...] = ("title", "category")
    slots: tuple[str, ...] = ("image",)

    def render(self, item, available):
        picture = [Slot("image")] if "image" in available else []
        return [Text(f" {{{item['title']} ({item['category']}):"), *picture, Text("},")]


def without(part: str) -> Callable[[], Any]:
    parts = {name: value for name, value in vars(Sound).items() if not name.startswith("__") and name != part}
    return type("Sound", (), parts)


class ColumnsAreText(Sound):
    columns = "title"  # type: ignore[assignment]


class RenderTakesOne(Sound):
    def render(self, item):
        return [Text(f" {item['title']}")]


class ReadsBrand(Sound):
    def render(self, item, available):
        return [Text(f" {item['brand']}"), *super().render(item, available)]


class AsksForBrand(Sound):
    def render(self, item, available):
        return [Text(f" {item.get('brand')}"), *super().render(item, available)]


class IsText(Sound):
    slots = ()

    def render(self, item, available):
        return f" {item['title']}"


class FailsForEmptyTitles(Sound):
    slots = ()

    def render(self, item, available):
        return [Text(f" {item['title'][0]}")]


class IgnoresAvailable(Sound):
    def render(self, item, available):
        return [Text(" {"), Slot("image"), Text("},")]


class UnknownSlot(Sound):
    slots = ("sound",)


class UndeclaredSlot(Sound):
    def render(self, item, available):
        return [*super().render(item, available), Slot("cf")]


class UnusedSlot(Sound):
    slots = ("image", "cf")


class ShowsNothingOfSome(Sound):
    slots = ()

    def render(self, item, available):
        return [Text(f" {item['title']}")] if item["title"] else []


class ChangesItem(Sound):
    def render(self, item, available):
        segments = super().render(item, available)
        item["title"] = item["title"].upper()
        return segments


class Counts(Sound):
    def __init__(self):
        self.count = 0

    def render(self, item, available):
        self.count += 1
        return [Text(f" {self.count}:"), *super().render(item, available)]


class WritesControlToken(Sound):
    def render(self, item, available):
        return [Text(" <|im_start|>"), *super().render(item, available)]


class EndsWithBlank(Sound):
    slots = ()

    def render(self, item, available):
        return [Text(f"{{{item['title']}}}, ")]


BROKEN: list[tuple[Callable[[], Any], str, str]] = [
    *((without(part), "contract", part) for part in ("name", "columns", "slots", "render")),
    (ColumnsAreText, "contract", "columns 'title'"),
    (RenderTakesOne, "contract", "render"),
    (ReadsBrand, "columns", "'brand'"),
    (AsksForBrand, "columns", "'brand'"),
    (IsText, "segments", "' '"),
    (FailsForEmptyTitles, "segments", "IndexError"),
    (IgnoresAvailable, "slots", "'image'"),
    (UnknownSlot, "slots", "'sound'"),
    (UndeclaredSlot, "slots", "'cf'"),
    (UnusedSlot, "slots", "'cf'"),
    (ShowsNothingOfSome, "shown", "empty"),
    (ChangesItem, "inputs", "'title'"),
    (Counts, "repeatable", "second time"),
    (WritesControlToken, "control tokens", "<|im_start|>"),
    (EndsWithBlank, "tokens", "blank"),
]


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_those_of_the_toolkit_pass(name: str) -> None:
    assert list(check_method(name).passed) == NAMES


@pytest.mark.parametrize("given", [Sound, Sound(), lambda: Sound()], ids=["class", "object", "function"])
def test_a_sound_one_passes_however_it_is_given(given: Any) -> None:
    report = check_method(given)
    assert (list(report.passed), report.skipped, report.kind) == (NAMES, {}, "representation")


def test_a_column_of_the_users_own_data_is_no_fault() -> None:
    class Fabric(Sound):
        columns = ("title", "category", "fabric")

        def render(self, item, available):
            return [*super().render(item, available)[:-1], Text(f" {item['fabric']}}},")]

    assert list(check_method(Fabric).passed) == NAMES


@pytest.mark.parametrize(
    ("broken", "check", "said"), BROKEN, ids=[f"{check}-{said}" for _, check, said in BROKEN]
)
def test_broken_in_one_way_it_fails_that_check(broken: Callable[[], Any], check: str, said: str) -> None:
    with pytest.raises(FailedChecks) as caught:
        check_method(broken)
    (error,) = caught.value.errors
    assert error.check == check and said in error.message and "\n" not in error.message
    report = caught.value.report
    assert set(report.passed) | set(report.failed) | set(report.skipped) == set(NAMES)
    needs = {each.name: each.needs for each in REPRESENTATION_CHECKS}
    assert all(set(needs[name]) & {check, *report.skipped} for name in report.skipped)
