"""Figures that wait: what they depend on, their files, and which files of the last report stay as they are."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageColor

from reports.build import build_report
from reports.drawing.deferred import Drawer, Drawing, drawing
from reports.drawing.figures import tokens_figure
from reports.sections.methods import METHODS, method_styles

STYLES = method_styles([look.name for look in METHODS])
FRAME = pd.DataFrame({"method": ["illmrec", "trsr"], "tokens_per_item": [17.25, 56.5]})


def waiting(frame: pd.DataFrame = FRAME, styles=STYLES, title: str = "toyshop") -> Drawing:
    return drawing(tokens_figure, frame, styles, title)


def test_the_digest_is_that_of_the_content() -> None:
    assert waiting().digest == waiting(FRAME.copy(), dict(STYLES), "toyshop").digest
    others = [
        waiting(FRAME.assign(tokens_per_item=[17.25, np.nextafter(56.5, 57)])),
        waiting(FRAME.iloc[::-1]),
        waiting(FRAME.rename(columns={"method": "Method"})),
        waiting(FRAME.astype({"tokens_per_item": "float32"})),
        waiting(styles=dict(reversed(STYLES.items()))),
        waiting(styles={**STYLES, "illmrec": replace(STYLES["illmrec"], colour="#000000")}),
        waiting(title="ml1m"),
    ]
    digests = [other.digest for other in (waiting(), *others)]
    assert len(set(digests)) == len(digests)


def test_the_digest_depends_on_what_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    before = waiting().digest
    monkeypatch.setattr("reports.drawing.deferred._drawn_by", lambda: ["another matplotlib"])
    assert waiting().digest != before


def test_arrays_count_by_their_content() -> None:
    def digest(values: object) -> str:
        return drawing(tokens_figure, values, STYLES, "x").digest  # type: ignore[arg-type]

    array = np.arange(6.0).reshape(2, 3)
    assert digest(array) == digest(np.asfortranarray(array)) != digest(array.T)
    assert digest(np.int64(3)) == digest(3)
    with pytest.raises(TypeError, match="set"):
        digest({1, 2})


def test_files_are_in_their_formats_and_on_one_layout() -> None:
    with Drawer(("png", "pdf", "svg")) as drawer:
        drawer.start("figure", waiting())
        ((name, files),) = drawer.finished()
    assert name == "figure"
    image = Image.open(io.BytesIO(files["png"]))
    width, height = image.size
    assert image.info["dpi"][0] == pytest.approx(200, abs=0.1)
    colours = {colour for _, colour in image.convert("RGB").getcolors()}
    # Few colours, white and the methods' own among them.
    assert {(255, 255, 255), *(ImageColor.getrgb(STYLES[name].colour) for name in FRAME["method"])} <= colours
    assert files["pdf"].startswith(b"%PDF") and files["svg"].startswith(b"<?xml")
    box = files["svg"].split(b'viewBox="0 0 ')[1].split(b'"')[0].split()
    assert float(box[0]) / float(box[1]) == pytest.approx(width / height, rel=0.01)
    # Letters are TrueType outlines, which printers and publishers ask for.
    assert b"/Type42" in files["pdf"] or b"/CIDFontType2" in files["pdf"]
    assert waiting().files(("png",)) == {"png": files["png"]}


def test_one_core_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> dict[str, dict[str, bytes]]:
        with Drawer(("png",)) as drawer:
            drawer.start("first", waiting())
            drawer.start("second", waiting(title="ml1m"))
            return dict(drawer.finished())

    several = drawn()
    monkeypatch.setattr("reports.drawing.deferred.sys.platform", "darwin")
    assert drawn() == several and list(several) == ["first", "second"]


def test_an_error_while_drawing_is_not_lost() -> None:
    with pytest.raises(KeyError, match="tokens_per_item"), Drawer(("png",)) as drawer:
        drawer.start("figure", waiting(FRAME.drop(columns="tokens_per_item")))
        list(drawer.finished())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the figures that reports drew, in order."""
    names: list[str] = []
    start = Drawer.start

    def recorded(self: Drawer, name: str, figure: Drawing) -> None:
        names.append(name)
        start(self, name, figure)

    monkeypatch.setattr(Drawer, "start", recorded)
    return names


def test_figures_are_drawn_again_only_where_something_changed(filler, drawn: list[str]) -> None:
    filler.efficiency(["illmrec", "trsr"], [2, 5])
    filler.accuracy("sasrec", 0.3, seeds=(0,))
    filler.accuracy("popularity", 0.1, seeds=(0,))
    out = filler.store.out
    build_report(out)
    first = (out / "index.html").read_bytes()
    assert set(drawn) == {"figure1a", "figure3", "figure_costs", "accuracy"}
    drawn.clear()
    build_report(out)
    assert drawn == [] and (out / "index.html").read_bytes() == first
    filler.accuracy("popularity", 0.1, seeds=(1,))
    build_report(out)
    assert drawn == ["accuracy"]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_changed_or_missing_file_is_drawn_again(filler, drawn: list[str], ending: str) -> None:
    filler.efficiency(["illmrec", "trsr"], [2, 5])
    out = filler.store.out
    build_report(out)
    path = out / "figures" / f"figure1a.{ending}"
    before = path.read_bytes()
    drawn.clear()
    path.write_bytes(before[:-1])
    build_report(out)
    assert drawn == ["figure1a"] and path.read_bytes() == before
    path.unlink()
    build_report(out)
    assert drawn == ["figure1a"] * 2 and path.read_bytes() == before


def test_formats_that_are_new_or_gone(filler, drawn: list[str]) -> None:
    filler.efficiency(["illmrec"], [2])
    out = filler.store.out
    build_report(out, ("png", "svg"))
    drawn.clear()
    build_report(out, ("png",))
    assert drawn == [] and {path.suffix for path in (out / "figures").iterdir()} == {".png"}
    build_report(out, ("png", "pdf"))
    assert set(drawn) == {"figure1a", "figure3", "figure_costs"}
    assert {path.suffix for path in (out / "figures").iterdir()} == {".png", ".pdf"}


def test_figures_drawn_twice_are_the_same(filler, tmp_path: Path) -> None:
    filler.efficiency(["illmrec", "trsr"], [2, 5])
    out = filler.store.out
    shutil.copytree(out, tmp_path / "copy")
    build_report(out)
    build_report(tmp_path / "copy")
    for path in (out / "figures").iterdir():
        assert (tmp_path / "copy" / "figures" / path.name).read_bytes() == path.read_bytes()


def test_a_manifest_of_before_is_read(filler, drawn: list[str]) -> None:
    filler.efficiency(["illmrec"], [2])
    out = filler.store.out
    build_report(out)
    manifest = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (out / "report.json").write_text(json.dumps({"files": manifest["files"]}), encoding="utf-8")
    drawn.clear()
    build_report(out)
    assert set(drawn) == {"figure1a", "figure3", "figure_costs"}
