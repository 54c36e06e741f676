"""RecBole itself reads what is exported for it: the same users, histories and targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from illmrec.data.dataset import changed
from illmrec.data.exports.recbole import export_recbole
from illmrec.data.splits import leave_one_out
from illmrec.data.toyshop import load_toyshop


def test_recbole_reads_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("recbole")
    whole = pd.Series.agg

    def agg(self, function=None, *rest, **named):
        """Apply ``len`` to each cell, as pandas did before 3.0 and RecBole 1.2.1 expects."""
        return self.map(len) if function is len else whole(self, function, *rest, **named)

    monkeypatch.setattr(pd.Series, "agg", agg)
    from baselines.recbole_compat import recbole_config

    dataset = changed(load_toyshop(users=12, items=40, min_interactions=3), name="illmrec")
    export_recbole(dataset, tmp_path / "illmrec", seed=0, n=2, longest=6, cache=tmp_path)
    settings = {
        "data_path": str(tmp_path),
        "load_col": {"inter": ["user_id", "item_id", "item_id_list"], "item": ["item_id", "title"]},
        "alias_of_item_id": ["item_id_list"],
        "benchmark_filename": ["train", "valid", "test"],
        "MAX_ITEM_LIST_LENGTH": 6,
        "save_dataset": False,
        "train_neg_sample_args": None,
    }
    config = recbole_config("SASRec", settings, device=torch.device("cpu"))
    from recbole.data.dataset import SequentialDataset

    read = SequentialDataset(config)
    train, valid, test = read.build()
    split = leave_one_out(dataset)
    ids = dataset.items["item_id"].to_numpy()
    for part, found in (("valid", valid), ("test", test)):
        users = read.id2token("user_id", found.inter_feat["user_id"].numpy())
        assert list(users) == dataset.user_ids.tolist()
        targets = read.id2token("item_id", found.inter_feat["item_id"].numpy())
        assert list(targets) == ids[split.targets(part)].tolist()
        lists = found.inter_feat["item_id_list"].numpy()
        for row, history in zip(lists, split.histories(part), strict=True):
            assert list(read.id2token("item_id", row[row > 0])) == ids[history[-6:]].tolist()
    assert len(train) == int(np.sum(split.history_lengths("valid") - 1))
