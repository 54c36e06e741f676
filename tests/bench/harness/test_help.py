"""The help names every method, and every value of an option that has a fixed set of them."""

from __future__ import annotations

import re
import typing
from typing import Any, Literal

import docstring_parser
import pytest

from bench import comparison, tune
from bench.harness.methods import METHODS, is_reri_method
from bench.harness.search_spaces import is_searched
from bench.harness.settings import Settings


def help_of(documented: Any) -> dict[str, str]:
    found = docstring_parser.parse(documented.__doc__)
    return {part.arg_name: " ".join((part.description or "").split()) for part in found.params}


def named(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w+-]){re.escape(name)}(?![\w+-])", text) is not None


def values_of(hint: Any) -> list[str]:
    if typing.get_origin(hint) is Literal:
        return [value for value in typing.get_args(hint) if isinstance(value, str)]
    return [value for part in typing.get_args(hint) for value in values_of(part)]


CHOICES = {
    name: found for name, hint in typing.get_type_hints(Settings).items() if (found := values_of(hint))
}


def test_comparison_names_every_method() -> None:
    text = help_of(comparison.main)["methods"]
    assert [name for name in METHODS if not named(name, text)] == []


def test_tune_names_every_method_that_has_a_space_of_its_own() -> None:
    text = help_of(tune.main)["methods"]
    searched = [name for name in METHODS if is_searched(name)]
    assert "LLM methods and their controls" in text
    assert [name for name in searched if not is_reri_method(name) and not named(name, text)] == []


@pytest.mark.parametrize("option", CHOICES)
def test_every_value_of_an_option_is_explained(option: str) -> None:
    text = help_of(Settings)[option]
    assert [value for value in CHOICES[option] if not named(value, text)] == []
