"""JSON, YAML and arrays that were made to harm: refused in one line, in no time and in little memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from illmrec.command_line import parse_options
from illmrec.data.candidates import _stored
from illmrec.data.fetching.manifest import Manifest
from illmrec.data.registry import read_registry
from illmrec.data.sources.writing import NOTE, read_note
from illmrec.errors import InputError
from illmrec.features.table import FeatureTable
from illmrec.files import loaded_npy, parsed_json
from illmrec.states.table import StateTable
from illmrec.yaml_files import read_yaml

DEEP = "[" * 100_000 + "]" * 100_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_json_that_is_nested_deep_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        parsed_json(DEEP)
    assert parsed_json(b'{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize("digits", [309, 400, 5_000])
def test_json_with_a_number_that_fits_no_float_is_a_value_error(digits: int) -> None:
    with pytest.raises(ValueError, match=f"a whole number of {digits:,} digits"):
        parsed_json(f'{{"a": [-{"9" * digits}]}}')
    assert float(parsed_json("-" + "9" * 308)) == pytest.approx(-1e308)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB + "last: *i\n", "stands for more than 100,000 values"),
        ("a: &self [*self]\n", "nested deeper than 50"),
        ("a: " + "9" * 309, "a whole number of more than 308 digits"),
        ("a: " + "[" * 3_000 + "]" * 3_000, "nested deeper than 50|maximum nesting depth"),
        ("a: !!int 'x'\n", "not valid YAML"),
        ("a: 2001-99-99\n", "not valid YAML"),
        ("? [a]\n: b\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
    ids=["bomb", "itself", "number", "deep", "tag", "date", "key", "object"],
)
def test_yaml_that_grows_or_makes_objects_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    for read in (read_yaml, read_registry, _as_config):
        with pytest.raises(InputError, match=said):
            read(path)


def _command(
    *, rate: float = 0.5, seeds: tuple[int, ...] = (0,), progress: bool = True, users: int | None = None
) -> int:
    """Do nothing.

    Args:
        rate: A share.
        seeds: Seeds.
        progress: Show bars.
        users: How many.
    """
    return 0


def _as_config(path: Path) -> dict:
    return parse_options(_command, prog="python -m bench.example", args=["--config", str(path)])


@pytest.mark.parametrize("line", ["rate: null", "seeds: ~", "progress: null"])
def test_null_in_a_configuration_is_no_number(line: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(line + "\n")
    with pytest.raises(InputError, match=r"run\.yaml: --\w+: null does not fit"):
        _as_config(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text("users: null\n")
    assert _as_config(tmp_path / "run.yaml")["users"] is None


REGISTRY = """
family: shop
page: https://shop.example
citation: The shop.
files:
  interactions: {name: buys.csv}
  items: {name: things.csv}
