"""The accuracy tables of a gallery, computed again from its ranks: ``python -m reports.recompute FOLDER``.

Nothing of the toolkit is used but ``reports.from_ranks``, whose metrics are those of ir-measures and whose statistics
are scipy's, and ``reports.later_days``, which uses these.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from pyarrow.parquet import ParquetFile
from scipy import stats

from reports.from_ranks import MANY, METRICS, RESAMPLES, Sample, UnusableError, difference, metrics_of, sample
from reports.later_days import compare_days

CANDIDATES = ("sampled", "full")
_GROWN, _GROWN_BYTES = 100, 1 << 28
"""As illmrec.parquet_files has them, of which nothing is imported here: nothing is compared with itself."""
COMPARED = "ndcg@10"
CONTROL = "no-llm"
CLAIMS = {
    "over-attributes": ("illmrec", "tallrec"),
    "no-less-than-description": ("illmrec", "trsr"),
    "descriptions-add-nothing": ("illmrec+", "illmrec"),
    "descriptions-over-attributes": ("trsr", "tallrec"),
    "summaries-lose": ("full-description", "trsr"),
}
"""The claims that compare two methods of the comparison, with these methods."""

EXACT = 1e-9
"""How far a mean, a difference, or a standard error that is not resampled may be off."""
SPREAD = 0.1
"""By what share a standard error that was found by resampling may be off, and what follows from it."""
TAILS = {95: 0.02, 90: 0.03}
"""By what share of all resamples the end of an interval may be off. The tail of a 95 % interval has 2.5 % of them, and
with the page's 999 or more that is 2.5 ± 0.5 by chance; these are four such deviations."""
FOUND = 0.015
"""How far from four in five a simulated share may be: five standard errors of 20,000 experiments."""
STUDENT = "student"
"""What the manifest says of intervals that are as wide as Student's t has them; older ones are not."""
SHOWN = 10

DESCRIPTION = """\
Compute the accuracy tables of galleries again from the ranks beside them, without the toolkit.

A gallery's ranks.parquet has one row per method, seed and user with the rank of the user's test item, or one row for
each of several. From these, ir-measures computes Hit@k (its Success@k), NDCG@k and MRR (its RR), and scipy standard
errors over users, each of whom counts once. They are compared with:

  accuracy*.csv, table1*.csv   every mean, standard error and number of seeds and users, to 1e-9
  headline*.csv                means and differences to 1e-9, ends of intervals
  multi_day*.csv               the same by the day of the target, where the ranks say it
  claims*.csv                  of claims that compare two methods: the difference to 1e-9, ends of its interval, p

Intervals come from resampling training runs and users, so that their ends depend on chance, and are then as wide as
Student's t has them of so few runs. Both are resampled anew, and with the widening by t taken back about as many
resamples as an interval leaves out must lie beyond each end: 2.5 ± 2 % at 95 %, 5 ± 3 % at 90 %. One that is farther
off is judged again by twenty times as many. p values follow from mean squares, by 10 % of the deviate; smallest
differences are looked for in 20,000 simulated experiments.

One line per table says how many values were compared and how many differ; the first ten of those follow. Costs and
trainings do not follow from ranks and are not looked at. It needs pandas, pyarrow, scipy and ir-measures."""

EPILOG = """\
exit status: 0 if every value agrees, 1 if one does not, 2 if a folder has no ranks or cannot be read

example: python -m reports.recompute gallery/mine"""

Methods = Mapping[str, Sequence[str]]
"""The cells of each method that a table shows, one per seed."""


