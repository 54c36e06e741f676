from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from bench.store.cell import Cell, Record, cell_key, content, plain_json
from illmrec.files import hash_json


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


def digits(value: object) -> str:
    """The key as docs define it: SHA-256 of sorted, compact ASCII JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def test_a_key_is_made_of_contents_where_they_stand_beside_names() -> None:
    config = {
        "method": "package:Class@c0ffee",
        "seed": 0,
        "encoder": "owner/e@11",
        "summarizer": "plain",
        "title": "a@b",
        "llm": {"name": "owner/m@v1", "layers": 4, "content": "77"},
        "dataset": {"name": "mine", "fingerprint": "ab"},
        "encoders": {"image": "clip@12", "text": "minilm"},
        "training": {"lr": 0.1, "name": "kept@1"},
        "inner": {"llm": "owner/m@99"},
    }
    assert content(config) == {
        "method": "c0ffee",
        "seed": 0,
        "encoder": "11",
        "summarizer": "plain",
        "title": "a@b",
        "llm": {"layers": 4, "content": "77"},
        "dataset": {"fingerprint": "ab"},
        "encoders": {"image": "12", "text": "minilm"},
        "training": {"lr": 0.1, "name": "kept@1"},
        "inner": {"llm": "99"},
    }
    expected = digits({"experiment": "accuracy", "version": 3, "config": content(config)})
    assert cell_key("accuracy", 3, config) == expected
    assert content({"llm": "owner/m@"}) == {"llm": "owner/m@"}  # nothing follows
    assert content({"llm": 3, "encoder": None}) == {"llm": 3, "encoder": None}


@pytest.mark.parametrize(
    ("dataset", "kept"),
    [
        ({"name": "toyshop", "n": 1}, {"name": "toyshop", "n": 1}),
        ({"name": "toyshop-large"}, {"name": "toyshop-large"}),
        ({"name": "toyshop", "content": "c"}, {"content": "c"}),
        ({"name": "my-toyshop", "n": 1}, {"n": 1}),
        ({"n": 1}, {"n": 1}),
    ],
)
def test_the_name_of_generated_data_is_part_of_the_key(dataset: dict, kept: dict) -> None:
    assert content({"dataset": dataset}) == {"dataset": kept}
    assert content({"other": {"name": "toyshop"}}) == {"other": {"name": "toyshop"}}


def test_hash_of_json_is_that_of_compact_sorted_ascii_and_of_numbers_alone() -> None:
    assert hash_json({"b": [1, None], "a": "é"}) == digits({"a": "é", "b": [1, None]})
    assert (
        hash_json({"b": [1, None], "a": "é"})
        == (hashlib.sha256(rb'{"a":"\u00e9","b":[1,null]}').hexdigest()[:16])
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        hash_json(float("nan"))


def test_base_seed_is_the_seed_unless_it_is_set() -> None:
    assert make().base_seed == 0
    assert make(config={**make().config, "seed": 5, "base_seed": 2}, seed=5).base_seed == 2
    assert make(config={**make().config, "seed": 5}, seed=5).base_seed == 5


def test_what_is_shown_of_a_cell() -> None:
    cell = make(dataset={"users": np.int64(3), "items": (1, 2)})
    assert cell.label == "illmrec seed 0" and make(label="other").label == "other"
    assert make(label="other") == make()
    assert cell.dataset == {"users": 3, "items": [1, 2]} and type(cell.dataset["users"]) is int


def test_plain_json_takes_numbers_and_mappings_and_nothing_else() -> None:
    nested = MappingProxyType({"n": np.float32(0.5), "t": (np.bool_(True),)})
    assert plain_json({"a": nested}) == {"a": {"n": 0.5, "t": [True]}}
    with pytest.raises(TypeError, match=r"Path .*Path\('/data'\) has no JSON form"):
        plain_json({"a": Path("/data")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        plain_json({"a": float("inf")})


def record() -> Record:
    cell = make()
    return Record(
        experiment=cell.experiment, version=cell.version, key=cell.key, config=dict(cell.config),
        dataset=dict(cell.dataset), method=cell.method, seed=cell.seed, results={"ndcg": 0.5, "ü": None},
        created="2020-01-01T00:00:00.000000+00:00", seconds=1.5, command="c", versions={"python": "3"},
        git_commit=None, machine={"cores": 1}, folder=Path("cells") / cell.key,
    )  # fmt: skip


def test_a_record_is_read_as_it_was_written() -> None:
    written = record()
    text = written.to_json()
    assert text.endswith("}\n") and '\n "version": 1,' in text and "ü" in text and "folder" not in text
    assert Record.from_json(text, written.folder) == written
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(written, results={"n": float("nan")}).to_json()


def test_a_record_of_before_has_names_in_its_key() -> None:
    written = record()
    config = {**written.config, "dataset": {"name": "mine", "fingerprint": "ab"}}
    old = digits({"experiment": "accuracy", "version": 1, "config": config})
    new = cell_key("accuracy", 1, config)
    assert old != new
    for key in (old, new):
        text = replace(written, config=config, key=key).to_json()
        assert Record.from_json(text, Path(key)).key == key
    with pytest.raises(ValueError, match="its key is not that of its config"):
        Record.from_json(replace(written, config=config).to_json(), written.folder)
    with pytest.raises(ValueError, match="its key is not that of its config"):
        Record.from_json(written.to_json(), Path("another"))


WRONG = {
    "experiment": 1, "version": "1", "key": None, "config": [], "dataset": "x", "method": None, "seed": "0",
    "results": [], "created": 1, "seconds": "1", "command": None, "versions": [], "git_commit": 1, "machine": None,
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_record_with_a_field_that_is_missing_or_of_a_wrong_type_is_refused(name: str) -> None:
    written = record()
    fields = json.loads(written.to_json())
    assert fields.keys() == WRONG.keys()
    with pytest.raises(ValueError, match=f"'{name}' has the wrong type"):
        Record.from_json(json.dumps({**fields, name: WRONG[name]}), written.folder)
    without = {other: value for other, value in fields.items() if other != name}
    with pytest.raises(ValueError, match="not the fields of a cell"):
        Record.from_json(json.dumps(without), written.folder)


def test_other_numbers_and_a_commit_are_fields_too() -> None:
    written = replace(record(), seconds=2, git_commit="0" * 40)
    assert Record.from_json(written.to_json(), written.folder) == written
    with pytest.raises(ValueError, match="not the fields of a cell"):
        Record.from_json("[]", written.folder)
