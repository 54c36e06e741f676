"""What cells share, read from their configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from bench.harness.methods import representation_of
from bench.harness.sharing import needs_of, prepare
from bench.store.cell import Cell
from illmrec.training import CachedOptions, TrainingOptions

CACHED = TrainingOptions(strategy="cached", cached=CachedOptions(warm_up=0))
WARMED = replace(CACHED, cached=CachedOptions(warm_up=100))


def make(
    method: str = "illmrec", *, seed: int = 0, training: TrainingOptions = CACHED, **changes: Any
) -> Cell:
    config: Mapping[str, Any] = {
        "method": method,
        "seed": seed,
        "dataset": {"name": "d", "fingerprint": "f"},
        "representation": representation_of(method),
        "features": ["image", "text"],
        "encoders": {"image": "e", "text": "t"},
        "llm": {"name": "x"},
        "training": training.described(),
        "evaluation": {"users": 10},
    }
    return Cell(
        experiment="accuracy",
        version=1,
        config={**config, **changes},
        method=method,
        seed=seed,
        dataset={},
    )


def group(*arguments: Any, **options: Any) -> str:
    return needs_of(make(*arguments, **options), {}).group


def test_cells_that_evaluate_one_model_are_a_group() -> None:
    frozen = TrainingOptions()
    one = group(training=frozen)
    assert one == group(training=frozen, evaluation={"context": 256})
    assert one != group(training=frozen, seed=1) != group(training=replace(frozen, epochs=1), seed=1)
    assert one != group("tallrec", training=frozen)


def test_cells_that_read_one_state_table_are_a_group() -> None:
    """What changes only after states are stored does not part them; what is trained before them does."""
    assert group() == group(features=["image"]) == group(training=replace(CACHED, learning_rate=0.5))
    projectors = replace(CACHED, cached=CachedOptions(warm_up=0, projector_seed=3))
    assert group() == group(training=projectors, seed=3, base_seed=0) != group(seed=3)
    assert group() != group("tallrec") and group() != group(history_length=3)
    assert group(training=WARMED) != group(training=WARMED, features=["image"])
    assert group(training=WARMED) != group(training=replace(WARMED, learning_rate=0.5))


def test_features_of_contents_are_shared_by_seeds_and_those_of_interactions_are_not() -> None:
    features = ["image", "cf", "text"]
    one, other = (needs_of(make(seed=seed, features=features, cf={"epochs": 1}), {}).parts for seed in (0, 1))
    assert list(one) == ["image", "cf", "text"]
    assert one["image"] == other["image"] and one["text"] == other["text"] and one["cf"] != other["cf"]
    elsewhere = needs_of(make(features=features, dataset={"name": "d", "fingerprint": "g"}), {}).parts
    assert not set(one.values()) & set(elsewhere.values()) and len(set(one.values())) == 3
    assert "summaries" in needs_of(make("trsr", summarizer="x"), {}).parts


def test_cells_without_an_llm_ask_for_nothing() -> None:
    floor = Cell(
        experiment="accuracy",
        version=1,
        config={"method": "popularity", "seed": 0},
        method="popularity",
        seed=0,
        dataset={},
    )
    needs = needs_of(floor, {"GPU": 1})
    assert (needs.parts, needs.group, needs.resources) == ({}, "", {})
    assert needs_of(make(), {"GPU": 1}).resources == {"GPU": 1}


def test_parts_are_prepared_by_the_workspace() -> None:
    asked = []
    place: Any = SimpleNamespace(features=lambda names, *, seed: asked.append((names, seed)), summarised=None)
    prepare(place, make(seed=3), "cf")
    prepare(place, make(), "summaries")
    assert asked == [(("cf",), 3)]
