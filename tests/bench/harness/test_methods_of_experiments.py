"""Experiments on I-LLMRec take other LLM methods as well: their tables, and the report, tell methods apart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench import (
    ablation,
    backbones,
    catalogue_growth,
    image_quality,
    item_popularity,
    missing_images,
    training_strategy,
    unseen_items,
    user_activity,
)
from illmrec.command_line import run
from reports.build import build_report

METHODS = ["illmrec", "illmrec+", "tallrec"]

SETS = ["--features", "image,image+cf+text"]
EXPERIMENTS = {
    ablation: ["--rows", "b,e"],
    item_popularity: [*SETS, "--min-users", "1"],
    user_activity: [*SETS, "--min-users", "1"],
    unseen_items: [*SETS, "--min-users", "1"],
    missing_images: ["--fractions", "0,0.5"],
    image_quality: ["--resolutions", "16", "--jpeg-qualities", "", "--blurs", "", "--feature-sets", "image"],
    training_strategy: ["--strategies", "frozen,two-stage"],
    catalogue_growth: ["--shares", "0.9,1", "--feature-sets", "image+text"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llm: Path, tiny_encoders: list[str]) -> Path:
    """A store with all of them on three methods, one of which shows no image."""
    pytest.importorskip("recbole", reason="CF features")
    out = tmp_path_factory.mktemp("methods")
    common = [
        *("--preset", "smoke", "--max-steps", "2", "--batch-size", "4", "--validation-users", "0"),
        *("--users", "30", "--items", "250", "--min-interactions", "1", "--eval-users", "20"),
        *("--llm", str(tiny_llm), "--layers", "1", "--history-length", "3"),
        *tiny_encoders,
        *("--methods", ",".join(METHODS), "--no-progress", "--no-report", "--out", str(out)),
    ]
    for program, arguments in EXPERIMENTS.items():
        assert run(program.main, prog=program.__name__, args=[*common, *arguments]) == 0, program.__name__
    grid = ["--llms", f"{tiny_llm},{tiny_llm}@2", "--repeats", "1", "--group-users", "2"]
    assert run(backbones.main, prog="bench.backbones", args=[*common, *grid]) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", [program.__name__.removeprefix("bench.") for program in EXPERIMENTS])
def test_each_table_has_rows_of_each_method(finished, name):
    table = pd.read_csv(finished / "tables" / f"{name}.csv")
    rows = table.groupby("method").size()
    if name == "missing_images":
        # A text method is trained once; dropping a slot is I-LLMRec's alone.
        assert rows.to_dict() == {"illmrec": 12, "illmrec+": 8, "tallrec": 2}
    elif name == "training_strategy":
        # The first of two stages trains adaptors, of which a text method has none.
        assert rows.to_dict() == {"illmrec": 4, "illmrec+": 4}
    else:
        assert set(rows.index) == set(METHODS) and rows.nunique() == 1
    assert not table.duplicated([column for column in KEYS if column in table]).any()


KEYS = (
    "method", "row", "features", "seed", "group", "substitutes", "fraction", "degradation", "amount", "strategy",
    "trained_share", "served_share", "targets", "candidates",
)  # fmt: skip


@pytest.mark.slow
def test_the_report_shows_each_method_apart(finished):
    page = build_report(finished, ("png",)).read_text()
    tables = {path.stem for path in (finished / "tables").glob("*.csv")}
    for exhibit in (
        "figure6",
        "figure11",
        "table8",
        "table9",
        "table_unseen",
        "table3",
        "table11",
        "table_growth",
    ):
        assert {exhibit, f"{exhibit}-illmrec-plus"} <= tables, exhibit
    assert "table9-tallrec" in tables and not {"table8-tallrec", "table3-tallrec"} & tables
    assert {"table2", "table2-illmrec-plus", "table2-tallrec"} <= tables
    assert "Table 9 as a curve. Image quality, TALLRec (attributes)" in page
    ours = pd.read_csv(finished / "tables" / "table9.csv").set_index(["series", "x"])["mean"]
    theirs = pd.read_csv(finished / "tables" / "table9-tallrec.csv").set_index(["series", "x"])["mean"]
    stored = pd.read_csv(finished / "tables" / "image_quality.csv").query(
        "candidates == 'sampled' and degradation == 'resolution'"
    )
    stored = stored.set_index("method")["ndcg@10"]
    assert ours["image", 16] == pytest.approx(stored["illmrec"], abs=1e-5)
    assert theirs["image", 16] == pytest.approx(stored["tallrec"], abs=1e-5)