@dataclass(kw_only=True)
class Check:
    """The comparison of one file with the ranks.

    Attributes:
        name: The file.
        compared: How many values were compared.
        mismatches: A line for each that differs.
        notes: What was not compared, and why.
    """

    name: str
    compared: int = 0
    mismatches: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = f"{self.name}: {self.compared} values compared, {len(self.mismatches)} mismatches"
        return "; ".join([said, *self.notes])

    def holds(self, holds: bool, *, where: str, otherwise: str) -> None:
        """Count one value, and keep a line on it if it does not hold."""
        self.compared += 1
        if not holds:
            self.mismatches.append(f"{self.name}: {where}: {otherwise}")

    def number(self, found: Any, expected: float, *, where: str, share: float = 0.0) -> None:
        """Compare one number.

        Args:
            found: What the file has.
            expected: What follows from the ranks.
            where: Row and column.
            share: By what share of it the number may be off, besides ``EXACT``.
        """
        there = _number(found)
        equal = math.isclose(there, expected, rel_tol=share, abs_tol=EXACT)
        equal |= math.isnan(there) and math.isnan(expected)
        self.holds(equal, where=where, otherwise=f"{found} in the file, {expected} from the ranks")

    def ends(
        self, row: Mapping[str, Any], values: Sample, *, columns: Sequence[str], where: str, **how: Any
    ) -> None:
        """Check that as many resamples lie beyond the low and the high end of an interval as should.

        Args:
            row: The row of the file.
            values: What follows from the ranks.
            columns: Low and high end.
            where: The row.
            how: Confidence of the interval in ``percent``, and the ``scale`` of the columns.
        """
        percent, scale = how.get("percent", 95), how.get("scale", 1.0)
        tail = (1 - percent / 100) / 2
        if not values.complete:
            self.notes.append(f"ends of {where} left out: not every run has every user")
            return
        widening = values.widening(2 * tail)
        for column, low in zip(columns, (True, False), strict=True):
            end = values.mean + (_number(row.get(column)) / scale - values.mean) / widening
            # Of thousands of ends, a few are far off by chance of this very check: those are judged by many resamples.
            for resamples in (RESAMPLES, MANY):
                fewest, most = values.beyond(end, low=low, tolerance=EXACT, resamples=resamples)
                holds = fewest - TAILS[percent] <= tail <= most + TAILS[percent]
                if holds:
                    break
            otherwise = f"{fewest:.1%} of the resamples lie beyond {row.get(column)}, not {tail:.1%}"
            self.holds(holds, where=f"{where}, {column}", otherwise=otherwise)

    def p_value(self, found: Any, values: Sample, *, where: str) -> None:
        """Check a two-sided p value by the standard normal deviate that it stands for."""
        if not values.complete:
            self.notes.append(f"{where} left out: not every run has every user")
            return
        expected = values.p_value()
        # Beyond 37 deviations a p value is 0.
        deviates = (min(float(stats.norm.isf(p / 2)), 30.0) for p in (_number(found), expected))
        holds = math.isclose(*deviates, rel_tol=SPREAD, abs_tol=0.02)
        self.holds(holds, where=where, otherwise=f"{found} in the file, {expected:.3g} from the ranks")


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """A gallery's folder with what its manifest says of the ranks, and the ranks."""

    folder: Path
    facts: dict[str, Any]
    ranks: pd.DataFrame

    @cached_property
    def cells(self) -> dict[str, pd.DataFrame]:
        """The rows of each cell, indexed by user."""
        return {str(key): rows.set_index("user") for key, rows in self.ranks.groupby("cell", sort=False)}

    @cached_property
    def _metrics(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {}

    def metrics(self, cell: str, candidates: str) -> pd.DataFrame:
        """Return every metric of each user of a cell: the mean over the user's targets where there are several."""
        if (cell, candidates) not in self._metrics:
            found = metrics_of(self.cells[cell][f"rank_{candidates}"])
            self._metrics[cell, candidates] = found.groupby(level="user", sort=False).mean()
        return self._metrics[cell, candidates]

    def runs(self, cells: Sequence[str], candidates: str) -> dict[int, pd.Series]:
        """Return NDCG@10 of each user by seed, of those cells of a method that have ranks."""
        there = [cell for cell in cells if cell in self.cells]
        return {int(self.cells[c]["seed"].iloc[0]): self.metrics(c, candidates)[COMPARED] for c in there}

    @cached_property
    def _samples(self) -> dict[tuple[tuple[str, ...], ...], Sample | None]:
        return {}

    def sample(self, candidates: str, *methods: Sequence[str]) -> Sample | None:
        """Return the values of a method, or the difference of two, resampled once for all tables that show them.

        Args:
            candidates: ``sampled`` or ``full``.
            methods: The cells of each.
        """
        key = ((candidates,), *map(tuple, methods))
        if key not in self._samples:
            runs = [self.runs(cells, candidates) for cells in methods]
            made, student = sample if len(runs) == 1 else difference, self.facts.get("intervals") == STUDENT
            self._samples[key] = made(*runs, student=student)
        return self._samples[key]

    def table(self, name: str) -> tuple[Check, list[dict[str, Any]]]:
        """Return what is to be found out of a table, and its rows; none where the gallery has no such table."""
        path = self.folder / "tables" / f"{name}.csv"
        check = Check(name=f"{self.folder.name}/tables/{name}.csv")
        if not path.is_file():
            return check, []
        rows: list[dict[str, Any]] = pd.read_csv(path).to_dict("records")
        return check, rows


def recompute(folder: Path) -> list[Check]:
    """Compare a gallery's tables with its ranks.

    Raises:
        UnusableError: If the folder has no ranks, or something cannot be read.
    """
    path = folder / "ranks.parquet"
    if not path.is_file():
        raise UnusableError(f"{folder} has no ranks.parquet: no gallery, or made before galleries had one")
    try:
        facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["ranks"]
        with ParquetFile(path) as ranks:
            if 8 * ranks.metadata.num_rows * ranks.metadata.num_columns > max(
                _GROWN_BYTES, _GROWN * path.stat().st_size
            ):
                raise ValueError(f"{path.name} claims more rows than such a file holds")
        gallery = Gallery(folder=folder, facts=facts, ranks=pd.read_parquet(path))
        file = Check(name=f"{folder.name}/{path.name}")
        file.number(facts["rows"], len(gallery.ranks), where="rows, in the manifest")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        file.holds(
            facts["sha256"] == digest, where="SHA-256", otherwise=f"{digest}, not that of the manifest"
        )
        checks = [file]
        for table, methods in facts["tables"].items():
            ending = table.removeprefix("accuracy")
            checks.append(_means(gallery, methods, name=f"accuracy{ending}", kinds=CANDIDATES))
            checks.append(_means(gallery, methods, name=f"table1{ending}", kinds=("sampled",)))
            checks.append(_means(gallery, methods, name=f"table1_full{ending}", kinds=("full",)))
            checks.append(_headline(gallery, methods, name=f"headline{ending}"))
            checks.append(_claims(gallery, methods, name=f"claims{ending}"))
            check, rows = gallery.table(f"multi_day{ending}")
            compare_days(check, rows, gallery, methods, control=CONTROL, candidates=CANDIDATES)
            checks.append(check)
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError,
        pyarrow.ArrowException,
    ) as error:  # fmt: skip
        raise UnusableError(f"{folder}: cannot read manifest, ranks or tables: {error!r}") from error
    return [check for check in checks if check.compared or check.notes]


