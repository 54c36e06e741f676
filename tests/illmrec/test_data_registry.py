"""The registry: every entry is whole, and a user's own file adds data sets or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from illmrec.data import load_dataset
from illmrec.data.registry import FOLDER, RULES, VARIABLE, count_of, registry, source_named
from illmrec.errors import InputError

KNOWN = registry()

OWN = """
family: shop
page: https://shop.example/data
citation: The shop, 2026.
licence: CC0
files:
  interactions: {name: buys.jsonl, url: "https://shop.example/buys.jsonl"}
  items: {name: things.jsonl}
interactions:
  format: json-lines
  columns: {user_id: who, item_id: what, timestamp: when}
items:
  format: json-lines
  columns: {item_id: id, title: name}
datasets:
  shop-2026: {title: Our shop}
"""


def test_the_names_of_the_issue_are_there() -> None:
    amazon18 = {
        f"amazon18-{name}" for name in ["sport", "grocery", "art", "phone", "automotive", "video", "clothing"]
    }
    others = {"hm", "microlens", "goodbooks", "movielens-1m", "movielens-100k", "movielens-latest"}
    assert amazon18 | others <= set(KNOWN)
    assert len([name for name in KNOWN if name.startswith("amazon23-")]) == 34  # 33 categories and Unknown


@pytest.mark.parametrize("source", KNOWN.values(), ids=lambda source: source.name)
def test_every_entry_is_whole(source) -> None:
    assert source.title and source.citation and source.page.startswith("https://")
    assert source.licence or source.licence_note
    assert set(source.require) <= set(RULES)
    assert {"interactions", "items"} <= set(source.files)
    for role, file in source.files.items():
        packed = file.member is not None and "archive" in source.files
        assert file.url or file.how or packed, role
        assert "{" not in file.name + (file.url or "")
    if "image-url" in source.require:
        assert source.items.images
    assert {"user_id", "item_id", "timestamp"} <= set(source.interactions.columns)
    for count in source.published.values():
        low, high = count_of(count)
        assert 0 < low <= high
    if source.published:
        assert source.published_source


def test_each_file_of_the_registry_says_whether_a_checksum_and_a_size_were_found() -> None:
    for path in FOLDER.glob("*.yaml"):
        text = path.read_text("utf-8")
        for key in ("bytes", "checksum"):
            for line in text.splitlines():
                if line.strip().startswith(f"{key}: null"):
                    assert "#" in line, f"{path.name}: {line}"


def test_rows_of_the_papers_table_4() -> None:
    """Interactions over users is the average length, which the paper prints to two digits."""
    rows = {name: source.paper for name, source in KNOWN.items() if source.paper is not None}
    assert set(rows) == {f"amazon18-{name}" for name in ("sport", "grocery", "art", "phone")}
    for row in rows.values():
        assert abs(row["interactions"] / row["users"] - row["avg_length"]) < 0.011


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(641, 641, 641), ("632.0K", 631_950, 632_050), ("4.6M", 4_550_000, 4_650_000), ("2B", 1.5e9, 2.5e9)],
)
def test_rounded_counts(count, low, high) -> None:
    assert count_of(count) == (low, high)


def test_an_own_file_adds_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(OWN, encoding="utf-8")
    source = source_named("shop-2026", tmp_path / "mine.yaml")
    assert source.interactions.columns["user_id"] == ("who",)
    assert source.files["interactions"].url == "https://shop.example/buys.jsonl"
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert "shop-2026" in registry()
    with pytest.raises(
        InputError, match=r"shop-2026: not built yet; run: python -m illmrec.data get shop-2026"
    ):
        load_dataset("shop-2026")


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "data-sets.md").read_text("utf-8")
    example = text.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "mine.yaml").write_text(example, encoding="utf-8")
    source = source_named("shop-2026", tmp_path / "mine.yaml")
    assert source.items.images == ("photo",) and source.published == {"interactions": "1.2M"}


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("licence: CC0", "license: CC0", ["unknown key 'license'", "did you mean 'licence'"]),
        ("format: json-lines", "format: pickle", ["'pickle'", "json-lines or delimited"]),
        ("user_id: who, ", "", ["columns lack user_id"]),
        ('"https://shop.example/buys.jsonl"', '"file:///etc/passwd"', ["https://"]),
        ("name: buys.jsonl", "name: ../buys.jsonl", ["no path"]),
        ("title: Our shop", "title: x, require: [price]", ["unknown rule 'price'"]),
        ("title: Our shop", "title: x, published: {users: many}", ["many"]),
        ("{title: Our shop}", "[1, 2]", ["shop-2026", "list"]),
        ("shop-2026:", "amazon18-art:", ["amazon18-art is taken"]),
        ("shop-2026:", "Shop 2026:", ["small letters"]),
        ("title: Our shop", "title: x, publisher: y", ["unknown key 'publisher'"]),
        ("citation: The shop, 2026.", "citation: ''", ["citation missing"]),
        ("datasets:", "sets:", ["needs 'datasets'"]),
        ("page: https", "page: !!python/object/apply:os.system ['true'] #", ["not valid YAML"]),
        ("{name: things.jsonl}", "{name: things.jsonl, checksum: 'md5:1'}", ["checksum 'md5:1'"]),
    ],
)
def test_what_an_own_file_cannot_say(tmp_path: Path, old: str, new: str, parts: list[str]) -> None:
    assert old in OWN
    path = tmp_path / "mine.yaml"
    path.write_text(OWN.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        registry(path)
    assert "mine.yaml" in str(caught.value) and "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_unknown_names_have_a_hint() -> None:
    with pytest.raises(InputError, match="did you mean 'amazon18-art'"):
        load_dataset("amazon18-arts")
    with pytest.raises(InputError, match="did you mean 'toyshop'"):
        load_dataset("toyshp")
    with pytest.raises(InputError, match=r"no such registry"):
        registry(Path("nowhere.yaml"))
