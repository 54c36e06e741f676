"""Rows of the ablation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reports.exhibits.ablation import exhibits
from reports.sections.results import read_sections, read_store


@pytest.mark.parametrize("left_out", ["the LLM is frozen and no adaptor feeds it", None])
def test_rows_a_and_b_show_one_model_only_where_risa_was_left_out(filler, left_out) -> None:
    filler.ablation("a")
    for features in (("image",), ("cf",)):
        filler.accuracy("title", 0.31, risa=True, features=features)
    records = [
        replace(record, results={**record.results, "training": {"risa_left_out": left_out}})
        for record in read_store(filler.store)
    ]
    (section,) = read_sections(records)
    (shown,) = exhibits(section)
    (table,) = (table for table in shown.tables if table.name.startswith("table2") and "title" in table.name)
    values = table.data.set_index("row")["ndcg@10"]
    if left_out:
        assert values["a"] == values["b"] and "(a) and (b) are one" in table.caption
    else:
        assert np.isnan(values["a"]) and values["b"] > 0 and "are one" not in table.caption
