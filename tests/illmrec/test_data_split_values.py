"""Values of splits, candidates and fingerprints worked out by hand, and numbers on which stored results rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_data_splits import SEQUENCES, dataset_of

from illmrec.data.candidates import draw_negatives, negatives
from illmrec.data.dataset import Dataset, changed, content_fingerprint
from illmrec.data.splits import Split, leave_one_out, split_at_times, split_of
from illmrec.data.time_resolution import day_numbers
from illmrec.errors import InputError

DAY = 86_400


def test_candidates_that_results_were_stored_with_are_drawn_again() -> None:
    """Were these to change, new results would be ranked among other candidates than those in stores."""
    dataset = dataset_of([[k % 7, (k * 3 + 1) % 7, (k + 2) % 7] for k in range(8200)], 12)
    test = draw_negatives(dataset, seed=5, n=2)
    assert test[:2].tolist() == [[4, 8], [9, 8]] and test[8191:8194].tolist() == [[9, 5], [11, 6], [10, 0]]
    valid = draw_negatives(dataset, seed=5, n=2, part="valid")
    assert valid[:2].tolist() == [[10, 8], [0, 8]] and valid[8191:8194].tolist() == [[5, 7], [3, 8], [10, 6]]
    for drawn, digits in ((test, "541f4dc7bf14a8b6"), (valid, "926443c670bc5051")):
        assert drawn.dtype == np.int32
        assert hashlib.sha256(drawn.astype("<i4").tobytes()).hexdigest()[:16] == digits


def test_candidates_lie_under_data_seed_number_and_part(tmp_path: Path) -> None:
    dataset = dataset_of(SEQUENCES, 120, "ab" * 8)
    test = negatives(dataset, seed=1, cache=tmp_path)
    assert test.shape == (3, 100) and draw_negatives(dataset, seed=1).shape == (3, 100)
    valid = negatives(dataset, seed=1, n=5, part="valid", cache=tmp_path)
    folders = sorted(path.parent.name for path in (tmp_path / "candidates").glob("*/negatives.npy"))
    assert folders == ["abababababababab-seed1-n100", "abababababababab-seed1-n5-valid"]
    assert (valid == draw_negatives(dataset, seed=1, n=5, part="valid")).all()
    assert (valid != draw_negatives(dataset, seed=1, n=5)).any()
    assert (negatives(dataset, seed=1, n=5, part="valid", cache=tmp_path) == valid).all()


@pytest.mark.parametrize("stored", [np.zeros((3, 20), np.int64), np.zeros((3, 19), np.int32)])
def test_stored_candidates_of_another_kind_or_shape_are_drawn_again(
    tmp_path: Path, stored: np.ndarray
) -> None:
    dataset = dataset_of(SEQUENCES, 40)
    drawn = negatives(dataset, seed=1, n=20, cache=tmp_path)
    (path,) = tmp_path.rglob("*.npy")
    np.save(path, stored)
    (path.parent / "checksums.json").unlink()  # as an earlier version left it: its own checks have to see it
    assert negatives(dataset, seed=1, n=20, cache=tmp_path).tolist() == drawn.tolist()
    assert np.load(path).tolist() == drawn.tolist()


def test_a_single_candidate_and_as_many_as_are_free() -> None:
    assert draw_negatives(dataset_of([[0, 1, 2]], 4), seed=0, n=1).tolist() == [[3]]
    assert sorted(draw_negatives(dataset_of([[0, 4, 2]], 7), seed=0, n=4)[0].tolist()) == [1, 3, 5, 6]
    nobody = dataset_of([[0, 1, 2], []], 4)
    assert draw_negatives(nobody, seed=0, n=1)[0].tolist() == [3]


def leave_one_out_split() -> Split:
    return leave_one_out(dataset_of(SEQUENCES, 10))


def test_targets_of_leave_one_out_by_hand() -> None:
    split = leave_one_out_split()
    for part, before, targets in (("test", [2, 5, 11], [3, 2, 5]), ("valid", [1, 4, 10], [2, 3, 9])):
        found = split.every_target(part)
        assert found.places.tolist() == [0, 1, 2]
        assert found.numbers.tolist() == [1, 1, 1] and found.numbers.dtype == np.int32
        assert found.items.tolist() == targets and found.items.dtype == np.int32
        assert found.at.tolist() == [each + 1 for each in before]
        assert found.before.tolist() == before
    some = split.every_target("test", np.array([2, 0]))
    assert some.items.tolist() == [5, 3] and some.places.tolist() == [0, 1]
    assert split.gaps(some) == {} and split.train_times() is None


def test_parts_are_not_to_be_written_to() -> None:
    split = leave_one_out_split()
    arrays = {
        "offsets": split.train_offsets,
        "items": split.train_items(),
        "learners": split.learners,
        "valid": split.targets("valid"),
        "test": split.targets("test"),
    }
    for name, array in arrays.items():
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0
        assert array.dtype == (np.int64 if name in ("offsets", "learners") else np.int32)
    assert split.train_offsets.tolist() == [0, 2, 3, 7]
    assert split.learners.tolist() == [0, 2]
    assert split.train_offsets is split.train_offsets and split.learners is split.learners
    assert split.history_lengths("test") is split.history_lengths("test")
    assert split.train_items() is split.train_items()


def test_users_of_three_interactions_are_enough_and_of_two_are_not() -> None:
    assert leave_one_out(dataset_of([[0, 1, 2]], 3)).train(0).tolist() == [0]
    with pytest.raises(
        InputError, match=r"user 'u1' has 1 interactions \(2 such users\) and leave-one-out needs 3"
    ):
        split_of(dataset_of([[0, 1, 2], [0], [1, 2]], 3))


def timed(points: tuple[int, int] | None = (8 * DAY, 9 * DAY), **changes: object) -> Dataset:
    """Users of (day, item); 10,000 days after 1970, in seconds."""
    users = [
        [(1, 0), (2, 1), (8.5, 2), (8.6, 3), (9.25, 4), (9.5, 5), (10, 6)],
        [(3, 7), (9, 8)],
        [(9.1, 9)],
        [(1, 1)],
    ]
    dataset = dataset_of([[item for _, item in user] for user in users], 10)
    times = np.array([10_000 * DAY + int(day * DAY) for user in users for day, _ in user])
    moved = None if points is None else tuple(10_000 * DAY + point for point in points)
    return replace(dataset, times=times, points=moved, **changes)


def test_targets_and_gaps_at_points_in_time_by_hand() -> None:
    split = split_of(timed())
    assert split.targets("valid").tolist() == [2, -1, -1, -1]
    assert split.targets("test").tolist() == [4, 8, 9, -1]
    assert split.users("valid").tolist() == [0] and split.users("test").tolist() == [0, 1]
    assert split.users("test").dtype == np.int64
    assert [split.train(user).tolist() for user in range(4)] == [[0, 1], [7], [], [1]]
    assert split.train_items().tolist() == [0, 1, 7, 1] and split.train_users().tolist() == [0, 0, 1, 3]
    assert (split.train_times() // DAY - 10_000).tolist() == [1, 2, 3, 1]
    gaps = split.gaps(split.every_target("test"))
    assert list(gaps) == ["gap", "days"]
    assert gaps["gap"].tolist() == [int(9.25 * DAY) - int(8.6 * DAY), 6 * DAY]
    assert gaps["days"].tolist() == [1, 6] and gaps["days"].dtype == np.int32
    assert split.gaps(split.every_target("valid"))["days"].tolist() == [6]


def test_all_items_of_a_day_are_targets_of_the_test_alone() -> None:
    split = split_of(timed(test_targets="day"))
    found = split.every_target("test")
    assert found.places.tolist() == [0, 0, 1] and found.numbers.tolist() == [1, 2, 1]
    assert found.items.tolist() == [4, 5, 8] and found.before.tolist() == [3, 3, 7]
    assert found.at.tolist() == [4, 5, 8]
    assert split.every_target("test", np.array([1, 0])).items.tolist() == [8, 4, 5]
    assert split.every_target("valid").items.tolist() == [2]
    unknown = replace(timed(test_targets="day"), times=timed().times // DAY, points=(10_008, 10_009))
    with pytest.raises(ValueError, match="targets of a day need times whose unit can be told"):
        split_of(unknown).every_target("test")
    assert list(split_of(replace(unknown, test_targets="next")).gaps(found)) == ["gap"]


def test_points_lie_where_the_shares_say() -> None:
    plain = replace(dataset_of([list(range(10)), list(range(10))], 10), times=np.arange(20) * 10)
    assert split_at_times(plain).points == (160, 180)
    assert split_at_times(plain, valid_share=0.25, test_share=0.5).points == (50, 100)
    assert isinstance(split_at_times(plain).points[0], int)
    assert split_at_times(plain).name == "toy-global-time"
    for shares in ((0, 0.1), (0.1, 0), (0.5, 0.5), (-0.1, 0.2)):
        with pytest.raises(InputError, match="above 0, together below 1"):
            split_at_times(plain, valid_share=shares[0], test_share=shares[1])
    same = {"first = training": [0, 0, 0, 0, 5, 6], "first = second": [0, 1, 2, 5, 5, 5]}
    for times in same.values():
        with pytest.raises(InputError, match="too many interactions have one time"):
            split_at_times(
                replace(dataset_of([list(range(6))], 6), times=np.array(times)),
                valid_share=0.4,
                test_share=0.1,
            )


def test_a_day_is_tested_where_the_unit_can_be_told() -> None:
    dataset = split_at_times(timed(points=None), valid_share=0.2, test_share=0.3, test_targets="day")
    assert dataset.name == "toy-global-time-day" and dataset.test_targets == "day"
    following = split_at_times(timed(points=None), valid_share=0.2, test_share=0.3)
    assert dataset.fingerprint == f"{following.fingerprint}-day" and following.test_targets == "next"
    assert dataset.training_fingerprint == following.training_fingerprint == following.fingerprint
    with pytest.raises(InputError, match="the unit of the times cannot be told"):
        split_at_times(replace(timed(points=None), times=np.arange(11)), test_targets="day")


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_days_are_those_of_the_calendar(unit: int) -> None:
    moments = [datetime(1985, 3, 1, 23, 59, tzinfo=timezone.utc), datetime(2024, 2, 29, tzinfo=timezone.utc)]
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    found = day_numbers(np.array([int(moment.timestamp()) * unit for moment in moments]))
    assert found.tolist() == [(moment - epoch).days for moment in moments] and found.dtype == np.int32


def test_the_last_nanosecond_of_a_day_belongs_to_it() -> None:
    midnight = 20_000 * DAY * 10**9
    assert day_numbers(np.array([midnight - 1, midnight])).tolist() == [19_999, 20_000]


def test_years_at_which_a_unit_can_be_told() -> None:
    year = 365.25 * DAY
    for first, last, told in ((10.0, 130.0, True), (9.99, 130.0, False), (10.0, 130.01, False)):
        found = day_numbers(np.array([first * year, last * year]))
        assert (found is not None) == told
    assert day_numbers(np.array([])) is None


def test_statistics_by_hand() -> None:
    dataset = timed()
    dataset = replace(dataset, items=dataset.items.assign(description=["x"] + [""] * 9))
    found = dataset.statistics()
    assert list(found) == [
        "dataset", "users", "items", "interactions", "avg_length", "images", "descriptions", "same_day", "same_time",
    ]  # fmt: skip
    assert found["users"] == 4 and found["items"] == 10 and found["interactions"] == 11
    assert found["avg_length"] == 2.75 and found["images"] == 0.0 and found["descriptions"] == 0.1
    assert found["same_day"] == found["same_time"] == 0.0
    third = replace(
        dataset_of([[0, 1, 2]] * 3, 3), times=10_000 * DAY + np.array([0, 5, 5, 0, 1, 9, 0, 1, 2 * DAY])
    )
    assert third.statistics()["same_time"] == 0.3333 and third.statistics()["same_day"] == 0.6667
    described = replace(third, items=third.items.assign(description=["x", "", ""]))
    assert described.statistics()["descriptions"] == 0.3333 and third.test_targets == "next"
    pictured = replace(
        third, images=SimpleNamespace(available=np.array([True, False, True]), fingerprint="p")
    )
    assert pictured.statistics()["images"] == 0.6667
    assert "same_time" not in dataset_of(SEQUENCES, 10).statistics()


def parts() -> Iterator[bytes]:
    """What the fingerprint of the data below is made of, written out."""
    named = [("item item_id", ["0", "1"]), ("item description", ["", ""]), ("users", ["u0"])]
    for label, values in named:
        text = json.dumps(values).encode()
        yield b"%s:%d:%s" % (label.encode(), len(text), text)
    for label, array in (("sequences", np.array([1, 0, 1], "<i4")), ("offsets", np.array([0, 3], "<i8"))):
        yield b"%s:%d:%s" % (label.encode(), array.nbytes, array.tobytes())


def test_a_fingerprint_is_made_of_all_that_a_result_can_depend_on() -> None:
    dataset = dataset_of([[1, 0, 1]], 2)
    plain = changed(dataset).fingerprint
    assert plain == hashlib.sha256(b"".join(parts())).hexdigest()[:16]
    points = json.dumps([1.5, 2]).encode()
    split = changed(dataset, points=(1.5, 2))
    end = b"points:%d:%s" % (len(points), points)
    assert split.fingerprint == hashlib.sha256(b"".join([*parts(), end])).hexdigest()[:16]
    images = SimpleNamespace(available=np.array([True, False]), fingerprint="p1")
    end = b"images:2:p1available:1:\x80"
    assert (
        changed(dataset, images=images).fingerprint
        == hashlib.sha256(b"".join([*parts(), end])).hexdigest()[:16]
    )
    day = changed(dataset, points=(1.5, 2), test_targets="day")
    assert day.fingerprint == f"{split.fingerprint}-day" and day.training_fingerprint == split.fingerprint
    assert (
        changed(dataset, name="other").fingerprint == plain and changed(dataset, name="other").name == "other"
    )
    wide = dataset.sequence_items.astype(np.int64)
    assert (
        content_fingerprint(
            items=dataset.items,
            user_ids=dataset.user_ids,
            sequence_items=wide,
            offsets=dataset.offsets.astype(np.int32),
            images=None,
        )
        == plain
    )
