"""How ``[REC]`` states are standardised before they are projected: by those of some users."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from illmrec.data.splits import Split
from illmrec.model.illmrec import ILLMRec
from illmrec.states.encoding import encode_positions
from illmrec.states.positions import evaluation_positions

CALIBRATION_USERS = 256


def calibrate(model: ILLMRec, split: Split, *, seed: int, validated: int) -> None:
    """Standardise ``[REC]`` states by those of some users after their training part."""
    users = calibration_users(split, seed=seed, validated=validated)
    model.calibrate([split.train(int(user)) for user in users])


def calibrate_by_table(
    model: ILLMRec, split: Split, *, seed: int, validated: int, cache: Path | None = None
) -> None:
    """Standardise states as :func:`calibrate` does; those of the users that it takes are stored, too."""
    model.rec_mean.zero_()
    model.rec_scale.fill_(1.0)
    users = calibration_users(split, seed=seed, validated=validated)
    # What comes before the validation item is the training part.
    ends = evaluation_positions(split, "valid", length=model.history_length, users=users)
    table = encode_positions(model, ends, dtype="float32", cache=cache, progress=False)
    model.standardise_by(table.values[:])


def calibration_users(split: Split, *, seed: int, validated: int) -> np.ndarray:
    """Return the users by whose states others are standardised, drawn by seed.

    Args:
        split: The split.
        seed: Of the draw.
        validated: Users whose validation chooses an epoch; where there are any, no more are read here.

    Returns:
        Int64 [256, or fewer].
    """
    learners = split.learners
    generator = np.random.default_rng([seed, split.dataset.n_users, CALIBRATION_USERS])
    count = min(len(learners), CALIBRATION_USERS)
    drawn = generator.choice(learners, count, replace=False)
    return drawn[: max(2, min(count, validated))] if validated else drawn
