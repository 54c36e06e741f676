"""Every floor passes; a scorer that is broken in one way fails exactly the check of that."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from baselines.scores_file import GivenScores
from bench.checks import CheckError, FailedChecks, check_method
from bench.checks.scorers import SCORER_CHECKS
from bench.checks.small_data import small_shop, with_other_targets
from bench.harness.floors import described_floor, fitted_floor
from bench.harness.methods import FLOORS
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split

NAMES = [check.name for check in SCORER_CHECKS]
FITTED_AGAIN = {"fitting", "held-out items"}


class Sound:
    """An item scores by its place after the last one, plus its share of the training part."""

    def __init__(self, split):
        self.n_items = split.dataset.n_items
        self.counts = np.bincount(split.train_items(), minlength=self.n_items)

    def score(self, histories):
        last = np.array([history[-1] for history in histories])
        distance = (np.arange(self.n_items) - last[:, None]) % self.n_items
        return (distance + self.counts / self.counts.sum()).astype(np.float32)


class OfUsers(Sound):
    """Known by who they are; every third item has no score."""

    score = None  # type: ignore[assignment]

    def score_users(self, users, histories):
        scores = Sound.score(self, histories) + users[:, None].astype(np.float32)
        scores[:, ::3] = -np.inf
        return scores


class NoScore:
    def __init__(self, split):
        self.scores = split


class ScoreTakesTwo(Sound):
    def score(self, histories, users):
        return super().score(histories)


class Raises(Sound):
    def score(self, histories):
        raise KeyError("no such user")


class OneUserIsFlat(Sound):
    def score(self, histories):
        return np.squeeze(super().score(histories))


class Transposed(Sound):
    def score(self, histories):
        return super().score(histories).T


class ThreeDimensions(Sound):
    def score(self, histories):
        return super().score(histories)[:, :, None]


class Ragged(Sound):
    def score(self, histories):
        return [row[: 5 + place] for place, row in enumerate(super().score(histories))]


class Objects(Sound):
    def score(self, histories):
        return super().score(histories).astype(object)


class Counts(Sound):
    def score(self, histories):
        return (1000 * super().score(histories)).astype(np.int64)


class OneNaN(Sound):
    def score(self, histories):
        scores = super().score(histories)
        scores[:, self.counts.argmin()] = np.nan
        return scores


class NoScoresForSome(Sound):
    def score(self, histories):
        scores = super().score(histories)
        scores[:, ::3] = -np.inf
        return scores


class PlusInfinity(OfUsers):
    def score_users(self, users, histories):
        return np.where(np.isneginf(scores := super().score_users(users, histories)), np.inf, scores)


class ReversesHistories(Sound):
    def score(self, histories):
        scores = super().score(histories)
        for history in histories:
            history[:] = history[::-1].copy()
        return scores


class ChangesUsers(OfUsers):
    def score_users(self, users, histories):
        scores = super().score_users(users, histories)
        users += 1
        return scores


class Counting(Sound):
    called = 0

    def score(self, histories):
        self.called += 1
        return super().score(histories) * np.float32(self.called)


class Normalised(Sound):
    def score(self, histories):
        scores = super().score(histories)
        return scores - scores.mean(axis=0) / 2


class ByPlace(Sound):
    def score(self, histories):
        return super().score(histories) + np.arange(len(histories), dtype=np.float32)[:, None]


class Unseeded(Sound):
    def __init__(self, split):
        super().__init__(split)
        self.counts = self.counts + 100 * np.random.default_rng().random(self.n_items)


class SeesTargets(Sound):
    def __init__(self, split):
        super().__init__(split)
        self.counts = np.bincount(split.dataset.sequence_items, minlength=self.n_items)


class KnowsTheTest(OfUsers):
    def __init__(self, split):
        super().__init__(split)
        self.targets = split.targets("test")

    def score_users(self, users, histories):
        scores = super().score_users(users, histories)
        scores[np.arange(len(users)), self.targets[users]] = 1000.0
        return scores


BROKEN: list[tuple[type[Any], str, str]] = [
    (NoScore, "contract", "score(histories)"),
    (ScoreTakesTwo, "contract", "score(histories)"),
    (Raises, "runs", "KeyError"),
    (OneUserIsFlat, "shape", "(60,)"),
    (Transposed, "shape", "(60, 12)"),
    (ThreeDimensions, "shape", "(12, 60, 1)"),
    (Ragged, "shape", "list"),
    (Objects, "dtype", "object"),
    (Counts, "dtype", "int64"),
    (OneNaN, "finite", "nan"),
    (NoScoresForSome, "finite", "-inf"),
    (PlusInfinity, "finite", "inf"),
    (ReversesHistories, "inputs", "histories"),
    (ChangesUsers, "inputs", "users"),
    (Counting, "repeatable", "second time"),
    (Normalised, "batches", "batches of 1"),
    (ByPlace, "batches", "another order"),
    (Unseeded, "fitting", "again"),
    (SeesTargets, "held-out items", "held-out"),
    (KnowsTheTest, "held-out items", "held-out"),
]


def floor(name: str, dataset: Dataset) -> Any:
    """Fit a floor by its name, as the comparison does, to generated features where it reads some."""
    features = np.random.default_rng(3).normal(size=(dataset.n_items, 8)).astype(np.float32)
    workspace: Any = SimpleNamespace(
        dataset=dataset,
        split=Split(dataset=dataset),
        encoder_identities=lambda names: {},
        check_pictured=lambda **names: None,
        features=lambda names, seed: ({each: SimpleNamespace(values=features) for each in names}, None),
    )
    config = described_floor(name, workspace, features=("image", "text"), parameters={})
    cell: Any = SimpleNamespace(method=name, config=config, seed=0, base_seed=0)
    return fitted_floor(cell, workspace)


@pytest.mark.parametrize("name", FLOORS)
def test_the_floors_pass(name: str) -> None:
    assert list(check_method(lambda dataset: floor(name, dataset)).passed) == NAMES


@pytest.mark.parametrize("made", [Sound, OfUsers])
def test_a_sound_one_passes(made: type[Any]) -> None:
    if made is OfUsers:
        made = type("OfUsers", (OfUsers,), {})
    assert list(check_method(made).passed) == NAMES


def test_one_that_is_fitted_already_passes_but_for_what_takes_a_fit() -> None:
    data = small_shop()
    report = check_method(Sound(Split(dataset=data)), dataset=data)
    assert list(report.passed) == [name for name in NAMES if name not in FITTED_AGAIN]
    assert set(report.skipped) == FITTED_AGAIN


def test_scores_of_a_file_pass() -> None:
    data = small_shop()
    rows = np.random.default_rng(0).integers(0, data.n_items, data.n_users)
    given = GivenScores(
        offsets=np.arange(data.n_users + 1),
        items=rows.astype(np.int32),
        places=np.zeros(data.n_users, dtype=np.float32),
        n_items=data.n_items,
        ignored=0,
        unknown_users=0,
        unknown_items=0,
    )
    assert not set(NAMES) - {*check_method(given, dataset=data).passed, *FITTED_AGAIN}


@pytest.mark.parametrize(
    ("broken", "check", "said"), BROKEN, ids=[f"{broken.__name__}" for broken, _, _ in BROKEN]
)
def test_broken_in_one_way_it_fails_that_check(broken: type[Any], check: str, said: str) -> None:
    with pytest.raises(FailedChecks) as caught:
        check_method(broken)
    (error,) = caught.value.errors
    assert isinstance(error, CheckError) and error.check == check
    assert said in error.message and "\n" not in error.message
    needs = {each.name: each.needs for each in SCORER_CHECKS}
    skipped = caught.value.report.skipped
    assert all(set(needs[name]) & {check, *skipped} for name in skipped)


def test_all_that_is_wrong_is_said_at_once() -> None:
    class Several(SeesTargets):
        def score(self, histories):
            scores = super().score(histories) + np.arange(len(histories), dtype=np.float32)[:, None]
            scores[:, 7] = np.nan
            return scores

    with pytest.raises(FailedChecks) as caught:
        check_method(Several)
    names = ["finite", "batches", "held-out items"]
    assert [error.check for error in caught.value.errors] == names
    first, *lines = str(caught.value).splitlines()
    assert "Several fails 3 checks" in first
    assert [line.strip().partition(":")[0] for line in lines] == names


def test_parameters_that_nobody_knows_are_named() -> None:
    def made(split, width):
        return Sound(split)

    with pytest.raises(FailedChecks, match="contract: it cannot be made: 'width'"):
        check_method(made)


@pytest.mark.parametrize(
    "thing", [dict, 7, object(), lambda: None], ids=["class", "number", "object", "function"]
)
def test_what_is_no_method_is_told_what_it_lacks(thing: Any) -> None:
    with pytest.raises(FailedChecks, match=r"contract: is neither .* lacks render\(item, available\)"):
        check_method(thing)


def test_the_other_targets_leave_the_training_part_alone() -> None:
    data = small_shop()
    before, after = Split(dataset=data), Split(dataset=with_other_targets(data))
    np.testing.assert_array_equal(before.train_items(), after.train_items())
    for part in ("valid", "test"):
        assert (before.targets(part) != after.targets(part)).all()
    assert not np.array_equal(
        np.bincount(before.targets("test"), minlength=data.n_items),
        np.bincount(after.targets("test"), minlength=data.n_items),
    )


def test_the_documented_one_passes_and_its_leak_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocks(name: str) -> str:
        text = (Path(__file__).resolve().parents[3] / name).read_text("utf-8")
        return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))

    def check(code: str) -> None:
        module = ModuleType("my_methods")
        exec(code, module.__dict__)
        monkeypatch.setitem(sys.modules, "my_methods", module)
        exec(blocks("CONTRIBUTING.md"), {"__name__": "documented"})

    code = blocks("README.md")
    check(code)
    assert f"{len(NAMES)} of {len(NAMES)} checks passed" in capsys.readouterr().out
    leaking = code.replace("split.train(user)", "split.dataset.sequence(user)")
    assert leaking != code
    with pytest.raises(FailedChecks) as caught:
        check(leaking)
    assert [error.check for error in caught.value.errors] == ["held-out items"]
