"""Methods whose scores lie in files: their names, what stands for them in a cell, and their scores, read once."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from baselines.scores_file import GivenScores, content_hash, read_scores
from bench.harness.methods import METHODS
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.errors import InputError
from illmrec.model import processes

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._-]+")


class ScoresFile:
    """A method whose scores were made elsewhere, by the name of the file that holds them.

    Args:
        path: The file.

    Raises:
        InputError: If there is no such file, or its name cannot be that of a method.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"--scores {path}: the file's name is that of the method: letters, digits, '.', '_' and '-'; rename it"
            )
        if self.name.lower() in METHODS:
            raise InputError(
                f"--scores {path}: there is a method {self.name.lower()} already; rename the file"
            )
        self.content = content_hash(path)
        self._scores: GivenScores | None = None

    def read(self, dataset: Dataset, split: Split) -> GivenScores:
        """Return the scores; when they are first asked for, they are read, and what is not used is said.

        Args:
            dataset: The data of the run.
            split: Whose users are tested.

        Raises:
            InputError: If something in the file cannot be used, or it was changed since the run began.
        """
        if self._scores is None:
            if content_hash(self.path) != self.content:
                raise InputError(f"{self.path}: the file was changed since the run began; run again")
            items = dataset.items["item_id"].tolist()
            self._scores = read_scores(self.path, user_ids=dataset.user_ids.tolist(), item_ids=items)
            if processes.is_main():
                _say(self.path, self._scores, split.users("test"))
        return self._scores


def scores_files(paths: Sequence[Path]) -> dict[str, ScoresFile]:
    """Return methods whose scores were made elsewhere, by name.

    Raises:
        InputError: If one cannot be a method, or two have one name.
    """
    found: dict[str, ScoresFile] = {}
    for path in paths:
        file = ScoresFile(path)
        if file.name in found:
            raise InputError(
                f"--scores: {found[file.name].path} and {path} have one name; rename one of them"
            )
        found[file.name] = file
    return found


def _say(path: Path, scores: GivenScores, tested: np.ndarray) -> None:
    said = [f"{len(scores.items):,} scores are read"]
    if scores.ignored:
        said.append(
            f"{scores.ignored:,} rows are ignored (unknown users: {scores.unknown_users:,}, unknown items: "
            f"{scores.unknown_items:,})"
        )
    absent = scores.without_rows(tested)
    if absent:
        said.append(f"{absent:,} of {len(tested):,} tested users have no row: their target is ranked last")
    log = logger.warning if len(said) > 1 else logger.info
    log("%s: %s", path, "; ".join(said))
