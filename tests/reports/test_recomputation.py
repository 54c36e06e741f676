"""The numbers of the page, computed again from the stored cells and ranks without the code of the reports."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from page_reader import Page

from reports.build import build_report
from reports.sections.results import read_store


@pytest.fixture
def out(full) -> Path:
    return full.store.out


def test_table2_equals_a_recomputation_from_the_cells(out: Path) -> None:
    page = Page(out / "index.html")
    table = pd.read_csv(out / "tables" / "table2.csv").set_index("row")
    rows = {"a": (False, ["image"]), "c": (True, ["cf"]), "e": (True, ["image", "cf", "text"])}
    cells = [
        json.loads(path.read_text()) for path in (out / "store" / "cells" / "accuracy").rglob("cell.json")
    ]
    shown = next(rows for rows in page.tables if "RISA" in rows[1])
    for row, (risa, features) in rows.items():
        values = [
            cell["results"]["sampled"]["ndcg@5"]
            for cell in cells
            if cell["method"] == "illmrec"
            and cell["config"]["risa"] is risa
            and cell["config"]["features"] == features
        ]
        assert len(values) == 3
        mean, error = statistics.mean(values), statistics.stdev(values) / 3**0.5
        assert table.at[row, "ndcg@5"] == pytest.approx(mean, abs=1e-12)
        assert table.at[row, "ndcg@5_stderr"] == pytest.approx(error, abs=1e-12)
        line = next(cells for cells in shown if cells[0] == f"({row})")
        assert f"{mean:.4f} ± {error:.4f}" in line
        assert [mark == "✓" for mark in line[1:5]] == [
            risa,
            *(f in features for f in ("image", "cf", "text")),
        ]
    assert table.at["e", "paper_sport_hit@5"] == 0.4570
    assert "0.4839" in next(cells for cells in shown if cells[0] == "(e)")


def test_table1_and_figures_equal_a_recomputation(out: Path, full) -> None:
    page = Page(out / "index.html")
    records = read_store(full.store)
    trsr = [record for record in records if record.experiment == "accuracy" and record.method == "trsr"]
    mean = statistics.mean(record.results["full"]["hit@10"] for record in trsr)
    table = pd.read_csv(out / "tables" / "table1_full.csv").set_index(["method", "metric"])
    assert table.at[("trsr", "hit@10"), "mean"] == pytest.approx(mean, abs=1e-12)
    assert any(
        line[1] == "Hit@10" and any(text.startswith(f"{mean:.4f} ±") for text in line)
        for rows in page.tables
        for line in rows
        if len(line) > 2
    )
    timings = [record.results for record in records if record.experiment == "efficiency"]
    ours = [timing for timing in timings if timing["method"] == "illmrec"]
    tokens = sum(t["tokens_per_item"] * t["history_length"] for t in ours) / sum(
        t["history_length"] for t in ours
    )
    figure1a = pd.read_csv(out / "tables" / "figure1a.csv").set_index("method")
    assert figure1a.at["illmrec", "tokens_per_item"] == pytest.approx(tokens)
    figure1b = pd.read_csv(out / "tables" / "figure1b.csv").set_index("method")
    assert figure1b.at["illmrec", "latency_ms"] == pytest.approx(
        statistics.mean(timing["latency_ms_median"] for timing in ours)
    )
    figure3 = pd.read_csv(out / "tables" / "figure3.csv", float_precision="round_trip")
    assert len(figure3) == len(timings)
    assert set(figure3["latency_ms_p95_users"]) == {timing["latency_ms_p95_users"] for timing in timings}


def test_the_page_equals_a_recomputation_from_the_stored_ranks(out: Path, full) -> None:
    """By hand from ranks.parquet: DCG with one relevant item, means over users and seeds, nothing of ours."""
    page = Page(out / "index.html")
    ranks: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for record in read_store(full.store):
        if record.experiment == "accuracy":
            variant = f"{record.config.get('risa')} {record.config.get('features')}"
            ranks.setdefault((record.method, variant), []).append(
                pd.read_parquet(record.folder / "ranks.parquet")
            )
    everything = "True ['image', 'cf', 'text']"

    def mean(method: str, variant: str, candidates: str, metric: str) -> float:
        kind, _, cutoff = metric.partition("@")
        seeds = []
        for frame in ranks[method, variant]:
            gains = [
                {"hit": 1.0, "ndcg": 1 / math.log2(1 + rank), "mrr": 1 / rank}[kind]
                if kind == "mrr" or rank <= int(cutoff)
                else 0.0
                for rank in frame[f"rank_{candidates}"]
            ]
            seeds.append(math.fsum(gains) / len(gains))
        return math.fsum(seeds) / len(seeds)

    checked = 0
    for candidates, name in (("sampled", "table1"), ("full", "table1_full")):
        table = pd.read_csv(out / "tables" / f"{name}.csv")
        for line in table.to_dict("records"):
            variant = everything if (line["method"], everything) in ranks else "None None"
            expected = mean(line["method"], variant, candidates, line["metric"])
            assert line["mean"] == pytest.approx(expected, abs=1e-12), line
            checked += 1
    assert checked == 2 * 10 * 7
    accuracy = [rows for rows in page.tables if rows[0][0] == "" and "Dataset" in rows[1]]
    assert len(accuracy) == 2
    for rows, candidates in zip(accuracy, ("sampled", "full"), strict=True):
        trsr = rows[1].index("TRSR (summary)")
        line = next(row for row in rows if row[1] == "NDCG@20")
        assert line[trsr].startswith(f"{mean('trsr', everything, candidates, 'ndcg@20'):.4f}")
    ablation = pd.read_csv(out / "tables" / "table2_full.csv").set_index("row")
    assert ablation.at["d", "hit@5"] == pytest.approx(
        mean("illmrec", "True ['image', 'cf']", "full", "hit@5")
    )
    figure = pd.read_csv(out / "tables" / "figure1b.csv").set_index("method")
    assert figure.at["title", "ndcg@10"] == pytest.approx(mean("title", everything, "sampled", "ndcg@10"))


def test_best_and_second_are_marked_and_tested(out: Path, full) -> None:
    table = pd.read_csv(out / "tables" / "table1.csv")
    ndcg = table[table["metric"] == "ndcg@10"].sort_values("mean", ascending=False)
    best, second = ndcg.iloc[0], ndcg.iloc[1]
    assert ndcg["p_against_second"].notna().tolist() == [True] + [False] * (len(ndcg) - 1)
    values = {}
    for record in read_store(full.store):
        if record.experiment == "accuracy" and record.config.get("features") in (
            None,
            ["image", "cf", "text"],
        ):
            rank = pd.read_parquet(record.folder / "ranks.parquet")["rank_sampled"].to_numpy()
            values.setdefault(record.method, []).append(np.where(rank <= 10, 1 / np.log2(1 + rank), 0))
    difference = np.array(values[best["method"]]) - np.array(values[second["method"]])
    # Of users and of runs, both drawn anew; that of both together is small beside them.
    variance = sum(scipy.stats.sem(difference.mean(axis=axis)) ** 2 for axis in (0, 1))
    z = abs(difference.mean()) / variance**0.5
    assert best["p_against_second"] == pytest.approx(2 * scipy.stats.norm.sf(z), abs=0.05)
    latex = (out / "tables" / "table1.tex").read_text(encoding="utf-8")
    assert latex.count(r"\textbf{") == 7 and latex.count(r"\underline{") == 7
    markdown = (out / "tables" / "table1.md").read_text(encoding="utf-8")
    assert f"**{best['mean']:.4f}" in markdown and f"<u>{second['mean']:.4f}</u>" in markdown
    dagger = best["p_against_second"] < 0.05
    assert (r"$^\dagger$} $\pm$" in latex) == dagger
    page = (out / "index.html").read_text(encoding="utf-8")
    assert f"<b>{best['mean']:.4f}{'†' if dagger else ''}</b>" in page


def test_a_clear_lead_has_a_dagger_and_a_tie_has_none(filler) -> None:
    filler.accuracy("sasrec", 0.40, seeds=(0,))
    filler.accuracy("popularity", 0.20, seeds=(0, 1, 2))
    out = build_report(filler.store.out).parent
    # One training run decides nothing.
    assert "†</b>" not in (out / "index.html").read_text(encoding="utf-8")
    assert pd.read_csv(out / "tables" / "table1.csv")["p_against_second"].isna().all()
    filler.accuracy("sasrec", 0.40, seeds=(1, 2))
    build_report(out)
    assert "†</b>" in (out / "index.html").read_text(encoding="utf-8")
    assert pd.read_csv(out / "tables" / "table1.csv")["p_against_second"].min() < 0.01
    for record in read_store(filler.store):
        ranks = pd.read_parquet(record.folder / "ranks.parquet")
        ranks[["rank_sampled", "rank_full"]] = 3
        ranks.to_parquet(record.folder / "ranks.parquet")
    build_report(out)
    assert "†</b>" not in (out / "index.html").read_text(encoding="utf-8")
    assert pd.read_csv(out / "tables" / "table1.csv")["p_against_second"].min() == 1.0
