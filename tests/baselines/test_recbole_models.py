"""SASRec and GRU4Rec through RecBole: its own evaluator agrees, nothing leaks, nothing is left behind."""

from __future__ import annotations

import builtins
import os
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from baselines import recbole_compat
from baselines.cf_features import cf_features
from baselines.recbole_models import RecBoleRecommender
from baselines.recbole_options import RecBoleOptions, default_options
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.ranking import mean_ndcg, target_ranks

pytest.importorskip("recbole", reason="RecBole is not installed")

N_ITEMS = 40


def make_dataset(sequences: list[np.ndarray], n_items: int = N_ITEMS, fingerprint: str = "0" * 16) -> Dataset:
    lengths = [len(sequence) for sequence in sequences]
    items = pd.DataFrame({column: [f"{column} {row}" for row in range(n_items)] for column in ITEM_COLUMNS})
    return Dataset(
        name="tiny",
        items=items,
        user_ids=np.array([f"u{user}" for user in range(len(sequences))], dtype=object),
        sequence_items=np.concatenate(sequences).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        images=None,
        fingerprint=fingerprint,
        dropped={},
    )


def walks(n_users: int = 30, seed: int = 0, low: int = 5, high: int = 18) -> list[np.ndarray]:
    """Users who walk round the catalogue: the next item is the one after, so there is something to learn."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(low, high, n_users)
    return [(generator.integers(N_ITEMS) + np.arange(length)) % N_ITEMS for length in lengths]


def small(model: str = "sasrec", **changes: Any) -> RecBoleOptions:
    settings = {"epochs": 2, "hidden_size": 16, "max_length": 8, "batch_size": 16} | changes
    return default_options(model, **settings)  # type: ignore[arg-type]


def fitted(dataset: Dataset, options: RecBoleOptions, seed: int = 0) -> RecBoleRecommender:
    model = RecBoleRecommender(options=options)
    negatives = draw_negatives(dataset, seed=0, n=10)
    model.fit(dataset, leave_one_out(dataset), seed=seed, negatives=negatives, progress=False)
    return model


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(walks())


@pytest.fixture(scope="module")
def sasrec(dataset: Dataset) -> RecBoleRecommender:
    return fitted(dataset, small(epochs=8))


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("targets", ["one", "all"])
@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_every_combination_learns(dataset: Dataset, model: str, targets: str, loss: str) -> None:
    rate = {"learning_rate": 1e-2, "dropout": 0.0, "epochs": 12, "patience": 12}
    recommender = fitted(dataset, small(model, targets=targets, loss=loss, **rate))
    record = recommender.record
    assert record is not None
    assert record.training_loss[-1] < record.training_loss[0]
    # Chance gives 1 of 11 candidates an NDCG@10 of 0.42.
    assert max(record.validation_ndcg10) > 0.6
    assert record.validation_ndcg10[record.best_epoch - 1] == max(record.validation_ndcg10)
    assert record.targets_per_epoch == sum(len(sequence) - 3 for sequence in walks())


@pytest.mark.filterwarnings("ignore::Warning")  # RecBole's use of pandas and numpy
def test_scores_rank_as_recbole_evaluates(dataset: Dataset, tmp_path: Path) -> None:
    """Give RecBole all interactions, its own leave-one-out and evaluator, and our parameters."""
    model = fitted(dataset, small(epochs=4, learning_rate=1e-2))
    split = leave_one_out(dataset)

    from recbole.data.dataset import SequentialDataset
    from recbole.data.utils import get_dataloader
    from recbole.model.sequential_recommender import SASRec
    from recbole.trainer import Trainer

    users = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    lines = [
        f"{user}\t{item}\t{place}\n"
        for place, (user, item) in enumerate(zip(users, dataset.sequence_items, strict=True))
    ]
    (tmp_path / "illmrec").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    (tmp_path / "illmrec" / "illmrec.inter").write_text(header + "".join(lines))
    options = model.options
    settings = {
        "data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved"), "gpu_id": "",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": options.max_length, "train_neg_sample_args": None,
        "n_layers": options.layers, "n_heads": options.heads, "hidden_size": options.hidden_size,
        "inner_size": 4 * options.hidden_size, "eval_batch_size": 7,
        "metrics": ["NDCG", "Hit", "MRR"], "topk": [10], "metric_decimal_place": 10,
    }  # fmt: skip
    config = recbole_compat.recbole_config("SASRec", settings, device=torch.device("cpu"))
    config["eval_args"]["mode"] = {"valid": "full", "test": "full"}
    recbole_dataset = SequentialDataset(config)
    parts = recbole_dataset.build()
    network = SASRec(config, recbole_dataset)
    state = model._network.state_dict()
    rows = [0, *(1 + int(token) for token in recbole_dataset.field2id_token["item_id"][1:])]
    assert len(rows) <= N_ITEMS + 1
    state["item_embedding.weight"] = state["item_embedding.weight"][rows]
    network.load_state_dict(state)
    trainer = Trainer(config, network)
    seen = np.array(rows[1:]) - 1  # RecBole's catalogue is what occurs in the interactions
    for part, built in zip(("valid", "test"), parts[1:], strict=True):
        theirs = trainer.evaluate(
            get_dataloader(config, part)(config, built, None, shuffle=False), load_best_model=False
        )
        scores = model.score(split.histories(part))  # type: ignore[arg-type]
        outside = np.ones((dataset.n_users, N_ITEMS), dtype=bool)
        outside[:, seen] = False
        ranks = target_ranks(scores, split.targets(part), exclude=outside)  # type: ignore[arg-type]
        assert mean_ndcg(ranks, 10) == pytest.approx(theirs["ndcg@10"], abs=1e-8)
        assert (ranks <= 10).mean() == pytest.approx(theirs["hit@10"], abs=1e-8)
        assert np.where(ranks <= 10, 1 / ranks, 0).mean() == pytest.approx(theirs["mrr@10"], abs=1e-8)


@pytest.mark.parametrize("targets", ["one", "all"])
@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_test_items_and_validation_targets_do_not_train(targets: str, loss: str) -> None:
    """Poison what must not be seen: other test items change nothing, other validation items no parameter."""
    clean = walks(seed=1)
    poisoned_test = [np.append(sequence[:-1], (sequence[-1] + 11) % N_ITEMS) for sequence in clean]
    poisoned_both = [np.append(sequence[:-2], [3, 5]) for sequence in clean]
    negatives = draw_negatives(make_dataset(clean), seed=0, n=10)
    states, records = [], []
    for sequences in (clean, poisoned_test, poisoned_both):
        data = make_dataset(sequences)
        # One epoch: with several, validation items rightly decide which is kept.
        model = RecBoleRecommender(options=small(targets=targets, loss=loss, epochs=1))
        records.append(model.fit(data, leave_one_out(data), seed=0, negatives=negatives, progress=False))
        states.append(model._network.state_dict())
    assert records[0].validation_ndcg10 == records[1].validation_ndcg10
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
        assert torch.equal(value, states[2][name]), name


def test_seeds_reproduce_and_leave_the_process_generators_alone(
    dataset: Dataset, sasrec: RecBoleRecommender
) -> None:
    histories = leave_one_out(dataset).histories("test")
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    again = fitted(dataset, sasrec.options)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    np.testing.assert_array_equal(again.score(histories), sasrec.score(histories))
    other = fitted(dataset, sasrec.options, seed=1)
    assert not np.allclose(other.score(histories), sasrec.score(histories))


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_scores_do_not_depend_on_the_batch(dataset: Dataset, model: str) -> None:
    recommender = fitted(dataset, small(model, epochs=1))
    histories = leave_one_out(dataset).histories("test")
    together = recommender.score(histories)
    assert together.shape == (dataset.n_users, N_ITEMS) and together.dtype == np.float32
    alone = np.concatenate([recommender.score([history]) for history in histories])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
    # Only the last max_length items are read.
    cut = recommender.score([history[-recommender.options.max_length :] for history in histories])
    np.testing.assert_array_equal(cut, together)


def test_the_history_is_not_masked(dataset: Dataset, sasrec: RecBoleRecommender) -> None:
    assert np.isfinite(sasrec.score(leave_one_out(dataset).histories("test"))).all()


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_saving_and_loading(dataset: Dataset, model: str, tmp_path: Path) -> None:
    recommender = fitted(dataset, small(model, epochs=1))
    recommender.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "parameters.safetensors"]
    loaded = RecBoleRecommender.load(tmp_path)
    assert loaded.options == recommender.options and loaded.record == recommender.record
    histories = leave_one_out(dataset).histories("test")
    np.testing.assert_array_equal(loaded.score(histories), recommender.score(histories))
    np.testing.assert_array_equal(loaded.item_embeddings(), recommender.item_embeddings())
    assert recommender.item_embeddings().shape == (N_ITEMS, 16)


def test_nothing_is_left_behind(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No folder in the working directory, no option taken from the command line, no environment changed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "--epochs=1", "--hidden_size=3", "--dataset=folder:x"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    arguments = list(sys.argv)
    with caplog.at_level("DEBUG"):
        recommender = fitted(dataset, small(targets="one", epochs=2, patience=2))
    assert recommender.record is not None and recommender.record.epochs == 2
    assert list(tmp_path.iterdir()) == []
    assert sys.argv == arguments and os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert not torch.is_anomaly_enabled()
    assert {record.name for record in caplog.records} <= {"baselines.epochs"}


@pytest.mark.parametrize("model", ["sasrec", "bert4rec"])
def test_recbole_writes_and_reads_no_pickle(
    dataset: Dataset, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RecBole's Trainer keeps its best epoch by torch.save and reads it by torch.load: neither is called here."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a pickle was written or read")

    for module, names in ((torch, ("save", "load")), (pickle, ("dump", "load"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    recommender = fitted(dataset, small(model, epochs=2, patience=1))
    recommender.save(tmp_path)
    RecBoleRecommender.load(tmp_path)


def test_early_stopping_keeps_the_best_epoch(dataset: Dataset) -> None:
    # A learning rate this high gets worse after the first epochs.
    recommender = fitted(dataset, small(epochs=40, patience=2, learning_rate=0.3))
    record = recommender.record
    assert record is not None and record.epochs < 40
    assert record.epochs >= record.best_epoch + 2
    split = leave_one_out(dataset)
    ranks = target_ranks(
        recommender.score(split.histories("valid")),
        split.targets("valid"),
        candidates=draw_negatives(dataset, seed=0, n=10),
    )
    assert mean_ndcg(ranks, 10) == pytest.approx(max(record.validation_ndcg10))


def test_repeated_items_and_unseen_items_are_fine() -> None:
    sequences = [np.array([0, 0, 1, 0, 2, 3]), np.array([1, 1, 1, 1, 1]), np.array([4, 2, 6])]
    data = make_dataset(sequences, n_items=30)
    recommender = fitted(data, small(loss="bce"))
    assert np.isfinite(recommender.score([np.array([29, 28])])).all()


def test_bad_input(dataset: Dataset, sasrec: RecBoleRecommender, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="history 1 is empty"):
        sasrec.score([np.array([1]), np.array([], dtype=np.int32)])
    short = make_dataset([np.array([1, 2, 3])] * 3)
    with pytest.raises(InputError, match="no user has two training items"):
        fitted(short, small())
    with pytest.raises(InputError, match="train it again"):
        RecBoleRecommender.load(tmp_path)
    for changes, message in [
        ({"model": "sasrek"}, "did you mean 'sasrec'"),
        ({"targets": "some"}, "valid: all, one"),
        ({"loss": "bpr"}, "valid: bce, ce"),
        ({"hidden_size": 15}, "does not divide into 2 heads"),
        ({"epochs": 0}, "epochs is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ]:
        with pytest.raises(InputError, match=message):
            RecBoleOptions(**changes)  # type: ignore[arg-type]


def test_a_missing_recbole_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__
    for name in [name for name in sys.modules if name.split(".")[0] == "recbole"]:
        monkeypatch.delitem(sys.modules, name)

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "recbole":
            raise ModuleNotFoundError("No module named 'recbole'", name="recbole")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(recbole_compat.importlib, "import_module", refuse)
    with pytest.raises(InputError, match=r'pip install "illmrec\[recbole\]".*; without it'):
        RecBoleRecommender()


def test_cf_features_are_trained_once_and_count_what_they_never_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [sequence % 20 for sequence in walks()]
    data = make_dataset(sequences, fingerprint="1" * 16)
    split = leave_one_out(data)
    negatives = draw_negatives(data, seed=0, n=10)

    def build(seed: int = 0, **changes: Any) -> Any:
        return cf_features(
            data, split, seed=seed, negatives=negatives, cache=tmp_path,
            options=small(**{"epochs": 1} | changes), progress=False,
        )  # fmt: skip

    table = build()
    assert table.values.shape == (N_ITEMS, 16) and table.present.all()
    assert table.meta["untrained_items"] == N_ITEMS - len(np.unique(split.train_items()))
    assert table.meta["data"] == data.fingerprint
    others = {build(seed=1).key, build(hidden_size=8).key, build(loss="bce").key, table.key}
    assert len(others) == 4 and {path.name for path in (tmp_path / "features").iterdir()} == others

    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(RecBoleRecommender, "fit", fail)
    np.testing.assert_array_equal(build().values, table.values)
