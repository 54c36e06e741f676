"""Build a report: read the store, draw and write every figure and table, then the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from bench.frames.pricing import NO_PRICE, Pricing
from bench.store.cell import Record
from bench.store.store import Store
from illmrec.errors import InputError
from reports.claims.claims import claims_exhibit
from reports.claims.summary import summary_table
from reports.drawing.deferred import FORMATS, Drawer
from reports.exhibits.dataset_statistics import table4
from reports.exhibits.exhibit import Exhibit, Shown
from reports.exhibits.page_order import engine_exhibits, section_exhibits
from reports.page.output import Output
from reports.page.page import Picture, Shelf, picture, render_page
from reports.sections.results import read_sections, read_store, whole_store
from reports.sections.section import Section
from reports.wording.tables import Table

DEFAULT_OUT = Path("reports/out")
PAGE = "index.html"
TABLE_FILES = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report shows, before any file is written.

    Attributes:
        summary: One row for each data set and LLM.
        shelves: The sections of the page, each put together when it is its turn.
        datasets: Statistics of the data sets; no rows where nothing was trained or timed on any.
        records: All cells of the store.
        command: The command that builds it.
        pricing: What an hour of the machine costs.
    """

    summary: Table
    shelves: Iterable[Shelf]
    datasets: Table
    records: Sequence[Record]
    command: str
    pricing: Pricing = NO_PRICE


def build_report(out: Path, formats: Sequence[str] = FORMATS, *, pricing: Pricing = NO_PRICE) -> Path:
    """Write all figures, tables and the page of a store, and return the page's path.

    Args:
        out: The output folder with the store in it; everything is written beside the store.
        formats: File formats of the figures: ``png``, ``pdf``, ``svg``. The page embeds PNG in any case.
        pricing: What an hour of the machine costs.

    Raises:
        InputError: If the store has nothing to show, a cell cannot be read or the folder cannot be written.
    """
    store = Store(out)
    where = () if out == DEFAULT_OUT else ("--out", str(out))
    command = shlex.join(["python", "-m", "reports", *where, *pricing.options()])
    report = read_report(store, read_store(store), command, pricing)
    output = Output(out)
    write_report(report, output, formats=formats, table_files=TABLE_FILES)
    output.finish()
    return out / PAGE


def read_report(store: Store, records: Sequence[Record], command: str, pricing: Pricing = NO_PRICE) -> Report:
    """Arrange the cells of a store for readers.

    Args:
        store: The store, for ranks, timings and distributions.
        records: Its cells.
        command: The command that builds the report.
        pricing: What an hour of the machine costs.

    Raises:
        InputError: If there is nothing to show.
    """
    sections = read_sections(records, store, pricing)
    engine = engine_exhibits(sections[0] if sections else whole_store(records, store, pricing))
    if not sections and not any(isinstance(item, Exhibit) for item in engine):
        where = "" if store.out == DEFAULT_OUT else f" --out {shlex.quote(str(store.out))}"
        raise InputError(
            f"no results in {store.out / 'store'}: fill it with `python -m bench.efficiency{where}` and"
            f" `python -m bench.ablation --rows a-e{where}`, or name another folder with --out"
        )
    return Report(
        summary=summary_table(sections),
        shelves=_shelves(sections, engine),
        datasets=table4(sections),
        records=records,
        command=command,
        pricing=pricing,
    )


def _shelves(sections: Sequence[Section], engine: Sequence[Shown]) -> Iterator[Shelf]:
    for section in sections:
        yield Shelf(
            anchor=f"section{section.suffix}",
            title=section.title,
            heading=section.label,
            llm=section.llm,
            fingerprint=section.fingerprint,
            # What was measured, then what it says of the paper.
            shown=[*section_exhibits(section), claims_exhibit(section)],
        )
    yield Shelf(anchor="engine", title="Engine", heading="Engine", shown=engine)


def write_report(
    report: Report, output: Output, *, formats: Sequence[str], table_files: Mapping[str, str]
) -> None:
    """Write figures, tables and page.

    Args:
        report: What is shown.
        output: Where it goes.
        formats: File formats of the figures.
        table_files: Endings of the tables' files, of ``TABLE_FILES``, and what the page calls them.
    """
    shelves: list[Shelf] = []
    tables: list[Table] = []
    with Figures(output, formats) as figures:
        for shelf in report.shelves:
            shelves.append(shelf)
            for exhibit in shelf.exhibits:
                figures.add(exhibit)
                tables += exhibit.tables
        for table in (*tables, *(table for table in (report.summary, report.datasets) if table.rows)):
            contents = {"csv": table.csv, "md": table.markdown, "tex": table.latex}
            for ending in table_files:
                output.write(f"tables/{table.name}.{ending}", contents[ending]())
        pictures = figures.pictures()
    page = render_page(
        summary=report.summary,
        shelves=shelves,
        pictures=pictures,
        datasets=report.datasets,
        records=report.records,
        command=report.command,
        pricing=report.pricing,
        table_files=table_files,
    )
    output.write(PAGE, page)


class Figures:
    """The figures of a report: kept where the files of the last one are still right, else drawn.

    Args:
        output: Where they go.
        formats: Their file formats.
    """

    def __init__(self, output: Output, formats: Sequence[str]) -> None:
        self.output = output
        self.formats = formats
        self._drawer = Drawer(("png", *(form for form in formats if form != "png")))
        self._digests: dict[str, str] = {}
        self._pictures: dict[str, Picture] = {}

    def __enter__(self) -> Figures:
        return self

    def __exit__(self, *error: object) -> None:
        self._drawer.__exit__(*error)

    def add(self, exhibit: Exhibit) -> None:
        """Keep the figure of an exhibit, or start to draw it; an exhibit may have none."""
        if exhibit.figure is None:
            return
        digest = exhibit.figure.digest
        kept = {form: self.output.kept(path, digest) for form, path in self._paths(exhibit.name).items()}
        png = kept.get("png")
        if png is None or None in kept.values():
            self._digests[exhibit.name] = digest
            self._drawer.start(exhibit.name, exhibit.figure)
        else:
            self._pictures[exhibit.name] = picture(png, self._paths(exhibit.name))

    def pictures(self) -> dict[str, Picture]:
        """Wait for all figures, write their files and return them for the page by name of the exhibit."""
        drawn = self._drawer.finished()
        for name, files in tqdm(drawn, total=len(self._drawer), desc="figures", unit="", disable=None):
            for form, path in self._paths(name).items():
                self.output.write(path, files[form], made_from=self._digests[name])
            self._pictures[name] = picture(files["png"], self._paths(name))
        return self._pictures

    def _paths(self, name: str) -> dict[str, str]:
        return {form: f"figures/{name}.{form}" for form in self.formats}
