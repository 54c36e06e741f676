"""The whole report: files, numbers, structure of the page, escaping, and what is said of an empty store."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from page_reader import Page, text_of
from PIL import Image

from illmrec.command_line import run
from reports.__main__ import main
from reports.build import build_report
from reports.sections.results import read_store


@pytest.fixture
def out(full) -> Path:
    return full.store.out


def test_files_of_a_full_store(out: Path) -> None:
    assert (out / "index.html").is_file()
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {
        f"{name}.{form}"
        for name in ("figure1a", "figure1b", "figure3", "figure5", "figure11", "figure_costs", "accuracy")
        for form in ("png", "pdf", "svg")
    }
    tables = {path.name for path in (out / "tables").iterdir()}
    names = {"figure1a", "figure1b", "figure3", "accuracy", "table1", "table1_full", "table2", "table2_full"}
    names |= {
        "summary",
        "headline",
        "claims",
        "claims_untested",
        "figure1b_lengths",
        "figure5",
        "figure11",
        "figure_costs",
        "table4",
    }
    assert tables == {f"{name}.{form}" for name in names for form in ("csv", "md", "tex")}
    assert not list(out.rglob(".tmp-*"))
    for path in (out / "figures").glob("*.png"):
        assert Image.open(path).size[0] >= 1200


def test_tables_of_the_experiments_are_left_alone(filler) -> None:
    filler.ablation("a")
    out = filler.store.out
    (out / "tables").mkdir()
    for name in ("efficiency.csv", "ablation.csv", "comparison.csv"):
        (out / "tables" / name).write_text("theirs", encoding="utf-8")
    build_report(out)
    for name in ("efficiency.csv", "ablation.csv", "comparison.csv"):
        assert (out / "tables" / name).read_text(encoding="utf-8") == "theirs"


def test_cells_of_sweeps_do_not_replace_the_data_as_they_are(filler) -> None:
    full = {"seeds": (0,), "risa": True, "features": ("image", "cf", "text")}
    filler.accuracy("illmrec", 0.41, **full)
    filler.accuracy("trsr", 0.37, **full)
    out = filler.store.out
    build_report(out)
    before = (out / "tables" / "table1.csv").read_text(encoding="utf-8")
    filler.date("2020-01-01T00:00:00+00:00")
    filler.accuracy("illmrec", 0.1, evaluation={"context": 256}, **full)
    filler.accuracy("trsr", 0.1, evaluation={"history_length": 2}, **full)
    of = filler.dataset["fingerprint"]
    filler.accuracy(
        "illmrec",
        0.1,
        variant={"kind": "image-quality", "degradation": "blur", "amount": 4, "of": of},
        **full,
    )
    page = Page(build_report(out))
    assert (out / "tables" / "table1.csv").read_text(encoding="utf-8") == before
    assert len([a for a in page.all("section") if str(a["id"]).startswith("section")]) == 1
    assert "older setting" not in text_of(page)


def test_page_is_self_contained_and_whole(out: Path) -> None:
    page = Page(out / "index.html")
    images = page.all("img")
    assert len(images) == 7
    for image in images:
        assert image["alt"] and len(image["alt"]) > 20
        assert image["src"].startswith("data:image/png;base64,")
        size = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))).size
        assert size == (int(image["width"]), int(image["height"]))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for attributes in page.all("a")]
    assert links
    for link in links:
        if link.startswith("#"):
            assert link[1:] in ids, link
        else:
            assert "://" not in link
            assert (page.folder / unquote(link)).is_file(), link
    for attributes in (attributes for _, attributes in page.elements if "aria-labelledby" in attributes):
        assert attributes["aria-labelledby"] in ids
    assert page.all("script") == [{}] and not page.all("link") and not page.all("iframe")
    source = page.folder.joinpath("index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(https?:)?//|@import|url\(", source)
    assert "prefers-color-scheme: dark" in source and 'name="viewport"' in source
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))


def test_the_policy_admits_the_one_script(out: Path) -> None:
    source = (out / "index.html").read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in source
    assert "default-src 'none'" in source


def test_page_says_how_and_where(out: Path, full) -> None:
    text = text_of(Page(out / "index.html"))
    record = read_store(full.store)[0]
    assert "python -m bench.efficiency --dataset toyshop --preset small" in text
    assert "python -m reports" in text
    assert record.versions["numpy"] in text
    assert record.machine["os"] in text
    assert "23,480" in text and "11.74" in text
    assert f"{len(read_store(full.store))}, computed in" in text
    assert record.created[:10] in text


def test_text_of_users_is_text(filler, another) -> None:
    filler.efficiency(["illmrec"], [2, 5])
    another.llm = {"name": "<img src=x onerror=alert(1)>", "layers": 4}
    another.efficiency(["illmrec", "p:<b>Mine</b>"], [2, 5])
    another.comparison(seeds=(0,))
    another.ablation("a", seeds=(0,))
    path = build_report(filler.store.out)
    page = Page(path)
    assert page.all("script") == [{}]
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert all(attributes["src"].startswith("data:") for attributes in page.all("img"))
    assert another.dataset["name"] in text_of(page)
    assert "<b>Mine</b>" in text_of(page)
    for written in (filler.store.out / "tables").glob("*.md"):
        assert "<script>" not in written.read_text(encoding="utf-8")
    assert all(re.fullmatch(r"[a-z0-9_.-]+", path.name) for path in (filler.store.out / "tables").iterdir())
    data = pd.read_csv(next((filler.store.out / "tables").glob("table2-*.csv")))
    assert set(data["dataset"]) == {another.dataset["name"]}


def test_one_section_per_data_set(filler, another) -> None:
    filler.ablation("a")
    another.ablation("a")
    page = Page(build_report(filler.store.out))
    sections = [attributes["id"] for attributes in page.all("section")]
    assert len([name for name in sections if name.startswith("section")]) == 2
    rows = next(rows for rows in page.tables if rows[0][0] == "Dataset")
    assert len(rows) == 3


def test_files_of_an_earlier_report_are_removed(filler, another) -> None:
    filler.ablation("a")
    build_report(filler.store.out)
    tables = filler.store.out / "tables"
    mine = tables / "table2_mine.csv"
    mine.write_text("kept", encoding="utf-8")
    assert (tables / "table2.csv").is_file()
    another.ablation("a")
    build_report(filler.store.out)
    assert not (tables / "table2.csv").exists()
    assert len(list(tables.glob("table2-*.csv"))) == 2
    assert mine.is_file()


def test_the_list_of_files_cannot_remove_others(filler) -> None:
    filler.ablation("a")
    out = filler.store.out
    (out / "report.json").write_text(
        json.dumps({"files": ["../victim", "tables/../../victim", "store/cells", "tables/efficiency.csv"]}),
        encoding="utf-8",
    )
    (out / "tables").mkdir()
    (out / "tables" / "efficiency.csv").write_text("kept", encoding="utf-8")
    (out.parent / "victim").write_text("kept", encoding="utf-8")
    build_report(out)
    assert (out.parent / "victim").is_file() and (out / "tables" / "efficiency.csv").is_file()


def test_gaps_name_their_command(filler) -> None:
    filler.efficiency(["illmrec", "trsr"], [2, 5])
    text = text_of(Page(build_report(filler.store.out)))
    options = "--dataset toyshop --preset small --llm smollm2-135m --layers 30"
    assert f"python -m bench.comparison {options}" in text
    assert f"python -m bench.ablation --rows a-e {options}" in text
    assert not (filler.store.out / "figures" / "figure1b.png").exists()


def test_missing_rows_name_their_command(filler) -> None:
    filler.ablation("ac")
    text = text_of(Page(build_report(filler.store.out)))
    assert "Missing rows: b, d, e." in text
    assert "--rows b,d,e" in text


def test_floors_alone_make_a_comparison(filler) -> None:
    filler.accuracy("sasrec", 0.3, seeds=(0,))
    filler.accuracy("popularity", 0.1, seeds=(0,))
    text = text_of(Page(build_report(filler.store.out)))
    assert "The two highest means of NDCG@10 among sampled candidates are those of SASRec" in text
    assert "of one training run, which decides nothing" in text
    assert "One seed; ± is the standard error over users." in text


def test_no_common_history_length(filler) -> None:
    filler.efficiency(["illmrec"], [2])
    filler.efficiency(["trsr"], [5])
    filler.comparison(seeds=(0,))
    text = text_of(Page(build_report(filler.store.out)))
    assert "no method has both accuracy and latency at the history lengths of the others" in text


def test_older_and_unlike_settings_are_said(filler) -> None:
    filler.comparison(seeds=(0,))
    filler.date("2020-01-01T00:00:00+00:00")
    filler.accuracy(
        "trsr", 0.2, seeds=(0,), risa=True, features=("image", "cf", "text"), training={"epochs": 1}
    )
    text = text_of(Page(build_report(filler.store.out)))
    assert "TRSR (summary): the store also holds 1 older setting of it" in text
    assert "Caution. The methods were not trained or evaluated alike" in text


def test_timings_of_unlike_conditions_are_said(filler) -> None:
    filler.efficiency(["illmrec"], [2, 5])
    assert "Caution" not in text_of(Page(build_report(filler.store.out)))
    filler.llm = {**filler.llm, "dtype": "float32"}
    filler.efficiency(["trsr"], [2, 5])
    text = text_of(Page(build_report(filler.store.out)))
    assert "Caution. Timings were taken under different conditions: llm.dtype" in text


def test_same_store_gives_the_same_files(filler) -> None:
    filler.efficiency(["illmrec", "trsr"], [2, 5])
    filler.accuracy("sasrec", 0.3, seeds=(0,))
    filler.accuracy("popularity", 0.1, seeds=(0,))
    out = filler.store.out

    def contents() -> dict[str, bytes]:
        return {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and "store" not in path.parts
        }

    build_report(out, ("png", "pdf", "svg"))
    before = contents()
    build_report(out, ("png", "pdf", "svg"))
    assert contents() == before


def test_command(filler, capsys: pytest.CaptureFixture[str]) -> None:
    filler.efficiency(["illmrec", "trsr"], [2])
    out = filler.store.out
    assert run(main, prog="python -m reports", args=["--out", str(out), "--format", "svg"]) == 0
    assert str(out / "index.html") in capsys.readouterr().out
    assert {path.suffix for path in (out / "figures").iterdir()} == {".svg"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no results in", "python -m bench.efficiency", "python -m bench.ablation --rows a-e"]),
        (["--format", "gif"], ["--format"]),
        (["--format", ""], ["--format names no format"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    out = tmp_path / "nothing here"
    assert run(main, prog="python -m reports", args=["--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert all(word in error for word in words)
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_one_line(filler, capsys: pytest.CaptureFixture[str]) -> None:
    filler.ablation("a")
    (filler.store.out / "tables").write_text("a file where a folder is needed", encoding="utf-8")
    assert run(main, prog="python -m reports", args=["--out", str(filler.store.out)]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert not (filler.store.out / "index.html").exists()


def test_a_damaged_list_of_files_is_named(filler, capsys: pytest.CaptureFixture[str]) -> None:
    filler.ablation("a")
    (filler.store.out / "report.json").write_text("[]", encoding="utf-8")
    assert run(main, prog="python -m reports", args=["--out", str(filler.store.out)]) == 2
    assert "report.json" in capsys.readouterr().err


def test_reports_import_no_torch_and_no_model() -> None:
    code = (
        "import sys, reports.__main__, reports.build\n"
        "heavy = ('torch', 'transformers', 'recbole', 'baselines', 'illmrec.data', 'illmrec.model',"
        " 'illmrec.features', 'illmrec.training', 'illmrec.recommender')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
