"""What sampled candidates say of the whole catalogue, in the report."""

from __future__ import annotations

from typing import Any

import pytest
from stored import section_of, table

from bench.frames.comparison import ESTIMATED_COLUMNS, estimated_frame
from bench.protocol.metrics import METRICS
from bench.store.cell import Record
from reports.build import build_report
from reports.exhibits.comparison_estimated import exhibits
from reports.exhibits.exhibit import Exhibit


def estimated(filler, method: str, *, sampled: float, estimate: float, full: float) -> list[Record]:
    """Store accuracy cells of two seeds with these values of NDCG@10, the second a tenth higher."""
    written = []
    for seed in (0, 1):
        (record,) = filler.accuracy(method, 0.3, seeds=(seed,))
        results: dict[str, Any] = {**record.results, "estimated": {**record.results["full"]}}
        for kind, value in (("sampled", sampled), ("estimated", estimate), ("full", full)):
            results[kind] = {**results[kind], "ndcg@10": value * (1 + seed / 10)}
        written.append(filler.write("accuracy", record.config, results, {"ranks": filler.ranks(0.3, seed)}))
    return written


def test_a_row_for_each_cell_and_metric(filler) -> None:
    cells = estimated(filler, "popularity", sampled=0.3, estimate=0.12, full=0.1)
    older = filler.accuracy("random", 0.1)
    frame = estimated_frame([*older, *cells])
    assert tuple(frame.columns) == ESTIMATED_COLUMNS and frame["metric"].tolist() == [*METRICS] * 2
    ndcg = frame[frame["metric"] == "ndcg@10"]
    assert ndcg["estimated"].tolist() == pytest.approx([0.12, 0.132])
    assert (frame["method"] == "popularity").all() and tuple(estimated_frame(older)) == ESTIMATED_COLUMNS


def test_the_table_stands_under_the_comparison(filler) -> None:
    estimated(filler, "popularity", sampled=0.3, estimate=0.12, full=0.1)
    estimated(filler, "random", sampled=0.05, estimate=0.005, full=0.01)
    filler.accuracy("sasrec", 0.35)  # stored before there were estimates
    (found,) = exhibits(section_of(filler))
    assert isinstance(found, Exhibit)
    rows = found.tables[0].data.set_index("method")
    assert rows.loc["popularity"].tolist() == pytest.approx([0.315, 0.126, 0.105, 2])
    assert set(rows.index) == {"popularity", "random"}
    assert found.reading == (
        "Estimates are up to 0.0210 from NDCG@10 in the whole catalogue (0.0131 on average over methods); NDCG@10 among"
        " sampled candidates is up to 0.2100 from it (0.1260)."
    )
    page = build_report(filler.store.out).read_text(encoding="utf-8")
    assert page.index("Table 1. Accuracy of the methods</h3>") < page.index(f"{found.title}</h3>")
    assert table(filler, "accuracy_estimated")["estimated"].tolist() == rows["estimated"].tolist()


def test_one_method_and_none(filler) -> None:
    filler.accuracy("random", 0.1)
    assert exhibits(section_of(filler)) == []
    estimated(filler, "popularity", sampled=0.3, estimate=0.12, full=0.1)
    (found,) = exhibits(section_of(filler))
    assert isinstance(found, Exhibit) and found.reading.startswith("The estimate is 0.0210 from NDCG@10")
