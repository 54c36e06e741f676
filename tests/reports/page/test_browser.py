"""The page in headless Chromium: no error, every figure shown, tables sort by mouse and keyboard, phones fit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from reports.build import build_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")

ANSWER = re.compile(r'<pre id="answer">(.*?)</pre>', re.DOTALL)


def open_page(page: Path, profile: Path) -> tuple[str, list[str]]:
    """Return the document after its scripts ran, and what they and the browser wrote to the console."""
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def ask(page: Path, question: str, tmp_path: Path) -> Any:
    """Return what a script finds in a copy of the page; it is a function body that returns JSON values."""
    source = page.read_text(encoding="utf-8")
    policy = re.search(r"script-src 'sha256-[^']+'", source)
    assert policy is not None
    probe = (
        "<script>addEventListener('load', () => { const found = (() => {"
        + question
        + "})(); const answer = document.createElement('pre'); answer.id = 'answer';"
        " answer.textContent = JSON.stringify(found); document.body.append(answer); });</script>"
    )
    copy = tmp_path / "copy.html"
    changed = source.replace(policy.group(0), "script-src 'unsafe-inline'").replace(
        "</body>", f"{probe}</body>"
    )
    copy.write_text(changed, encoding="utf-8")
    document, console = open_page(copy, tmp_path / "profile")
    assert console == []
    answer = ANSWER.search(document)
    assert answer is not None
    return json.loads(unescape(answer.group(1)))


def test_no_message_and_every_figure_shown(full, tmp_path: Path) -> None:
    page = full.store.out / "index.html"
    document, console = open_page(page, tmp_path / "profile")
    assert console == []
    assert "<button" in document, "the policy admitted the page's script"
    widths = ask(
        page, "return Array.from(document.images, (image) => image.complete && image.naturalWidth);", tmp_path
    )
    assert len(widths) >= 4 and all(width > 1000 for width in widths)


def test_a_message_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>x</title><script>missing();</script>", encoding="utf-8")
    assert "missing is not defined" in open_page(page, tmp_path / "profile")[1][0]


def test_headers_sort_numerically_in_both_directions(full, tmp_path: Path) -> None:
    question = """
      const table = Array.from(document.querySelectorAll("table")).find(
        (table) => table.caption.textContent.startsWith("Efficiency by history length"));
      const headers = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
      const column = headers.findIndex((header) => header.textContent.startsWith("latency of one user"));
      const read = () => Array.from(table.tBodies[0].rows, (row) => row.cells[column].textContent);
      const methods = () => Array.from(table.tBodies[0].rows, (row) => row.cells[0].textContent);
      const button = headers[column].querySelector("button");
      table.closest("details").open = true;
      const before = read();
      button.focus();
      button.click();
      const up = read(), direction = headers[column].getAttribute("aria-sort");
      button.click();
      const down = read(), other = headers[column].getAttribute("aria-sort");
      headers[0].querySelector("button").click();
      return {before, up, down, direction, other, methods: methods(),
        left: headers[column].hasAttribute("aria-sort"),
        focus: document.activeElement === button, kind: button.type};
    """
    found = ask(full.store.out / "index.html", question, tmp_path)
    numbers = [float(text.replace(",", "")) for text in found["up"]]
    assert len(numbers) == 30 and numbers == sorted(numbers)
    assert [float(text.replace(",", "")) for text in found["down"]] == sorted(numbers, reverse=True)
    assert sorted(found["before"]) == sorted(found["up"]) and found["before"] != found["up"]
    # As text, 9.9 would come after 10.1: the order is not that of the text.
    assert found["up"] != sorted(found["up"])
    assert (found["direction"], found["other"], found["left"]) == ("ascending", "descending", False)
    assert found["methods"] == sorted(found["methods"], key=str.lower)
    assert found["focus"] and found["kind"] == "button"


def test_errors_and_missing_values_sort_too(filler, tmp_path: Path) -> None:
    filler.ablation("abc")
    question = """
      const table = Array.from(document.querySelectorAll("table")).find(
        (table) => table.caption.textContent.startsWith("Ablation"));
      const headers = Array.from(table.tHead.rows[1].cells);
      const column = headers.findIndex((header) => header.textContent === "NDCG@10");
      headers[column].querySelector("button").click();
      headers[column].querySelector("button").click();
      return Array.from(table.tBodies[0].rows, (row) => row.cells[column].textContent);
    """
    shown = ask(build_report(filler.store.out), question, tmp_path)
    values = [float(text.split("±")[0]) for text in shown[:3]]
    assert values == sorted(values, reverse=True) and len(set(values)) == 3
    assert shown[3:] == ["–", "–"]


def test_text_of_users_is_shown_as_text(another, tmp_path: Path) -> None:
    another.efficiency(["illmrec", "p:<script>document.title='run'</script>"], [2, 5])
    another.accuracy("p:<script>document.title='run'</script>", 0.3, seeds=(0,))
    another.accuracy("sasrec", 0.3, seeds=(0,))
    question = """
      return {title: document.title, scripts: document.scripts.length, text: document.body.innerText};
    """
    page = build_report(another.store.out)
    found = ask(page, question, tmp_path)
    # The page's own script and the one that asks.
    assert found["scripts"] == 2
    assert found["title"] == "How should an LLM recommender represent an item?"
    assert "<script>document.title='run'</script>" in found["text"]
    assert '<script>alert("x")</script>' in found["text"]
    assert open_page(page, tmp_path / "profile")[1] == []


def test_a_phone_needs_no_sideways_scrolling_of_the_page(full, tmp_path: Path) -> None:
    """A narrow frame, since a browser's window has a least width; the copy in it tells its own size."""
    source = (full.store.out / "index.html").read_text(encoding="utf-8")
    policy = re.search(r"script-src 'sha256-[^']+'", source)
    assert policy is not None
    probe = """<script>addEventListener("load", () => {
      const contents = document.getElementById("contents"), closed = !contents.open;
      const summary = contents.querySelector("summary");
      summary.focus();
      const focused = document.activeElement === summary;
      summary.click();
      const opened = contents.open && contents.querySelector("a").getClientRects().length > 0;
      for (const details of document.querySelectorAll("details")) details.open = true;
      const boxes = Array.from(document.querySelectorAll(".scroll"));
      parent.postMessage({
        window: innerWidth, page: document.documentElement.scrollWidth,
        wide: boxes.filter((box) => box.scrollWidth > box.clientWidth).length,
        reachable: boxes.every((box) => box.tabIndex === 0), closed, focused, opened,
      }, "*"); });</script>"""
    (tmp_path / "phone.html").write_text(
        source.replace(policy.group(0), "script-src 'unsafe-inline'").replace("</body>", f"{probe}</body>"),
        encoding="utf-8",
    )
    frame = tmp_path / "frame.html"
    frame.write_text(
        """<!doctype html><title>frame</title><script>
        addEventListener("message", (event) => {
          const answer = document.createElement("pre"); answer.id = "answer";
          answer.textContent = JSON.stringify(event.data); document.body.append(answer); });
        </script><body><iframe src="phone.html" style="width: 360px; height: 700px; border: 0"></iframe></body>""",
        encoding="utf-8",
    )
    document, console = open_page(frame, tmp_path / "profile")
    assert console == []
    answer = ANSWER.search(document)
    assert answer is not None
    found = json.loads(unescape(answer.group(1)))
    assert found["window"] == 360 and found["page"] <= 360
    assert found["wide"] > 0 and found["reachable"]
    # The list of contents would fill the screen: it waits behind a heading that a keyboard reaches, too.
    assert found["closed"] and found["focused"] and found["opened"]


def test_a_wide_window_shows_the_contents(full, tmp_path: Path) -> None:
    question = "return document.getElementById('contents').open;"
    assert ask(full.store.out / "index.html", question, tmp_path) is True