def _means(gallery: Gallery, methods: Methods, *, name: str, kinds: Sequence[str]) -> Check:
    """Compare means and standard errors, of one row per method, candidates and metric."""
    check, table = gallery.table(name)
    rows = {(row["method"], row["candidates"], row["metric"]): row for row in table}
    for method, cells in methods.items():
        if not all(cell in gallery.cells for cell in cells):
            check.notes.append(f"{method} left out: not all of its cells have ranks")
            continue
        for kind in kinds:
            found = [gallery.metrics(cell, kind) for cell in cells]
            for metric in METRICS:
                where = f"{method}, {kind}, {metric}"
                row = rows.get((method, kind, metric), {})
                means = [float(values[metric].mean()) for values in found]
                over = means if len(found) > 1 else found[0][metric].to_numpy()
                check.number(row.get("mean"), float(np.mean(means)), where=f"{where}, mean")
                error = float(stats.sem(over)) if len(over) > 1 else math.nan
                check.number(row.get("stderr"), error, where=f"{where}, stderr")
                check.number(row.get("seeds"), len(cells), where=f"{where}, seeds")
                check.number(row.get("users"), len(found[-1]), where=f"{where}, users")
    for method in dict.fromkeys(row["method"] for row in table):
        if method not in methods:
            check.holds(False, where=str(method), otherwise="the manifest names no cells of it")
    best = [row for row in table if row["metric"] == COMPARED and not math.isnan(_number(row["mean"]))]
    best.sort(key=lambda row: -_number(row["mean"]))
    if len(best) > 1 and "p_against_second" in best[0]:
        both = gallery.sample(best[0]["candidates"], *(methods.get(row["method"], ()) for row in best[:2]))
        p = best[0]["p_against_second"]
        # Of one training run or two the page gives none.
        if both is not None and (len(both.values) > 2 or not math.isnan(_number(p))):
            check.p_value(p, both, where=f"{best[0]['method']}, {COMPARED}, p_against_second")
    return check


