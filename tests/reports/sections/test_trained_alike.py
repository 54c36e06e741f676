"""In which options methods were trained otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from illmrec.training import TrainingOptions
from illmrec.training.options import CachedOptions
from reports.sections.trained_alike import trained_unlike, unlike_options

JOINT = TrainingOptions(targets="all", loss="ce", schedule="cosine").described()


def cell(training: dict[str, Any] | None, **config: Any) -> Any:
    return SimpleNamespace(config={"dataset": {}, "history_length": 20, "training": training, **config})


def stored(**cached: Any) -> dict[str, Any]:
    """Return the options of a training on stored states whose joint steps are none or other than those above."""
    options = TrainingOptions(
        targets="all",
        loss="ce",
        epochs=3,
        schedule="linear",
        strategy="cached",
        cached=CachedOptions(**cached),
    )
    return options.described()


def test_joint_training_and_stored_states_differ_in_what_each_really_did() -> None:
    assert unlike_options(cell(JOINT), cell(stored())) == {
        "strategy": ("frozen", "cached"),
        "epochs": (10, 60),
        "batch size": (32, 1024),
        "schedule": ("cosine", "by validation"),
        "validation users": (1000, 10_000),
        "patience": (None, 3),
        "optimiser": ("Adam", "AdamW"),
        "weight decay": (0, 0.05),
    }


def test_users_of_the_validation_are_part_of_it() -> None:
    assert trained_unlike(cell(JOINT), cell(JOINT)) == ""
    assert trained_unlike(cell(JOINT), cell({**JOINT, "validation_users": 200})) == "validation users"
    assert trained_unlike(cell(stored()), cell(stored(validation_users=200))) == "validation users"


def test_joint_steps_that_were_never_taken_change_nothing() -> None:
    other = {**stored(), "epochs": 10, "batch_size": 64}
    assert trained_unlike(cell(stored()), cell(other)) == ""
    warm = {**stored(warm_up=4096), "batch_size": 64}
    assert trained_unlike(cell(stored()), cell(stored(warm_up=4096))).startswith("warm up")
    assert trained_unlike(cell(stored(warm_up=4096)), cell(warm)) == "batch size of joint steps"
    assert trained_unlike(cell(stored()), cell(stored(projector_seed=3))) == ""


def test_options_of_before_are_their_defaults() -> None:
    later = {name: value for name, value in stored().items() if name != "cached"}
    cached = {**stored()["cached"], "joint": "frozen", "alternations": 0}
    assert trained_unlike(cell(stored()), cell({**later, "cached": cached})) == ""


def test_what_was_searched_may_differ_but_not_in_how_it_is_trained() -> None:
    chosen = {**JOINT, "learning_rate": 1e-2}
    assert trained_unlike(cell(JOINT), cell(chosen, tuned="1")) == "one of them tuned"
    assert unlike_options(cell(JOINT), cell(stored(), tuned="1")) == {
        "one of them tuned": ("not tuned", "tuned"),
        "strategy": ("frozen", "cached"),
        "validation users": (1000, 10_000),
        "optimiser": ("Adam", "AdamW"),
    }
    assert trained_unlike(cell(JOINT, tuned="1"), cell(chosen, tuned="2", history_length=10)) == ""
    assert (
        trained_unlike(cell(JOINT, tuned="1"), cell(stored(), tuned="2"))
        == "strategy, validation users, optimiser"
    )


def test_methods_of_other_kinds_have_other_options() -> None:
    sasrec = SimpleNamespace(config={"dataset": {}, "training": {"epochs": None, "patience": 10}})
    assert trained_unlike(cell(JOINT), sasrec) == ""  # type: ignore[arg-type]  # what is asked of a record
    assert trained_unlike(cell(JOINT), cell(JOINT, history_length=10)) == "history length"
