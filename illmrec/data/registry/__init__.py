"""Published data sets as data: where their files come from, what is in them and what should come out.

Each YAML file of this folder describes the data sets of one publisher; a user's own file in the same form adds more.
What is said at the top of a file holds for all of its data sets, and each of them may say otherwise.
"""

from __future__ import annotations

import codecs
import os
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from illmrec.errors import InputError, nearest
from illmrec.files import is_folder
from illmrec.yaml_files import read_yaml

FOLDER = Path(__file__).parent
VARIABLE = "ILLMREC_REGISTRY"
"""Environment variable with a user's own registry: a YAML file, or a folder of them."""

RULES = ("title", "image-url", "description", "image")
"""What items may have to have: a title, a picture's address, a description, a picture that can be read."""

FORMATS = ("json-lines", "delimited")
TEXTS = ("title", "brand", "category", "description")
ROLES = ("archive", "interactions", "items", "pictures")

_SHARED = {
    "family", "page", "version", "licence", "licence_note", "citation", "published_source", "files", "interactions",
    "items", "pictures", "id_case", "require", "differences",
}  # fmt: skip
_OWN = (_SHARED - {"family"}) | {"title", "category", "item_prefix", "published", "paper"}
_PLACE = {"name", "url", "bytes", "checksum", "how", "member"}
_KINDS: Mapping[type, str] = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null", list: "a list",
    dict: "keys with values",
}  # fmt: skip
_COLUMNS = ("user_id", "item_id", "timestamp", *TEXTS)
_LAYOUT = {
    "format", "columns", "time", "separator", "encoding", "names", "images", "low_images", "no_image", "picture_name",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of the publisher.

    Attributes:
        name: Its name, as it is looked for on disk.
        url: Where it is, or None where it cannot be fetched by a program.
        bytes: Its size where one is published.
        checksum: ``md5:...`` or ``sha256:...``, an address that holds an MD5 sum, or None where none was found.
        how: What a person has to do where there is no ``url``.
        member: Its path in the archive, where it comes in one.
    """

    name: str
    url: str | None = None
    bytes: int | None = None
    checksum: str | None = None
    how: str = ""
    member: str | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a file is read.

    Attributes:
        format: ``json-lines`` or ``delimited``.
        columns: Our column: the publisher's, or several of which the first that is there counts (texts of a delimited
            file: all of them, joined). A path such as ``images.*.large`` goes into objects and lists.
        time: Unit of the times: ``s``, ``ms``, a format such as ``%Y-%m-%d``, or ``row``, the order of the lines.
        separator: Of a delimited file.
        encoding: Of the text.
        names: The columns of a delimited file whose first line may not name them.
        images: Where addresses of pictures stand, the best first.
        low_images: Where addresses of smaller pictures of the same items stand.
        no_image: Parts of addresses that stand for no picture.
        picture_name: Column with the name of the item's picture file, where that is not the item's id.
    """

    format: str
    columns: Mapping[str, tuple[str, ...]]
    time: str = "s"
    separator: str = ","
    encoding: str = "utf-8"
    names: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    low_images: tuple[str, ...] = ()
    no_image: tuple[str, ...] = ()
    picture_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published data set.

    Attributes:
        name: What users call it.
        title: What it is, in words.
        family: Its publisher's data sets.
        page: The publisher's page.
        version: Which version of it.
        licence: Its licence, or None where none was found.
        licence_note: What is known about that.
        citation: What to cite.
        files: The files by role, of :data:`ROLES`.
        interactions: How the file with interactions is read.
        items: How the file with items is read.
        pictures: Name of the folder or zip file with pictures that comes with it, or None.
        id_case: ``upper`` where ids that differ in case are one item.
        item_prefix: Characters of an item's id that count, or None for all.
        require: Rules of :data:`RULES` that items have to keep.
        published: The publisher's own counts of users, items and interactions; rounded ones as text (``632.0K``).
        published_source: Where these stand.
        paper: The row of the paper's Table 4, or None where it has none.
        differences: What is known to differ from the paper's preparation, or the publisher's.
    """

    name: str
    title: str
    family: str
    page: str
    version: str
    licence: str | None
    licence_note: str
    citation: str
    files: Mapping[str, SourceFile]
    interactions: Layout
    items: Layout
    pictures: str | None = None
    id_case: str | None = None
    item_prefix: int | None = None
    require: tuple[str, ...] = ()
    published: Mapping[str, int | str] = field(default_factory=dict)
    published_source: str = ""
    paper: Mapping[str, int | float] | None = None
    differences: tuple[str, ...] = ()


def registry(extra: Path | None = None) -> dict[str, Source]:
    """Return all data sets by name: those that ship, then those of ``$ILLMREC_REGISTRY`` and of ``extra``.

    Args:
        extra: A user's own file, or a folder of them.

    Raises:
        InputError: If a file cannot be read, says something unknown, or uses a name again.
    """
    found: dict[str, Source] = {}
    paths = sorted(FOLDER.glob("*.yaml"))
    for own in (os.environ.get(VARIABLE), extra):
        if own:
            paths += _files_of(Path(own).expanduser())
    for path in paths:
        for source in read_registry(path):
            if source.name in found:
                raise InputError(f"{path}: the name {source.name} is taken; choose another")
            found[source.name] = source
    return found


def source_named(name: str, extra: Path | None = None) -> Source:
    """Return a data set by name.

    Raises:
        InputError: If there is none of that name; the message has the nearest.
    """
    known = registry(extra)
    if name not in known:
        raise InputError(f"unknown data set {name!r}: {nearest(name, known)}")
    return known[name]


def read_registry(path: Path) -> list[Source]:
    """Read one registry file.

    Raises:
        InputError: If it cannot be read or says something that is not understood; the message names file and key.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("datasets"), dict):
        raise InputError(f"{path}: needs 'datasets' with a name for each data set")
    shared = {key: value for key, value in content.items() if key != "datasets"}
    _known(shared, _SHARED, where=str(path))
    return [
        _source(name, shared, own or {}, where=f"{path}, {name}") for name, own in content["datasets"].items()
    ]


