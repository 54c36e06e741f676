"""Build a report: read the store, draw and write every figure and table, then the page."""

from __future__ import annotations

import io
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from tqdm import tqdm

from bench.store import Store
from illmrec.errors import InputError
from reports.claims import claims_exhibit
from reports.exhibits import Exhibit, section_exhibits
from reports.figures import style
from reports.methods import method_styles
from reports.output import Output
from reports.page import Picture, Shelf, render_page
from reports.paired import Ranks
from reports.result_tables import table4
from reports.results import read_sections, read_store, section_suffixes
from reports.sweeps import sweep_exhibits
from reports.tables import Table

DEFAULT_OUT = Path("reports/out")
FORMATS = ("png", "pdf", "svg")
PAGE = "index.html"

logger = logging.getLogger(__name__)

# Without dates and version strings the same store gives the same bytes.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
}


def build_report(out: Path, formats: Sequence[str] = FORMATS) -> Path:
    """Write all figures, tables and the page of a store, and return the page's path.

    Args:
        out: The output folder with the store in it; everything is written beside the store.
        formats: File formats of the figures: ``png``, ``pdf``, ``svg``. The page embeds PNG in any case.

    Raises:
        InputError: If the store has nothing to show, a cell cannot be read or the folder cannot be written.
    """
    store = Store(out)
    records = read_store(store)
    sections = read_sections(records)
    if not sections:
        where = "" if out == DEFAULT_OUT else f" --out {shlex.quote(str(out))}"
        raise InputError(
            f"no results in {out / 'store'}: fill it with `python -m bench.efficiency{where}` and"
            f" `python -m bench.ablation --rows a-e{where}`, or name another folder with --out"
        )
    styles = method_styles(record.method for record in records)
    suffixes = section_suffixes(sections)
    ranks = Ranks(store)
    shelves = [
        Shelf(
            anchor=f"section{suffix}",
            section=section,
            shown=[
                claims_exhibit(section, records, styles, suffix, ranks),
                *section_exhibits(section, styles, suffix, ranks),
                *sweep_exhibits(section, records, styles, suffix, store),
            ],
        )
        for section, suffix in zip(sections, suffixes, strict=True)
    ]
    output = Output(out)
    pictures: dict[str, Picture] = {}
    exhibits = [exhibit for shelf in shelves for exhibit in shelf.exhibits]
    for exhibit in tqdm(exhibits, desc="figures and tables", unit="", disable=None):
        for table in exhibit.tables:
            _write_table(output, table)
        if exhibit.figure is not None:
            pictures[exhibit.name] = _write_figure(output, exhibit, exhibit.figure, formats)
    datasets = table4(sections)
    _write_table(output, datasets)
    page = render_page(
        shelves=shelves,
        pictures=pictures,
        datasets=datasets,
        records=records,
        command="python -m reports" + ("" if out == DEFAULT_OUT else f" --out {shlex.quote(str(out))}"),
    )
    output.write(PAGE, page)
    output.finish()
    return out / PAGE


def _write_table(output: Output, table: Table) -> None:
    for ending, content in (("csv", table.csv()), ("md", table.markdown()), ("tex", table.latex())):
        output.write(f"tables/{table.name}.{ending}", content)


def _write_figure(output: Output, exhibit: Exhibit, figure: Figure, formats: Sequence[str]) -> Picture:
    files: dict[str, str] = {}
    drawn = _drawn(figure, ("png", *(form for form in formats if form != "png")))
    for form in formats:
        path = f"figures/{exhibit.name}.{form}"
        output.write(path, drawn[form])
        files[form.upper()] = path
    png = drawn["png"]
    # Width and height stand at fixed places of a PNG's header; the page needs them to lay itself out at once.
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    return Picture(png=png, width=width, height=height, files=files)


def _drawn(figure: Figure, formats: Sequence[str]) -> dict[str, bytes]:
    """Return a figure's file in each format; it is laid out and measured once for all of them."""
    drawn = {}
    with style():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
        for form in formats:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=form, bbox_inches=box, metadata=_METADATA[form])
            drawn[form] = buffer.getvalue()
    return drawn
