"""What the training of a collaborative method did."""

from __future__ import annotations

from dataclasses import dataclass

_TARGETS_SHOWN = 10_000_000


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a fit did.

    Attributes:
        epochs: Epochs run.
        best_epoch: The epoch kept, from 1.
        validation_ndcg10: NDCG@10 over sampled candidates of the validation items, per epoch.
        training_loss: Mean loss of a batch, per epoch.
        targets_per_epoch: Training targets an epoch sees; of masked items, about so many.
        seconds: Wall-clock time of the fit, validation included.
    """

    epochs: int
    best_epoch: int
    validation_ndcg10: tuple[float, ...]
    training_loss: tuple[float, ...]
    targets_per_epoch: int
    seconds: float


def usual_epochs(targets: int) -> int:
    """Return as many epochs as show about 10 million targets, between 10 and 200.

    Args:
        targets: Of an epoch.
    """
    return min(200, max(10, _TARGETS_SHOWN // targets))
