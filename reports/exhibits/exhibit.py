"""What the report shows: figures and tables with what they say, and what is missing for more of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from bench.frames.selection import OURS
from reports.drawing.deferred import Drawing
from reports.sections.file_names import method_suffixes
from reports.sections.methods import MethodStyle
from reports.sections.section import Section
from reports.wording.tables import Table, frame_table


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One figure or table of the report.

    Attributes:
        name: File name without its ending, also its anchor in the page.
        title: Heading.
        reading: One sentence that says what is to be seen.
        paper: What the paper says on the same, with its source; empty where it says nothing.
        notes: What readers must know before they compare numbers.
        commands: What makes it again, or what else ``commands_title`` says.
        tables: Tables to show; the first one's data is also the data of the figure.
        figure: The figure, or None for a table alone.
        alt: The figure in words.
        shows_items: Whether pictures or descriptions of items are shown, which their licence may not allow to pass on;
            the gallery leaves it out.
    """

    name: str
    title: str
    reading: str
    paper: str = ""
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...]
    tables: tuple[Table, ...]
    figure: Drawing | None = field(default=None, compare=False)
    alt: str = ""
    commands_title: str = "Commands"
    shows_items: bool = False


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Figures or tables for which the store lacks cells, why, and the command that fills them in."""

    title: str
    reason: str
    command: str


Shown = Exhibit | Gap


def gap(section: Section, title: str, reason: str, experiment: str) -> Gap:
    """Return what a section lacks, with the command of the experiment that fills it in."""
    return Gap(title=title, reason=reason, command=section.command(experiment))


def table(
    section: Section,
    name: str,
    caption: str,
    data: pd.DataFrame,
    titles: Mapping[str, str] | None = None,
    looks: Mapping[str, Mapping[str, MethodStyle]] | None = None,
) -> Table:
    """Return a data frame as a table of a section, which its name and its caption end with.

    Args:
        section: The section.
        name: File name without its ending and the section's.
        caption: One line, without the section's title.
        data: Tidy data.
        titles: Titles that replace column names.
        looks: By column, looks whose labels readers see; the CSV has the names.
    """
    return frame_table(f"{name}{section.suffix}", f"{caption}, {section.title}", data, titles, looks)


def in_order(frame: pd.DataFrame, section: Section, *then: str) -> pd.DataFrame:
    """Return the rows in the order of the methods, then of further columns.

    Args:
        frame: Has a column method.
        section: The section.
        then: Further columns to sort by.
    """
    places = {name: place for place, name in enumerate(section.styles)}
    ordered = frame.assign(_place=frame["method"].map(places)).sort_values(["_place", *then])
    return ordered.drop(columns="_place").reset_index(drop=True)


def each_method(
    section: Section, frame: pd.DataFrame, exhibit: Callable[[Section, pd.DataFrame, str], Shown]
) -> list[Shown]:
    """Return an exhibit on I-LLMRec, or the gap that stands for it, and one on each other method that has enough cells.

    Args:
        section: The section.
        frame: Of an experiment, with a column method.
        exhibit: Takes the section, with a suffix of the method's own, the rows of the method and what its title ends
            with; returns the exhibit or a gap.
    """
    shown = [exhibit(section, frame[frame["method"] == OURS], "")]
    suffixes = method_suffixes(section.styles)
    for method, rows in frame[frame["method"] != OURS].groupby("method"):
        own = replace(section, suffix=f"{suffixes[str(method)]}{section.suffix}")
        other = exhibit(own, rows, f", {section.styles[str(method)].label}")
        if isinstance(other, Exhibit):
            shown.append(replace(other, paper=""))  # which has I-LLMRec alone
    return shown
