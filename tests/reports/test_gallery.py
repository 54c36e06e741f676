"""The gallery: what is in it, what is not, and where its manifest says that it comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from engine_cells import retrieval_cells
from page_reader import Page, text_of

from illmrec.command_line import run
from reports import gallery
from reports.__main__ import main
from reports.build import read_report
from reports.exhibits.exhibit import Exhibit
from reports.gallery import build_gallery
from reports.sections.commands import portable_command
from reports.sections.results import read_store


@pytest.fixture(scope="module")
def made(full, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "toyshop"
    arguments = ["--out", str(full.store.out), "--gallery", str(folder)]
    assert run(main, prog="python -m reports", args=arguments) == 0
    return folder


def test_files(made: Path) -> None:
    folders, files = {"figures", "tables"}, {"index.html", "manifest.json", "ranks.parquet", "cells.parquet"}
    assert {path.name for path in made.iterdir()} == folders | files
    assert {path.suffix for path in (made / "figures").iterdir()} == {".png", ".svg"}
    assert {path.suffix for path in (made / "tables").iterdir()} == {".csv", ".md"}
    assert sum(path.stat().st_size for path in made.rglob("*") if path.is_file()) < 3e6
    page = Page(made / "index.html")
    links = [str(attributes["href"]) for attributes in page.all("a")]
    assert all(link.startswith("#") or (made / unquote(link)).is_file() for link in links)
    listed = json.loads((made / "manifest.json").read_text(encoding="utf-8"))["files"]
    there = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert there == {*listed, "manifest.json"}


def test_the_store_is_left_as_it_was(full, made: Path) -> None:
    assert not (full.store.out / "manifest.json").exists()
    assert {path.suffix for path in (full.store.out / "figures").iterdir()} == {".png", ".pdf", ".svg"}


def test_manifest_is_that_of_the_cells(full, made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    records = read_store(full.store)
    assert manifest["cells"] == len(records)
    assert manifest["seconds"] == pytest.approx(12.5 * len(records))
    assert manifest["created"] == [min(r.created for r in records), max(r.created for r in records)]
    (dataset,) = manifest["datasets"]
    assert dataset["fingerprint"] == full.dataset["fingerprint"] and dataset["cells"] == len(records)
    assert dataset["statistics"]["interactions"] == 23480
    accuracy = [record for record in records if record.experiment == "accuracy"]
    assert manifest["experiments"]["accuracy"] == {
        "versions": [1],
        "cells": len(accuracy),
        "methods": sorted({record.method for record in accuracy}),
        "seeds": [0, 1, 2],
    }
    assert {entry["llm"] for entry in manifest["llms"]} == {"smollm2-135m (30 layers)"}
    for name, field in (("commits", "git_commit"), ("machines", "machine"), ("versions", "versions")):
        values = [entry for entry in manifest[name]]
        key = {"commits": "commit", "machines": "machine", "versions": "versions"}[name]
        assert [entry[key] for entry in values] == [getattr(records[0], field)]
        assert values[0]["cells"] == len(records)
    (command,) = manifest["commands"]
    assert command == {
        "command": "python -m bench.efficiency --dataset toyshop --preset small",
        "cells": len(records),
    }
    assert manifest["command"] == "python -m reports --out out --gallery toyshop"


def test_generated_catalogues_and_several_data_sets(filler, another) -> None:
    filler.efficiency(["illmrec"], [2])
    another.efficiency(["illmrec", "trsr"], [2])
    filler.statistics = {"name": "gaussian-mixture", "items": 1_000_000, "users": 1000}
    retrieval_cells(filler)
    manifest = gallery.manifest(read_store(filler.store), "command")
    assert [entry["cells"] for entry in manifest["datasets"]] == [5, 2, 1]
    assert manifest["datasets"][0] == {
        "name": "gaussian-mixture",
        "statistics": {"items": 1_000_000, "users": 1000},
        "cells": 5,
    }
    assert manifest["datasets"][1]["name"] == another.dataset["name"]


def test_folders_of_the_machine_stay_out(filler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = "/home/someone/secret"
    monkeypatch.setattr(
        "bench.store.provenance.command",
        lambda: f"python -m bench.efficiency --dataset folder:{private}/shop --out={private}/results",
    )
    filler.efficiency(["illmrec", "trsr"], [2])
    folder = tmp_path / "gallery"
    build_gallery(filler.store.out, folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"]
    texts = [path.read_text(encoding="utf-8") for path in files]
    assert not any(private in text or str(tmp_path) in text for text in texts)
    shown = "python -m bench.efficiency --dataset folder:shop --out=results"
    assert shown in text_of(Page(folder / "index.html"))


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("python -m bench.x --out ../shared/y", "python -m bench.x --out ../shared/y"),
        ("python -m bench.x --out '/a b/c d/'", "python -m bench.x --out 'c d'"),
        ("python -m bench.x --llm ~/models/llama", "python -m bench.x --llm llama"),
        ("python -m bench.x --out C:\\\\Users\\\\me\\\\out", "python -m bench.x --out out"),
        ("python -m bench.x --dataset folder:/data/shop", "python -m bench.x --dataset folder:shop"),
        ("python -m bench.x --methods a,b.c:D --rows a-e", "python -m bench.x --methods a,b.c:D --rows a-e"),
        ("python -m bench.x --out /", "python -m bench.x --out ."),
        ("not a 'command", "not a 'command"),
    ],
)
def test_portable_commands(command: str, shown: str) -> None:
    assert portable_command(command) == shown


def test_exhibits_with_items_are_left_out(filler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filler.efficiency(["illmrec", "trsr"], [2])

    def with_items(*arguments):
        report = read_report(*arguments)
        first, *rest = list(report.shelves)
        shown = [
            replace(item, shows_items=isinstance(item, Exhibit) and item.name == "figure3")
            if isinstance(item, Exhibit)
            else item
            for item in first.shown
        ]
        return replace(report, shelves=[replace(first, shown=shown), *rest])

    monkeypatch.setattr("reports.gallery.read_report", with_items)
    folder = tmp_path / "gallery"
    page = Page(build_gallery(filler.store.out, folder))
    assert {path.stem for path in (folder / "figures").iterdir()} == {"figure1a", "figure_costs"}
    assert not list((folder / "tables").glob("figure3*"))
    assert "figure3" not in [attributes.get("id") for attributes in page.all("article")]


def test_files_of_an_earlier_gallery_are_removed(filler, another, tmp_path: Path) -> None:
    filler.efficiency(["illmrec"], [2])
    folder = tmp_path / "gallery"
    build_gallery(filler.store.out, folder)
    (folder / "README.md").write_text("kept", encoding="utf-8")
    assert (folder / "figures" / "figure1a.svg").is_file()
    another.efficiency(["illmrec"], [2])
    build_gallery(filler.store.out, folder)
    assert not (folder / "figures" / "figure1a.svg").exists()
    assert len(list((folder / "figures").glob("figure1a-*.svg"))) == 2
    assert (folder / "README.md").is_file()


def test_bad_input_is_one_line_and_status_2(
    filler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = filler.store.out

    def failed(*arguments: str) -> str:
        assert run(main, prog="python -m reports", args=["--out", str(out), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    assert "no results in" in failed("--gallery", str(tmp_path / "gallery"))
    assert not (tmp_path / "gallery").exists()
    filler.efficiency(["illmrec"], [2])
    assert "folder of the store" in failed("--gallery", str(out / ".." / out.name))
    (tmp_path / "file").write_text("a file where a folder is needed", encoding="utf-8")
    assert "cannot write" in failed("--gallery", str(tmp_path / "file"))