interactions: {format: delimited, columns: {user_id: u, item_id: i, timestamp: t}}
items: {format: delimited, columns: {item_id: i, title: t}}
datasets: {shop: {title: Ours}}
"""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("page: https://shop.example", "page: [a]", "page: give a text, not a list"),
        ("{name: buys.csv}", "[buys.csv]", "give keys such as .*, not a list"),
        ("{name: buys.csv}", "{name: 3}", "name: give a text, not a whole number"),
        ("{name: buys.csv}", "{name: ..}", "give a file's name, no path"),
        ("{name: buys.csv}", "{name: buys.csv, bytes: x}", "bytes: give a whole number or null, not a text"),
        ("t}}\nitems", "t}, encoding: hex}\nitems", "encoding 'hex'"),
        ("t}}\nitems", "t}, encoding: nothing}\nitems", "encoding 'nothing'"),
        ("t}}\nitems", "t}, separator: ''}\nitems", "separator is empty"),
        ("t}}\nitems", "t}, time: 3}\nitems", "time: give a text"),
        ("columns: {item_id: i, title: t}", "columns: 3", "give keys such as brand, not a whole number"),
        ("{title: Ours}", "{title: Ours, published: {users: 1.2.3}}", "published count '1.2.3'"),
        (
            "{title: Ours}",
            "{title: Ours, paper: {users: x}}",
            "paper, users: give a whole number or a number",
        ),
        ("{title: Ours}", "{title: Ours, item_prefix: 0}", "item_prefix 0"),
        ("{title: Ours}", "{title: Ours, id_case: lower}", "id_case 'lower'"),
        ("{title: Ours}", "3", "give keys such as"),
    ],
)
def test_values_of_a_registry_have_their_types(right: str, wrong: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(REGISTRY)
    assert [source.name for source in read_registry(path)] == ["shop"]
    path.write_text(REGISTRY.replace(right, wrong, 1))
    with pytest.raises(InputError, match=said):
        read_registry(path)


def _npy(header: str) -> bytes:
    encoded = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + bytes(64)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        "{" * 400,
        "(" * 300,
        "__import__('os')",
        "",
    ],
)
def test_an_array_is_what_its_file_holds(header: str, tmp_path: Path) -> None:
    path = tmp_path / "values.npy"
    path.write_bytes(_npy(header))
    for mode in ("r", None):
        with pytest.raises(ValueError):
            loaded_npy(path, mode=mode)
    with pytest.raises(InputError, match="cannot be read"):
        _stored(path, shape=(2, 2))
    np.save(path, np.eye(2, dtype=np.int32))
    assert loaded_npy(path).tolist() == [[1, 0], [0, 1]] and not isinstance(loaded_npy(path), np.memmap)


def _feature_table(folder: Path, **changes: object) -> Path:
    np.save(folder / "values.npy", np.ones((3, 2), dtype=np.float32))
    np.save(folder / "present.npy", np.ones(3, dtype=bool))
    described = {"format": 1, "key": "k", "items": 3, "width": 2, "meta": {"vectors": 1}, **changes}
    (folder / "meta.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": 3},
        {"meta": {"vectors": "x"}},
        {"key": 3},
        {"items": "3"},
        {"dtype": "no type"},
        {"dtype": [1]},
    ],
)
def test_a_feature_table_says_what_it_is_in_the_right_types(changes: dict, tmp_path: Path) -> None:
    assert FeatureTable.open(_feature_table(tmp_path)).width == 2
    with pytest.raises(InputError, match="not a whole feature table"):
        FeatureTable.open(_feature_table(tmp_path, **changes))
    np.save(_feature_table(tmp_path) / "present.npy", np.ones(3))  # float64
    with pytest.raises(InputError, match="marks of what is present are float64"):
        FeatureTable.open(tmp_path)
    (tmp_path / "meta.json").write_text(DEEP)
    with pytest.raises(InputError, match="nested too deep"):
        FeatureTable.open(tmp_path)


def test_a_state_table_says_what_it_is_in_the_right_types(tmp_path: Path) -> None:
    folder = tmp_path / "k"
    folder.mkdir()
    np.save(folder / "values.npy", np.ones((3, 2), dtype=np.float32))
    described = {"format": 1, "key": "k", "positions": 3, "width": 2, "dtype": "float32", "meta": {}}
    (folder / "meta.json").write_text(json.dumps(described))
    assert len(StateTable.open(folder)) == 3
    for text in (DEEP, json.dumps({**described, "meta": 3}), "3", json.dumps({**described, "dtype": []})):
        (folder / "meta.json").write_text(text)
        with pytest.raises(InputError, match="not a whole state table"):
            StateTable.open(folder)
    (folder / "meta.json").write_text(json.dumps(described))
    np.save(folder / "values.npy", np.asfortranarray(np.ones((3, 2), dtype=np.float32)))
    with pytest.raises(InputError, match="column by column"):
        StateTable.open(folder)


@pytest.mark.parametrize(
    "text", ["", "3", "{}", '{"options": []}', '{"options": {"min_interactions": "5"}}', DEEP]
)
def test_a_damaged_note_of_built_data_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text(text)
    with pytest.raises(InputError, match=r"build\.json: damaged .*; run: python -m illmrec\.data get"):
        read_note(tmp_path)


def test_a_manifest_leads_to_no_other_folder(tmp_path: Path) -> None:
    lines = [
        {"item_id": "a", "url": "u", "file": "a.jpg"},
        {"item_id": "b", "url": "u", "file": "../../b.jpg"},
        {"item_id": "c", "url": "u", "bytes": "many"},
        {"item_id": ["d"], "url": "u"},
    ]
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(
        b"\n".join(json.dumps(line).encode() for line in lines) + b"\n" + DEEP.encode() + b"\n\xff\xfe\n"
    )
    assert list(Manifest(path).entries) == ["a"]
