"""A data set as RecBole's atomic files: interactions, items, and the split as benchmark files for sequential models."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from illmrec.data.dataset import Dataset
from illmrec.data.exports.tables import candidates, interactions_by_part
from illmrec.data.splits import Part, split_of
from illmrec.errors import InputError
from illmrec.files import atomic_directory, atomic_write_text

_NOTE = """\
# {name} for RecBole

`{name}.inter` has all interactions, `{name}.item` the items. `{name}.train.inter`, `.valid.inter` and `.test.inter` are
the split, for `benchmark_filename: [train, valid, test]` with sequential models: the target is `item_id`, what came
before it `item_id_list`, oldest first, its last {longest} items. Every training item but a user's first is a target.

`timestamp` is the place in the user's sequence, not the time: RecBole keeps it as a 32-bit float, which tells seconds
since 1970 apart by minutes only.

`candidates.valid.csv` and `candidates.test.csv` have the {n} items that each user's target is ranked among beside it
(seed {seed}), item ids joined by blanks; ties count against the target.
"""


def export_recbole(
    dataset: Dataset, out: Path, *, seed: int, n: int, longest: int = 50, cache: Path
) -> list[str]:
    """Write a data set as atomic files and return their names.

    Args:
        dataset: The data set.
        out: Folder that becomes theirs; what was in it is replaced.
        seed: Of the candidates.
        n: Candidates of each user beside the target.
        longest: Items of a history in the benchmark files.
        cache: Folder that holds drawn candidates.

    Raises:
        InputError: If an id holds a blank or a tab, which such files cannot.
    """
    name = dataset.name
    ids = dataset.items["item_id"].tolist()
    _check_ids(dataset.user_ids.tolist(), "user_id")
    _check_ids(ids, "item_id")
    with atomic_directory(out) as folder:
        table = interactions_by_part(dataset)
        rows: Iterable[Sequence[object]] = table[["user_id", "item_id", "place"]].itertuples(index=False)
        _write(folder / f"{name}.inter", ("user_id:token", "item_id:token", "timestamp:float"), rows)
        fields = ("title", "brand", "category")
        columns = ("item_id:token", *(f"{field}:token_seq" for field in fields))
        texts = (
            [_plain(cell) for cell in row]
            for row in dataset.items[["item_id", *fields]].itertuples(index=False)
        )
        _write(folder / f"{name}.item", columns, texts)
        header = ("user_id:token", "item_id_list:token_seq", "item_id:token")
        for part in ("train", "valid", "test"):
            _write(folder / f"{name}.{part}.inter", header, _targets(dataset, part, longest))
        for part in ("valid", "test"):
            found = candidates(dataset, part=part, seed=seed, n=n, cache=cache)  # type: ignore[arg-type]
            found["candidates"] = [" ".join(items) for items in found["candidates"]]
            found.to_csv(folder / f"candidates.{part}.csv", index=False)
        atomic_write_text(folder / "README.md", _NOTE.format(name=name, longest=longest, n=n, seed=seed))
        return sorted(path.name for path in folder.iterdir())


def _targets(dataset: Dataset, part: str, longest: int) -> Iterator[Sequence[str]]:
    """Yield user, history and target of each target of a part."""
    ids = dataset.items["item_id"].to_numpy(dtype=object)
    split = split_of(dataset)
    if part == "train":
        for user in range(dataset.n_users):
            items = ids[split.train(user)]
            for place in range(1, len(items)):
                yield dataset.user_ids[user], " ".join(items[max(0, place - longest) : place]), items[place]
        return
    name: Part = "valid" if part == "valid" else "test"
    users = split.users(name)
    targets = split.targets(name)
    for user in users.tolist():
        history = ids[split.history(user, name)[-longest:]]
        yield dataset.user_ids[user], " ".join(history), ids[targets[user]]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(
            file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar=None, lineterminator="\n"
        )
        writer.writerow(header)
        writer.writerows(rows)


def _plain(cell: object) -> str:
    """Return a text without what separates cells and lines, and without quotes, which a reader may take in."""
    return " ".join(str(cell).replace('"', "'").split())


def _check_ids(ids: Sequence[str], column: str) -> None:
    bad = np.flatnonzero([any(character.isspace() for character in name) or '"' in name for name in ids])
    if len(bad):
        raise InputError(
            f"{column} {ids[int(bad[0])]!r}: atomic files cannot hold ids with blanks or quotes ({len(bad)} such ids)"
        )
