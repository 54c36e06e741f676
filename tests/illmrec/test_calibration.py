"""Users by whose states others are standardised."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from illmrec.data.dataset import Dataset
from illmrec.data.splits import leave_one_out
from illmrec.training.calibration import CALIBRATION_USERS, calibration_users

USERS = CALIBRATION_USERS + 44


@pytest.fixture(scope="module")
def split():
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(8)], "title": "a"})
    return leave_one_out(
        Dataset(
            name="tiny",
            items=items,
            user_ids=np.array([f"u{u}" for u in range(USERS)], dtype=object),
            sequence_items=np.tile(np.arange(5, dtype=np.int32), USERS),
            offsets=np.arange(USERS + 1) * 5,
            images=None,
            fingerprint="0" * 16,
            dropped={},
        )
    )


def test_no_more_users_than_choose_the_epoch(split):
    everyone = calibration_users(split, seed=0, validated=10_000)
    assert len(everyone) == len(set(everyone.tolist())) == CALIBRATION_USERS
    assert calibration_users(split, seed=0, validated=0).tolist() == everyone.tolist()
    assert calibration_users(split, seed=0, validated=32).tolist() == everyone[:32].tolist()
    assert len(calibration_users(split, seed=0, validated=1)) == 2  # of one there is no deviation
    assert calibration_users(split, seed=1, validated=32).tolist() != everyone[:32].tolist()