def count_of(text: int | str) -> tuple[float, float]:
    """Return the bounds of a published count: of ``632.0K`` 631,950 and 632,050, of a whole number itself twice."""
    if isinstance(text, int):
        return text, text
    digits, unit = re.fullmatch(r"([\d.]+)([KMB]?)", text).groups()  # type: ignore[union-attr]
    scale = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}[unit]
    half = 0.5 * 10.0 ** -len(digits.partition(".")[2]) * scale
    return float(digits) * scale - half, float(digits) * scale + half


def _files_of(path: Path) -> list[Path]:
    if is_folder(path):
        return sorted(path.glob("*.yaml"))
    if path.is_file():
        return [path]
    raise InputError(f"{path}: no such registry; give a YAML file or a folder of them")


def _known(values: object, known: Iterable[str], *, where: str) -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: give keys such as {next(iter(sorted(known)))}, not {_named(values)}")
    unknown = [str(key) for key in values if key not in set(known)]
    if unknown:
        raise InputError(f"{where}: unknown key '{unknown[0]}': {nearest(unknown[0], known)}")


def _source(name: str, shared: Mapping[str, Any], own: Mapping[str, Any], *, where: str) -> Source:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", str(name)):
        raise InputError(f"{where}: a name has small letters, digits, '-' and '.', nothing else")
    _known(own, _OWN, where=where)
    merged: dict[str, Any] = {**shared, **own}
    merged["files"] = _merged_files(shared.get("files") or {}, own.get("files") or {}, where=where)
    filled = _filled(merged, {"category": str(own.get("category", "")), "name": name})
    needed = [
        key for key in ("title", "page", "citation", "files", "interactions", "items") if not filled.get(key)
    ]
    if needed:
        raise InputError(f"{where}: {', '.join(needed)} missing")
    require = _words(filled.get("require"))
    for rule in require:
        if rule not in RULES:
            raise InputError(f"{where}: unknown rule '{rule}' in require: {nearest(str(rule), RULES)}")
    paper = filled.get("paper")
    if paper is not None:
        _known(paper, ("users", "items", "interactions", "avg_length"), where=f"{where}, paper")
        for of, count in paper.items():
            _check(count, int | float, where=f"{where}, paper, {of}")
    published = filled.get("published") or {}
    _known(published, ("users", "items", "interactions"), where=f"{where}, published")
    for count in published.values():
        if type(count) is not int and not re.fullmatch(r"[0-9]+(\.[0-9]+)?[KMB]?", str(count)):
            raise InputError(
                f"{where}: published count {count!r}: give a number, or one rounded as in 632.0K"
            )
    _known(filled["files"], ROLES, where=f"{where}, files")
    given = {
        "version": str(filled.get("version", "")),
        "family": str(filled.get("family", "own")),
        **{name: filled.get(name) or "" for name in ("licence_note", "published_source")},
        **{
            name: filled.get(name)
            for name in ("title", "page", "citation", "licence", "pictures", "item_prefix")
        },
    }
    _check_types(Source, given, where=where)
    if (prefix := given["item_prefix"]) is not None and prefix < 1:
        raise InputError(f"{where}: item_prefix {prefix}: give 1 or more, or null")
    if filled.get("id_case") not in (None, "upper"):
        raise InputError(f"{where}: id_case {filled['id_case']!r}: give upper, or null")
    return Source(
        name=name,
        title=filled["title"],
        family=given["family"],
        page=filled["page"],
        version=given["version"],
        licence=filled.get("licence"),
        licence_note=given["licence_note"],
        citation=filled["citation"],
        files={role: _file(entry, where=f"{where}, {role}") for role, entry in filled["files"].items()},
        interactions=_layout(filled["interactions"], ("user_id", "item_id", "timestamp"), where=where),
        items=_layout(filled["items"], ("item_id", "title"), where=where),
        pictures=filled.get("pictures"),
        id_case=filled.get("id_case"),
        item_prefix=filled.get("item_prefix"),
        require=require,
        published=published,
        published_source=given["published_source"],
        paper=paper,
        differences=_words(filled.get("differences")),
    )


