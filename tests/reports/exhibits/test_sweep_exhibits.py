"""Exhibits of the sweeps: the cells they are made from, their numbers, and what is said where there are none."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pandas as pd
import pytest

from reports.build import build_report
from reports.drawing.sweep_figures import Panel, lines_figure, ranges_figure
from reports.exhibits.curves import curves
from reports.sections.methods import FEATURE_LOOKS, method_styles
from reports.sections.results import read_sections, read_store
from reports.wording.wording import growth

FULL = {"risa": True, "features": ("image", "cf", "text")}


@pytest.fixture
def out(filler):
    return filler.store.out


def table(out, name: str) -> pd.DataFrame:
    return pd.read_csv(out / "tables" / f"{name}.csv")


def ndcg(record) -> float:
    rank = pd.read_parquet(record.folder / "ranks.parquet")["rank_sampled"].to_numpy()
    return float(np.where(rank <= 10, 1 / np.log2(1 + rank), 0).mean())


def similarities(**scores: float) -> pd.DataFrame:
    """Return cosines of fifty items; the own description is mostly the closer one."""
    random = np.random.default_rng(5)
    pairs = {"matched": random.normal(0.5, 0.1, 50), "shuffled": random.normal(0.1, 0.1, 50)}
    return pd.DataFrame({"item": range(50), **pairs, **scores})


def test_context_budgets(filler, out) -> None:
    stored = {
        (method, budget): filler.accuracy(method, value, seeds=(0, 1), evaluation={"context": budget}, **FULL)
        for method, values in {"illmrec": (0.39, 0.4), "trsr": (0.2, 0.37)}.items()
        for budget, value in zip((256, 4096), values, strict=True)
    }
    filler.accuracy("illmrec", 0.4, **FULL)
    page = build_report(out).read_text(encoding="utf-8")
    found = table(out, "figure4").set_index(["series", "x"])
    assert len(found) == 4
    for place, records in stored.items():
        values = [ndcg(record) for record in records]
        assert found.at[place, "mean"] == pytest.approx(statistics.mean(values))
        assert found.at[place, "stderr"] == pytest.approx(statistics.stdev(values) / math.sqrt(2))
    assert (out / "figures" / "figure4.svg").is_file()
    first, last = found.at[("trsr", 256), "mean"], found.at[("trsr", 4096), "mean"]
    assert f"TRSR (summary) {first:.4f} to {last:.4f} (+{last - first:.4f})" in page


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (
            [10, 12, 14],
            [4, 11, 18],
            "I-LLMRec is faster than TALLRec (attributes) from about 6.8 items of history on.",
        ),
        ([10, 12, 14], [11, 13, 15], "I-LLMRec is faster than TALLRec (attributes) at every length."),
        ([10, 12, 14], [4, 5, 6], "I-LLMRec is slower than TALLRec (attributes) at |S_u| = 10."),
    ],
)
def test_figure_3_says_where_ours_becomes_faster(ours, theirs, expected) -> None:
    frame = pd.DataFrame(
        {
            "method": ["illmrec"] * 3 + ["tallrec"] * 3,
            "history_length": [2, 6, 10] * 2,
            "latency_ms_median": [*ours, *theirs],
        }
    )
    styles = method_styles(["illmrec", "tallrec"])
    assert growth(frame, styles).endswith(expected)
    assert "faster" not in growth(frame[frame["method"] == "tallrec"], styles)


def test_groups_of_items_and_users_and_unseen_items(filler, out) -> None:
    filler.ablation("bcd", seeds=(0,))
    filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    targets = pd.read_parquet(filler.popularity().folder / "targets.parquet").set_index("user_id")
    build_report(out)
    cf = next(r for r in read_store(filler.store) if r.config.get("features") == ["cf"])
    ranks = pd.read_parquet(cf.folder / "ranks.parquet").set_index("user_id")["rank_sampled"]
    gain = pd.Series(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0), index=ranks.index)
    figure6 = table(out, "figure6").set_index(["series", "x"])
    assert set(figure6.index.get_level_values("series")) == set(FEATURE_LOOKS) - {"all"}
    coldest = gain[targets.loc[gain.index, "item_group"] == 1].mean()
    assert figure6.at[("cf", 1), "mean"] == pytest.approx(coldest)
    unseen = gain[targets.loc[gain.index, "target_frequency"] == 0].mean()
    assert table(out, "table_unseen").set_index(["series", "x"]).at[
        ("cf", "unseen"), "mean"
    ] == pytest.approx(unseen)
    assert table(out, "figure11")["x"].nunique() == 5


def test_missing_images_and_image_quality(filler, out) -> None:
    of = filler.dataset["fingerprint"]
    for method in ("illmrec", "tallrec", "trsr"):
        filler.accuracy(method, 0.4, seeds=(0,), **FULL)
    for fraction in (0.5, 1.0):
        variant = {"kind": "missing-images", "substitutes": "zero", "fraction": fraction, "of": of}
        filler.accuracy("illmrec", 0.3, seeds=(0,), variant=variant, **FULL)
    for amount in (16, 64):
        variant = {"kind": "image-quality", "degradation": "resolution", "amount": amount, "of": of}
        filler.accuracy("illmrec", 0.3, seeds=(0,), variant=variant, **FULL)
    page = build_report(out).read_text(encoding="utf-8")
    missing = table(out, "table8")
    assert sorted(missing["x"]) == [0, 0.5, 1] and set(missing["series"]) == {"zero"}
    assert "I-LLMRec, zero vector instead" in page
    assert sorted(table(out, "table9")["x"]) == [16, 64]
    assert page.count('<section id="section') == 1


def test_tokens_lengths_and_overlap(filler, out) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    for length in (1, 5):
        filler.accuracy("illmrec", 0.3, seeds=(0,), evaluation={"history_length": length}, **FULL)
    filler.efficiency(["illmrec"], [2])
    tokens = pd.DataFrame({"tokens": range(101)})
    filler.write(
        "token_cost",
        {"method": "illmrec", "llm": "smollm2-135m", "history_length": 10, "context": None},
        {},
        {"items": tokens, "prompts": tokens * 9},
    )
    cosines = {
        "items": 50, "matched": 0.5, "stderr_matched": 0.1,
        "shuffled": 0.1, "stderr_shuffled": 0.1, "matched_above_shuffled": 0.9,
    }  # fmt: skip
    filler.write(
        "overlap",
        {"method": "clip", "overlap": None, "family": None, "measured_by": "text tower"},
        cosines,
        {"similarities": similarities()},
    )
    page = build_report(out).read_text(encoding="utf-8")
    distribution = table(out, "figure1a_distribution").set_index("unit")
    assert distribution.loc["item", ["p5", "median", "p95"]].tolist() == [5, 50, 95]
    assert distribution.at["prompt", "max"] == 900
    assert sorted(table(out, "figure3_accuracy")["x"]) == [1, 5, 10]
    assert "0.50 with their own description against 0.10 with another&#39;s (clip)" in page


def test_what_is_not_stored_names_its_command(filler, out) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    page = build_report(out).read_text(encoding="utf-8")
    for name in (
        "token_cost", "sequence_length", "context_budget", "item_popularity", "user_activity", "unseen_items",
        "missing_images", "image_quality", "overlap",
    ):  # fmt: skip
        assert f"python -m bench.{name} --dataset toyshop" in page, name


def test_positions_of_the_overlap_knob_are_one_section(filler, another, out) -> None:
    fingerprints = {0.0: "aa" * 8, 0.5: "bb" * 8, 1.0: "cc" * 8}
    for knob, fingerprint in fingerprints.items():
        filler.dataset = {"name": f"toyshop-overlap{knob:g}", "fingerprint": fingerprint}
        filler.accuracy("illmrec", 0.3 + 0.1 * knob, seeds=(0,), **FULL)
        filler.write(
            "overlap",
            {"method": "clip", "overlap": knob, "family": {"name": "toyshop"}, "measured_by": "text tower"},
            {
                "items": 50, "matched": 0.5, "stderr_matched": 0.1,
                "shuffled": 0.1, "stderr_shuffled": 0.1, "matched_above_shuffled": 0.9,
            },
            {"similarities": similarities()},
        )  # fmt: skip
    filler.dataset = {"name": "toyshop", "fingerprint": fingerprints[0.5]}
    filler.accuracy("sasrec", 0.3, seeds=(0,))
    (section,) = read_sections(read_store(filler.store))
    assert section.fingerprint == fingerprints[0.5]
    build_report(out)
    assert table(out, "figure1c_accuracy")["x"].tolist() == [0, 0.5, 1]
    # What a position was otherwise used for is shown as its own data set.
    filler.dataset = {"name": "toyshop", "fingerprint": fingerprints[1.0]}
    filler.accuracy("popularity", 0.1, seeds=(0,))
    assert {section.fingerprint for section in read_sections(read_store(filler.store))} == {
        fingerprints[0.5],
        fingerprints[1.0],
    }


def test_cells_stored_before_prompts_were_counted_are_no_error(filler, out) -> None:
    for record in filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL):
        path = record.folder / "cell.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["results"]["prompt"]
        path.write_text(json.dumps(content), encoding="utf-8")
    assert build_report(out).is_file()


def test_curves_of_one_seed_have_the_error_over_users() -> None:
    frame = pd.DataFrame(
        {
            "candidates": ["sampled", "sampled", "full"],
            "seed": 0,
            "method": "illmrec",
            "context": [256, 512, 256],
            "ndcg@10": [0.3, 0.4, 0.1],
            "stderr_ndcg@10": [0.01, None, 0.02],
        }
    )
    found = curves(frame, "method", "context")
    assert found["mean"].tolist() == [0.3, 0.4]
    assert found["stderr"].iloc[0] == 0.01 and math.isnan(found["stderr"].iloc[1])


def test_lines_are_drawn_with_their_points_and_levels() -> None:
    points = pd.DataFrame(
        {
            "series": ["image", "image", "cf"],
            "x": [2.0, 1.0, 1.0],
            "mean": [0.3, 0.2, 0.1],
            "stderr": [0.01, np.nan, np.nan],
        }
    )
    levels = pd.DataFrame({"series": ["all", "image"], "mean": [0.5, 0.4]})
    panel = Panel(curves=points, levels=levels, xlabel="$x_{")
    figure = lines_figure([panel, panel], FEATURE_LOOKS, "title", "y")
    axes = figure.axes[0]
    lines = {line.get_color(): line for line in axes.lines if line.get_marker() == "o"}
    assert lines[FEATURE_LOOKS["image"].colour].get_xdata().tolist() == [1, 2]
    assert lines[FEATURE_LOOKS["image"].colour].get_ydata().tolist() == [0.2, 0.3]
    assert {0.4, 0.5} <= {line.get_ydata()[0] for line in axes.lines}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Image", "CF", "Image + CF + text"]
    figure.canvas.draw()


def test_ranges_leave_out_what_a_panel_lacks() -> None:
    frame = pd.DataFrame(
        {"method": ["image"], "p5": [1.0], "p25": [2.0], "median": [3.0], "p75": [4.0], "p95": [9.0]}
    )
    empty = frame.iloc[:0]
    figure = ranges_figure([("items", frame), ("prompts", empty)], FEATURE_LOOKS, "title")
    first, second = figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in first.patches] == [(2, 2)]
    assert not second.patches
    figure.canvas.draw()
