"""Training by epochs: the best is kept, patience ends it, and a run that was stopped goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from baselines import epochs
from baselines.epochs import EpochTraining
from baselines.training_record import TrainingRecord


class Toy:
    """A network that is pulled to drawn targets, with dropout; validation values are given or follow the weights."""

    def __init__(self, scores: list[float] | None = None) -> None:
        torch.manual_seed(3)
        self.network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: 1 / (1 + step))
        self.random = np.random.default_rng(5)
        self.scores = scores
        self.epochs = 0

    def train(self) -> float:
        self.epochs += 1
        self.network.train()
        inputs = torch.from_numpy(self.random.normal(size=(8, 4)).astype(np.float32))
        loss = self.network(inputs).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())

    def validate(self) -> float:
        if self.scores is not None:
            return self.scores.pop(0)
        return float(sum(weight.abs().sum() for weight in self.network.parameters()).detach()) % 1

    def run(self, **changes: Any) -> TrainingRecord:
        usual: dict[str, Any] = {"epochs": 9, "patience": 9, "identity": {"seed": 0}}
        look = changes.pop("look", None)
        training = EpochTraining(
            name="toy",
            network=self.network,
            optimiser=self.optimiser,
            schedule=self.schedule,
            train=self.train,
            validate=self.validate,
            draws=[self.random],
            **{**usual, **changes},
        )
        return training.run(targets=8, progress=False, look=look)


def weights(toy: Toy) -> np.ndarray:
    return torch.cat([value.detach().flatten() for value in toy.network.parameters()]).numpy()


def stop_after(number: int) -> Any:
    def look(epoch: int, score: float) -> None:
        if epoch == number + 1:
            raise KeyboardInterrupt

    return look


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)
    generator = torch.get_rng_state()
    yield
    torch.set_rng_state(generator)


def test_the_best_epoch_is_kept_and_patience_ends_the_run() -> None:
    toy, seen = Toy([0.1, 0.3, 0.2, 0.3, 0.1]), []
    record = toy.run(patience=3, look=lambda epoch, score: seen.append(weights(toy)))
    assert (record.epochs, record.best_epoch, record.targets_per_epoch) == (5, 2, 8)
    assert record.validation_ndcg10 == (0.1, 0.3, 0.2, 0.3, 0.1) and len(record.training_loss) == 5
    np.testing.assert_array_equal(weights(toy), seen[1])
    assert Toy([0.1, 0.2, 0.3]).run(epochs=3).epochs == 3


@pytest.mark.parametrize("done", [1, 4, 8])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, done: int) -> None:
    whole = Toy()
    expected = whole.run()
    stopped = Toy()
    with pytest.raises(KeyboardInterrupt):
        stopped.run(checkpoint=tmp_path / "unfinished", look=stop_after(done))
    torch.manual_seed(99)
    again = Toy()
    again.random.normal(size=3)
    found = again.run(checkpoint=tmp_path / "unfinished")
    assert again.epochs == 9 - done
    assert found.validation_ndcg10 == expected.validation_ndcg10
    assert found.training_loss == expected.training_loss and found.best_epoch == expected.best_epoch
    np.testing.assert_array_equal(weights(again), weights(whole))
    # Ended, and not evaluated: nothing is trained again.
    ended = Toy()
    assert ended.run(checkpoint=tmp_path / "unfinished").validation_ndcg10 == expected.validation_ndcg10
    assert ended.epochs == 0
    np.testing.assert_array_equal(weights(ended), weights(whole))


def test_the_state_of_another_run_or_a_damaged_one_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(KeyboardInterrupt):
        Toy().run(checkpoint=tmp_path / "unfinished", look=stop_after(4))
    other = Toy()
    other.run(checkpoint=tmp_path / "unfinished", identity={"seed": 1})
    assert other.epochs == 9 and "of something else; starting anew" in caplog.text
    tensors = next((tmp_path / "unfinished").glob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-5])
    damaged = Toy()
    damaged.run(checkpoint=tmp_path / "unfinished", identity={"seed": 1})
    assert damaged.epochs == 9 and "cannot be continued" in caplog.text