def _headline(gallery: Gallery, methods: Methods, *, name: str) -> Check:
    """Compare mean NDCG@10 with its interval, and the difference to the control without an LLM."""
    check, table = gallery.table(name)
    for row in table:
        cells = methods.get(row["method"], ())
        values = {kind: gallery.sample(kind, cells) for kind in CANDIDATES}
        if CONTROL in methods and row["method"] != CONTROL:
            values["less_no_llm"] = gallery.sample("full", cells, methods[CONTROL])
        for column, found in values.items():
            if found is not None:
                check.number(row.get(column), found.mean, where=f"{row['method']}, {column}")
                ends = (f"{column}_low", f"{column}_high")
                check.ends(row, found, columns=ends, where=str(row["method"]))
    return check


def _claims(gallery: Gallery, methods: Methods, *, name: str) -> Check:
    """Compare differences of two methods with their intervals and p values."""
    check, table = gallery.table(name)
    others: dict[str, None] = {}
    for row in table:
        claim, kind = row["claim"], row.get("candidates")
        if math.isnan(_number(row["estimate"])):
            continue
        both = None
        if claim in CLAIMS and kind in CANDIDATES:
            both = gallery.sample(kind, *(methods.get(method, ()) for method in CLAIMS[claim]))
        if both is None:
            others[claim] = None
            continue
        where = f"{claim}, {kind}"
        scale = 100 / both.base if row["unit"] == "%" and both.base else 1.0
        said = re.search(r"(\d+) % interval", row["holds_if"])
        percent = int(said[1]) if said else 95
        check.number(_number(row["estimate"]) / scale, both.mean, where=f"{where}, estimate")
        check.number(row["seeds"], len(both.values), where=f"{where}, seeds")
        check.number(row["users"], both.values.shape[1], where=f"{where}, users")
        check.ends(row, both, columns=("low", "high"), where=where, percent=percent, scale=scale)
        check.p_value(row["p_value"], both, where=f"{where}, p_value")
        _detectable(check, row["detectable"], both, where=f"{where}, detectable")
    if others:
        check.notes.append(f"{len(others)} claims left out: they compare no two methods by these ranks")
    return check


def _detectable(check: Check, found: Any, values: Sample, *, where: str) -> None:
    """Check the smallest true difference that a two-sided test at 5 % finds four times in five."""
    if not values.student:
        detectable = float(stats.norm.isf(0.025) + stats.norm.isf(0.2)) * values.stderr
        check.number(found, detectable, where=where, share=SPREAD)
    elif values.complete:
        power = values.found(_number(found))
        there = math.isclose(power, 0.8, abs_tol=FOUND) or not any(values.variances)
        check.holds(there, where=where, otherwise=f"{found} is found {power:.1%} of the time")


def _number(text: Any) -> float:
    """Return what a file has as a number; NaN where it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the folders that are named, print what was found and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.recompute",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a gallery with ranks.parquet"
    )
    mismatches: list[str] = []
    try:
        for folder in parser.parse_args(arguments).folders:
            for check in recompute(folder):
                print(check)
                mismatches += check.mismatches
    except UnusableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in mismatches[:SHOWN]:
        print(f"  {line}")
    if len(mismatches) > SHOWN:
        print(f"  and {len(mismatches) - SHOWN} more")
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