def _merged_files(
    shared: Mapping[str, Any], own: Mapping[str, Any], *, where: str
) -> dict[str, dict[str, Any]]:
    for part in (shared, own):
        _known(part, ROLES, where=f"{where}, files")
        for role, entry in part.items():
            _known(entry or {}, _PLACE, where=f"{where}, {role}")
    roles = {**shared, **own}
    merged = {role: {**(shared.get(role) or {}), **(own.get(role) or {})} for role in roles}
    for role in ("interactions", "items"):
        if "name" not in merged.get(role, {}):
            raise InputError(f"{where}: files need a name for {role}")
    return merged


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """Return a value with ``{category}`` and ``{name}`` filled in, wherever they stand."""
    if isinstance(value, str):
        return re.sub(r"\{(category|name)\}", lambda found: words[found[1]], value)
    if isinstance(value, Mapping):
        return {key: _filled(inner, words) for key, inner in value.items()}
    return [_filled(inner, words) for inner in value] if isinstance(value, list) else value


def _file(entry: Mapping[str, Any], *, where: str) -> SourceFile:
    _known(entry, _PLACE, where=where)
    _check_types(SourceFile, entry, where=where)
    url, checksum = entry.get("url"), entry.get("checksum")
    if url is not None and not str(url).startswith("https://"):
        raise InputError(f"{where}: url {url!r}: give one that begins with https://")
    if checksum is not None and not re.fullmatch(
        r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|https://.+", str(checksum)
    ):
        raise InputError(
            f"{where}: checksum {checksum!r}: give md5:..., sha256:..., the address of an MD5 sum, or null"
        )
    if entry["name"] in ("", ".", "..") or re.search(r"[/\\\0]", entry["name"]):
        raise InputError(f"{where}: name {entry['name']!r}: give a file's name, no path")
    return SourceFile(**entry)


def _layout(entry: Mapping[str, Any], required: tuple[str, ...], *, where: str) -> Layout:
    _known(entry, _LAYOUT, where=where)
    if entry.get("format") not in FORMATS:
        raise InputError(f"{where}: format {entry.get('format')!r}: give {' or '.join(FORMATS)}")
    _known(entry.get("columns", {}), _COLUMNS, where=f"{where}, columns")
    columns = {name: _words(named) for name, named in entry.get("columns", {}).items()}
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(f"{where}: columns lack {', '.join(missing)}")
    several: dict[str, Any] = {
        name: _words(entry.get(name)) for name in ("names", "images", "low_images", "no_image")
    }
    plain = {name: entry[name] for name in ("time", "separator", "encoding", "picture_name") if name in entry}
    _check_types(Layout, plain, where=where)
    if not plain.get("separator", ","):
        raise InputError(f"{where}: separator is empty: give one, such as ','")
    if not _is_encoding(plain.get("encoding", "utf-8")):
        raise InputError(
            f"{where}: encoding {plain['encoding']!r}: give one that Python knows, such as utf-8"
        )
    return Layout(format=entry["format"], columns=columns, **plain, **several)


def _is_encoding(name: str) -> bool:
    try:
        return bool("text".encode(codecs.lookup(name).name))
    except (LookupError, ValueError, TypeError):  # TypeError: bytes to bytes, such as hex
        return False


def _check_types(kind: type, values: Mapping[str, Any], *, where: str) -> None:
    """Check that plain values fit the fields of a dataclass: texts, whole numbers, nothing."""
    hints = typing.get_type_hints(kind)
    for name in (one.name for one in fields(kind) if one.name in values):
        _check(values[name], hints[name], where=f"{where}, {name}")


def _check(value: object, hint: Any, *, where: str) -> None:
    kinds = typing.get_args(hint) or (hint,)
    if type(value) not in kinds:
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        raise InputError(f"{where}: give {wanted}, not {_named(value)}")


def _named(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _words(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)
