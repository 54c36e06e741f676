"""The published galleries: their verdicts are by the rule of today, and their pages and lists fit their files."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from reports.claims.rules import BORNE_OUT, CONTRADICTED, VERDICTS

_ROOT = Path(__file__).parents[2] / "reports" / "gallery"
GALLERIES = sorted(path.parent for path in _ROOT.glob("*/manifest.json"))
_OF_SUMMARIES = ("speed-over-description", "speed-of-attributes")
_NEVER_CLOSED = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page: elements that were opened and not closed, ids, links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {found["id"]} if found.get("id") else set()
        self.links |= {link for name in ("href", "src") if (link := found.get(name))}
        if tag not in _NEVER_CLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.getpos())


def test_there_are_galleries() -> None:
    assert len(GALLERIES) >= 10


@pytest.mark.parametrize("gallery", GALLERIES, ids=lambda path: path.name)
def test_verdicts_are_by_the_rule_of_today(gallery: Path) -> None:
    page = (gallery / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"Of \d+ claims [^<]*\bholds?\b", page)
    for path in gallery.glob("tables/claims*.csv"):
        table = pd.read_csv(path)
        assert {"candidates", "seeds", "p_value", "reason"} <= set(table), path.name
        assert set(table["verdict"]) <= set(VERDICTS), path.name


@pytest.mark.parametrize("gallery", GALLERIES, ids=lambda path: path.name)
def test_summaries_that_are_no_shorter_decide_nothing_on_speed(gallery: Path) -> None:
    for path in gallery.glob("tables/claims*.csv"):
        tokens = path.with_name(re.sub(r"^claims(_untested)?", "figure1a", path.name))
        if not tokens.is_file():
            continue
        took = pd.read_csv(tokens).set_index("method")["tokens_per_item"]
        table = pd.read_csv(path).set_index("claim")
        if took.get("trsr", 0) >= took.get("full-description", float("inf")):
            judged = table.loc[table.index.isin(_OF_SUMMARIES), "verdict"]
            assert not set(judged) & {BORNE_OUT, CONTRADICTED}, path


@pytest.mark.parametrize("gallery", GALLERIES, ids=lambda path: path.name)
def test_the_page_and_the_manifest_fit_the_files(gallery: Path) -> None:
    files = {path.relative_to(gallery).as_posix() for path in gallery.rglob("*") if path.is_file()}
    listed = json.loads((gallery / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert set(listed) == files - {"manifest.json"} and len(listed) == len(set(listed))
    page = Page()
    page.feed((gallery / "index.html").read_text(encoding="utf-8"))
    assert not page.open
    inside = {link[1:] for link in page.links if link.startswith("#") and len(link) > 1}
    assert inside <= page.ids
    assert {link for link in page.links if re.match(r"(tables|figures)/", link)} <= files
