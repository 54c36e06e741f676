"""Configurations, registries of data sets and notes beside data: YAML and JSON that people write."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Literal

import yaml
from contained import Reader
from mutated_files import json_text, mutated_bytes, mutated_value

REGISTRY: dict[str, Any] = {
    "family": "shop", "page": "https://shop.example/data", "citation": "The shop, 2026.", "licence": "CC0",
    "files": {
        "interactions": {"name": "buys.jsonl.gz", "url": "https://shop.example/buys.jsonl.gz", "bytes": 12},
        "items": {"name": "things.csv", "url": "https://shop.example/things.csv", "checksum": "md5:" + "0" * 32},
    },
    "interactions": {
        "format": "json-lines", "columns": {"user_id": "who", "item_id": "what", "timestamp": "when"}, "time": "ms",
    },
    "items": {
        "format": "delimited", "separator": ",",
        "columns": {"item_id": "id", "title": "name", "description": ["text", "more"]},
        "images": ["photo"], "encoding": "utf-8",
    },
    "require": ["title", "image-url", "image"],
    "datasets": {
        "shop-2026": {"title": "Our shop {name}", "published": {"interactions": "1.2M", "users": 7}},
        "shop-2027": {"title": "More", "category": "Arts", "paper": {"users": 3}, "item_prefix": 3, "id_case": "upper"},
    },
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "rows": "a-c", "max_users": 12, "rate": 0.5, "overwrite": "never", "seeds": [0, 1], "features": ["image"],
    "out": "reports/out", "progress": False,
}  # fmt: skip
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
_TAGS = (
    "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/object/new:object []",
    "!!binary aGk=",
    "!!set {a, b}", "!!timestamp 2001-12-14", "!!omap [a: 1]", "!x y", "!!int 'a'", "0o17", "1_000", "1:30:00", ".inf",
    "~",
    "2001-99-99", "0b12", "<<: {a: 1}",
)  # fmt: skip


def yaml_text(rng: random.Random, value: dict[str, Any], keys: tuple[str, ...]) -> bytes:
    """Return a value as YAML, changed; or a bomb, one that holds itself, one nested deep, or a strange tag."""
    kind = rng.randrange(14)
    key = rng.choice(keys)
    if kind == 0:
        text = _BOMB + f"{key}: *j\n"
    elif kind == 1:
        text = _BOMB.replace("[x, x", "[{y: 1}, x") + f"{key}: {{<<: *a}}\n"
    elif kind == 2:
        text = f"{key}: &self [*self]\n" + yaml.safe_dump({k: v for k, v in value.items() if k != key})
    elif kind == 3:
        text = f"{key}: " + rng.choice(
            ("[" * 20_000 + "]" * 20_000, "{a: " * 3_000 + "1" + "}" * 3_000, "- " * 10_000)
        )
    elif kind == 4:
        text = yaml.safe_dump({k: v for k, v in value.items() if k != key}) + f"{key}: {rng.choice(_TAGS)}\n"
    elif kind == 5:
        text = yaml.safe_dump(value) + rng.choice(
            ("---\na: 1\n", "%YAML 9.9\n", "\t- a\n", "? [a]\n: b\n", f"{key}: again\n", "x: *nothing\n")
        )
    elif kind == 6:
        return json_text(rng, mutated_value(rng, value))
    else:
        changed = mutated_value(rng, value, most=2)
        text = yaml.safe_dump(changed, allow_unicode=rng.random() < 0.5)
    encoded = text.encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, encoded) if rng.random() < 0.25 else encoded


def _write_registry(rng: random.Random, folder: Path, corpus: Path) -> None:
    (folder / "own.yaml").write_bytes(yaml_text(rng, REGISTRY, tuple(REGISTRY)))


def _read_registry(folder: Path, corpus: Path) -> None:
    from illmrec.data.registry import FORMATS, count_of, read_registry

    for source in read_registry(folder / "own.yaml"):
        for name in (
            "name",
            "title",
            "family",
            "page",
            "version",
            "licence_note",
            "citation",
            "published_source",
        ):
            assert isinstance(getattr(source, name), str), name
        assert source.licence is None or isinstance(source.licence, str)
        assert source.pictures is None or isinstance(source.pictures, str)
        assert source.item_prefix is None or isinstance(source.item_prefix, int)
        assert source.id_case in (None, "upper")
        assert all(isinstance(text, str) for text in source.differences)
        for file in source.files.values():
            assert isinstance(file.name, str) and Path(file.name).name == file.name
            assert file.url is None or file.url.startswith("https://")
            assert file.bytes is None or isinstance(file.bytes, int)
            assert isinstance(file.how, str) and (file.member is None or isinstance(file.member, str))
        for layout in (source.interactions, source.items):
            assert layout.format in FORMATS
            assert all(isinstance(part, str) for part in (layout.time, layout.separator, layout.encoding))
            "text".encode(layout.encoding)
            assert layout.picture_name is None or isinstance(layout.picture_name, str)
            assert all(isinstance(path, str) for paths in layout.columns.values() for path in paths)
        for count in source.published.values():
            low, high = count_of(count)
            assert low <= high
        assert all(isinstance(count, int | float) for count in (source.paper or {}).values())


def command(
    *,
    rows: str,
    max_users: int | None = None,
    rate: float = 0.5,
    overwrite: Literal["always", "never"] = "never",
    seeds: tuple[int, ...] = (0,),
    features: list[Literal["image", "cf", "text"]] | None = None,
    out: Path = Path("reports/out"),
    progress: bool = True,
) -> int:
    """Run nothing.

    Args:
        rows: Rows of the table.
        max_users: Bounds users.
        rate: Share of something.
        overwrite: What to do.
        seeds: Seeds.
        features: Feature types.
        out: Output folder.
        progress: Show bars.
    """
    return 0


def _write_config(rng: random.Random, folder: Path, corpus: Path) -> None:
    (folder / "run.yaml").write_bytes(yaml_text(rng, OPTIONS, tuple(OPTIONS)))
    if rng.random() < 0.03:
        (folder / "run.yaml").unlink()
        if rng.random() < 0.5:
            (folder / "run.yaml").mkdir()


def _read_config(folder: Path, corpus: Path) -> None:
    from illmrec.command_line import parse_options

    found = parse_options(
        command, prog="python -m bench.example", args=["--config", str(folder / "run.yaml")]
    )
    assert set(found) == set(OPTIONS)
    assert isinstance(found["rows"], str) and found["overwrite"] in ("always", "never")
    assert found["max_users"] is None or type(found["max_users"]) is int
    assert (
        type(found["rate"]) in (int, float)
        and isinstance(found["out"], Path)
        and type(found["progress"]) is bool
    )
    assert all(type(seed) is int for seed in found["seeds"])
    assert all(name in ("image", "cf", "text") for name in found["features"] or ())


NOTE = {
    "name": "shop",
    "options": {"min_interactions": 1},
    "fingerprint": "0" * 16,
    "lines": {},
    "counts": [1, 2],
}


def _write_note(rng: random.Random, folder: Path, corpus: Path) -> None:
    from hostile_tables import INTERACTIONS, ITEMS

    built = folder / "data-sets" / "built" / "goodbooks"
    built.mkdir(parents=True)
    content = json_text(rng, mutated_value(rng, NOTE))
    (built / "build.json").write_bytes(mutated_bytes(rng, content) if rng.random() < 0.3 else content)
    for name, rows in (("items", ITEMS), ("interactions", INTERACTIONS)):
        (built / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def _read_note(folder: Path, corpus: Path) -> None:
    import os

    from illmrec.data import load_dataset

    os.environ["ILLMREC_CACHE"] = str(folder)
    assert load_dataset("goodbooks", min_interactions=1).n_items > 0


def _write_study(rng: random.Random, folder: Path, corpus: Path) -> None:
    from bench.harness.tuned import _path, study_key

    study = {"study": "0" * 16, "method": "x", "parameters": {"a": 1}, "valid_ndcg10": 0.25, "default_ndcg10": None,
             "trials": 3, "seconds": 1.5}  # fmt: skip
    place = _path(folder, study_key({"method": "x"}))
    place.parent.mkdir(parents=True)
    place.write_bytes(json_text(rng, mutated_value(rng, study)))


def _read_study(folder: Path, corpus: Path) -> None:
    from bench.harness.tuned import Tuned

    found = Tuned.read(folder, {"method": "x"})
    assert (
        isinstance(found.parameters, dict) and isinstance(found.method, str) and isinstance(found.study, str)
    )
    assert (
        type(found.trials) is int
        and type(found.seconds) in (int, float)
        and type(found.valid_ndcg10) in (int, float)
    )


def _loaded() -> None:
    import illmrec.command_line
    import illmrec.data.registry
    import illmrec.data.sources.loading  # noqa: F401


READERS = (
    Reader(name="registries", write=_write_registry, read=_read_registry, inputs=150, load=_loaded),
    Reader(name="configs", write=_write_config, read=_read_config, inputs=120, load=_loaded),
    Reader(name="notes", write=_write_note, read=_read_note, inputs=60, load=_loaded),
    Reader(name="studies", write=_write_study, read=_read_study, inputs=60, load=_loaded),
)
