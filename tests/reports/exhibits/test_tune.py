"""Tuning in the report."""

from __future__ import annotations

import pandas as pd
from stored import shown

from bench.frames.tune import trials_frame
from reports.build import build_report
from reports.exhibits.exhibit import Exhibit, Gap


def studied(filler, method: str, values: list[float], *, default: float | None, llm: bool = True) -> None:
    trials = [
        {"number": n, "state": "complete", "seconds": 2.0, "value": value, "parameters": {"dropout": 0.1 * n}}
        for n, value in enumerate(values)
    ]
    config = {"method": method, "space": {"dropout": "0 to 0.5"}, **({"llm": filler.llm} if llm else {})}
    results = {
        "trials": len(values),
        "seconds": 2.0 * len(values),
        "valid_ndcg@10": max(values),
        "default_ndcg@10": default,
        "parameters": {"dropout": 0.1234, "loss": "ce"},
        "importances": {"dropout": 0.75},
    }
    frame = trials_frame("toys", method, trials).astype({"dropout": str})
    filler.write("tune", config, results, {"trials": frame})


def test_default_and_tuned_stand_side_by_side(filler) -> None:
    filler.accuracy("illmrec", 0.2, risa=True, features=("image",), seeds=(0,))
    filler.accuracy("sasrec", 0.2, seeds=(0,))
    studied(filler, "illmrec", [0.2, 0.1, 0.25], default=0.2)
    studied(filler, "sasrec", [0.3, 0.31], default=None, llm=False)
    found = shown(filler, "Tuning.")
    assert isinstance(found, Exhibit)
    assert found.reading == "Tuning takes validation NDCG@10 of I-LLMRec 0.2000 to 0.2500."
    table, spaces, curves = (each.data for each in found.tables)
    row = table.set_index("method").loc["I-LLMRec"]
    assert (row["chosen"], row["matters"], row["trials"]) == ("dropout 0.123, loss ce", "dropout 75%", 3)
    assert pd.isna(table.set_index("method").loc["SASRec", "gain"])
    assert spaces["searched"].tolist() == ["0 to 0.5"] * 2
    assert curves.loc[curves["series"] == "illmrec", "mean"].tolist() == [0.2, 0.2, 0.25]
    assert found.figure is not None and found.figure.files(["png"])["png"][:4] == b"\x89PNG"


def test_without_studies_the_page_says_how_to_get_them(filler) -> None:
    filler.accuracy("illmrec", 0.2, risa=True, features=("image",), seeds=(0,))
    found = shown(filler, "Tuning.")
    assert isinstance(found, Gap) and "bench.tune" in found.command


def test_a_study_alone_makes_a_page(filler) -> None:
    studied(filler, "item-knn", [0.2, 0.25], default=0.2, llm=False)
    page = build_report(filler.store.out).read_text(encoding="utf-8")
    assert "Tuning takes validation NDCG@10 of Item kNN 0.2000 to 0.2500." in page
    assert "In short" not in page
