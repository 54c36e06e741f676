"""Recall and speed of indexes."""

from __future__ import annotations

import numpy as np
from engine_cells import POINTS, retrieval_cells

from reports.drawing.engine_figures import retrieval_figure
from reports.exhibits.exhibit import Exhibit, Gap
from reports.exhibits.retrieval import exhibits
from reports.sections.results import read_store, whole_store


def shown(filler) -> list[Exhibit | Gap]:
    return exhibits(whole_store(read_store(filler.store), filler.store))


def exhibit(filler, name: str) -> Exhibit:
    (found,) = (item for item in shown(filler) if isinstance(item, Exhibit) and item.name == name)
    return found


def test_recall_and_speed_of_indexes(filler) -> None:
    retrieval_cells(filler)
    found = exhibit(filler, "figure_retrieval")
    frame = found.tables[0].data
    assert list(zip(frame["kind"], frame["effort"].fillna(0), strict=True)) == [
        (kind, effort or 0) for kind, effort in POINTS
    ]
    assert frame["recall"].tolist() == [recall for recall, _ in POINTS.values()]
    np.testing.assert_allclose(frame["queries_low"], frame["queries_per_second"] / 1.2)
    np.testing.assert_allclose(frame["queries_high"], frame["queries_per_second"] / 0.8)
    assert "FAISS HNSW 0.930 at 1,500 queries/s (30.0 times exact)" in found.reading
    assert "10 of 1,000,000 generated items" in found.tables[0].caption
    (axes,) = retrieval_figure(frame, "x").axes
    assert {text.get_text() for text in axes.texts} == {"32", "128", "8"}
    assert axes.get_xlabel().startswith("Recall@10")


def test_catalogues_of_different_sizes_stay_apart(filler) -> None:
    retrieval_cells(filler, items=1000)
    retrieval_cells(filler)
    names = [item.name for item in shown(filler) if isinstance(item, Exhibit)]
    assert len(names) == len(set(names)) == 2
