from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.store.cell import Cell, cell_key


def make(**changes) -> Cell:
    fields = {
        "experiment": "accuracy",
        "version": 1,
        "config": {
            "method": "illmrec",
            "seed": 0,
            "dataset": {"name": "toyshop", "fingerprint": "0123456789abcdef"},
            "training": {"lr": 1e-3, "targets": "all"},
            "features": ["image", "cf"],
        },
        "method": "illmrec",
        "seed": 0,
        "dataset": {"dataset": "toyshop", "users": 10},
    }
    return Cell(**(fields | changes))


def test_key_is_pinned() -> None:
    """Were it to change, every stored result would be lost: raise the experiments' versions instead."""
    assert make().key == "82853d1ddfcf8a87"


def test_key_does_not_depend_on_order_or_number_types() -> None:
    config = make().config
    reordered = {name: config[name] for name in reversed(config)}
    reordered["training"] = {"targets": "all", "lr": np.float64(1e-3)}
    reordered["seed"] = np.int64(0)
    reordered["features"] = ("image", "cf")
    assert make(config=reordered).key == make().key


def test_key_depends_on_experiment_version_and_every_option() -> None:
    config = make().config
    keys = {
        make().key,
        make(experiment="efficiency").key,
        make(version=2).key,
        make(config={**config, "features": ["cf", "image"]}).key,
        make(config={**config, "training": {"lr": 1e-3, "targets": "one"}}).key,
        make(config={**config, "seed": 1}, seed=1).key,
        make(config={**config, "method": "tallrec"}, method="tallrec").key,
    }
    assert len(keys) == 7
    assert make(dataset={"users": 11}, label="shown").key == make().key
    assert make().key == cell_key("accuracy", 1, config)


@pytest.mark.parametrize("name", ["../up", "A", "", "a/b", ".hidden"])
def test_an_experiment_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        make(experiment=name)


def test_method_and_seed_must_be_in_the_config() -> None:
    with pytest.raises(ValueError, match="'seed'"):
        make(seed=3)
    with pytest.raises(ValueError, match="'method'"):
        make(config={"seed": 0})


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), ValueError), (Path("/data"), TypeError), ({1, 2}, TypeError)]
)
def test_a_config_that_is_not_json_is_refused(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        make(config={**make().config, "option": value})
