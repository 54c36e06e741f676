"""What appending an item costs against reading anew, as the page tells it."""

from __future__ import annotations

from engine_cells import serving_cells

from bench.frames.serving import COLUMNS, USERS_COLUMNS
from reports.drawing.engine_figures import serving_figure
from reports.exhibits.exhibit import Exhibit
from reports.exhibits.serving import exhibits
from reports.sections.methods import method_styles
from reports.sections.results import read_store, whole_store


def test_speedups_are_told_with_their_figure(filler) -> None:
    serving_cells(filler)
    (found,) = exhibits(whole_store(read_store(filler.store), filler.store))
    assert isinstance(found, Exhibit)
    alone, users = (table.data for table in found.tables)
    assert tuple(alone.columns) == COLUMNS and tuple(users.columns) == USERS_COLUMNS
    assert "Reading 20 items anew" in found.reading
    assert "4.0 for I-LLMRec, 8.0 for TRSR (summary)" in found.reading
    by_way = users.set_index(["method", "history_length", "way"])
    assert by_way.loc[("trsr", 20, "append"), "speedup"] == 8
    assert by_way.loc[("trsr", 20, "anew"), "megabytes_per_session"] == 0
    figure = serving_figure(alone, method_styles(["illmrec", "trsr"]), "toyshop")
    anew, append = figure.axes
    assert [line.get_ydata().tolist() for line in anew.lines] == [[100, 200]] * 2
    assert sorted(line.get_ydata().tolist() for line in append.lines) == [[12.5, 25], [25, 50]]
