"""Figures: what is drawn is the data; looks are distinct; labels keep apart; the front is right."""

from __future__ import annotations

import io
import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from bench.frames.tradeoff import on_front
from reports.drawing.densities import BINS, histogram
from reports.drawing.figures import (
    accuracy_figure,
    latency_figure,
    plain,
    style,
    tokens_figure,
    tradeoff_figure,
)
from reports.drawing.placement import spread
from reports.sections.methods import CONTROL_GROUP, IMAGE_GROUP, METHODS, TEXT_GROUP, method_styles

STYLES = method_styles([look.name for look in METHODS])


def png_size(figure) -> tuple[int, int]:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png")
    return Image.open(buffer).size


def luminance(colour: str) -> float:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_looks_are_distinct() -> None:
    for attribute in ("colour", "marker", "label"):
        values = [getattr(look, attribute) for look in METHODS]
        assert len(set(values)) == len(values), attribute


def test_bars_are_distinct_in_grey() -> None:
    for first, second in itertools.combinations(METHODS, 2):
        alike = abs(luminance(first.colour) - luminance(second.colour)) < 20
        assert not (alike and first.hatch == second.hatch), (first.name, second.name)


def test_looks_of_a_method_do_not_depend_on_the_others() -> None:
    assert method_styles(["trsr", "illmrec"])["trsr"] == STYLES["trsr"]


def test_methods_of_users_get_looks_of_their_own() -> None:
    styles = method_styles(["my.package:Mine", "my.package:Other", "illmrec"])
    assert list(styles) == ["illmrec", "my.package:Mine", "my.package:Other"]
    assert styles["my.package:Mine"].label == "Mine"
    assert styles["my.package:Mine"].colour not in {look.colour for look in METHODS}
    assert styles["my.package:Mine"].colour != styles["my.package:Other"].colour


def test_tokens_figure_draws_each_value() -> None:
    frame = pd.DataFrame({"method": ["illmrec", "trsr"], "tokens_per_item": [17.25, 56.5]})
    figure = tokens_figure(frame, STYLES, "toyshop")
    (axes,) = figure.axes
    assert {round(bar.get_width(), 2) for bar in axes.patches} == {17.25, 56.5}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["TRSR (summary)", "I-LLMRec"]
    assert {"17.2", "56.5"} <= {text.get_text() for text in axes.texts}


def test_latency_figure_draws_medians_and_percentiles() -> None:
    frame = pd.DataFrame(
        {
            "method": ["illmrec"] * 3 + ["trsr"] * 2,
            "history_length": [5, 2, 20, 2, 20],
            "latency_ms_median": [6.0, 5.0, 9.0, 8.0, 40.0],
            "latency_ms_p95_users": [6.5, 5.5, 9.5, np.nan, 44.0],
        }
    )
    (axes,) = latency_figure(frame, STYLES, "toyshop").axes
    lines = {line.get_color(): line for line in axes.lines if line.get_marker() not in ("None", "_", "|")}
    ours = lines[STYLES["illmrec"].colour]
    assert ours.get_xdata().tolist() == [2, 5, 20]
    assert ours.get_ydata().tolist() == [5, 6, 9]
    assert axes.get_ylim()[0] == 0
    tops = [
        segment[1][1]
        for collection in axes.collections
        for segment in collection.get_segments()
        if len(segment)
    ]
    assert {5.5, 6.5, 9.5, 44.0} <= set(np.round(tops, 6))
    assert {text.get_text() for text in axes.texts} == {"I-LLMRec", "TRSR (summary)"}


@pytest.mark.parametrize(("fastest", "scale"), [(0.2, "log"), (2.0, "linear")])
def test_latencies_that_are_far_apart_stand_on_a_logarithmic_scale(fastest: float, scale: str) -> None:
    frame = pd.DataFrame(
        {
            "method": [look.name for look in METHODS],
            "history_length": 10,
            "latency_ms_median": np.geomspace(fastest, 100.0, len(METHODS)),
            "latency_ms_p95_users": 110.0,
        }
    )
    (axes,) = latency_figure(frame, STYLES, "toyshop").axes
    assert axes.get_yscale() == scale
    places = sorted(text.xyann[1] for text in axes.texts if isinstance(text, Annotation))
    shown = axes.transData.transform([(10, place) for place in places])[:, 1]
    assert (np.diff(shown) > 0.1 * axes.figure.dpi).all(), "names of lines stand apart"


def test_latency_figure_of_one_point() -> None:
    frame = pd.DataFrame(
        {
            "method": ["illmrec"],
            "history_length": [2],
            "latency_ms_median": [5.0],
            "latency_ms_p95_users": [6.0],
        }
    )
    assert png_size(latency_figure(frame, STYLES, "toyshop"))[0] > 1200


def test_tradeoff_labels_overlap_no_other_label() -> None:
    # Those that have prompts, whose cost the figure shows.
    names = [look.name for look in METHODS if look.group in (CONTROL_GROUP, TEXT_GROUP, IMAGE_GROUP)]
    frame = pd.DataFrame(
        {
            "method": names,
            "latency_ms": np.linspace(10, 12, len(names)),
            "ndcg@10": np.linspace(0.30, 0.32, len(names)),
            "stderr": 0.001,
        }
    )
    frame["pareto"] = on_front(frame["latency_ms"], frame["ndcg@10"])
    assert frame["pareto"].all()
    figure = tradeoff_figure(frame, STYLES, "toyshop")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == len(names)
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))


def test_tradeoff_of_one_method_and_of_a_wide_range() -> None:
    one = pd.DataFrame(
        {"method": ["trsr"], "latency_ms": [3.0], "ndcg@10": [0.2], "stderr": [np.nan], "pareto": [True]}
    )
    assert png_size(tradeoff_figure(one, STYLES, "x"))[0] > 1200
    two = pd.concat([one, one.assign(method="illmrec", latency_ms=90.0)])
    assert tradeoff_figure(two, STYLES, "x").axes[0].get_xscale() == "log"


def test_accuracy_figure_leaves_out_what_is_missing() -> None:
    frame = pd.DataFrame(
        {
            "method": ["illmrec", "trsr", "illmrec"],
            "candidates": ["sampled", "sampled", "full"],
            "mean": [0.4, 0.3, 0.1],
            "stderr": [0.01, np.nan, 0.002],
        }
    )
    figure = accuracy_figure(frame, STYLES, "toyshop", {"sampled": "A", "full": "B"})
    assert [len(axes.patches) // 2 for axes in figure.axes] == [2, 1]


def test_text_of_users_is_drawn_as_it_is() -> None:
    frame = pd.DataFrame({"method": ["p:a$b_{$"], "tokens_per_item": [3.0]})
    figure = tokens_figure(frame, method_styles(["p:a$b_{$"]), "$\\frac{$ 日本 " + "long " * 40)
    assert png_size(figure)[0] > 1200
    title = figure.axes[0].get_title(loc="left")
    assert "??" in title and title.endswith("…")


def test_print_resolution_and_the_users_settings_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    frame = pd.DataFrame({"method": ["illmrec"], "tokens_per_item": [3.0]})
    assert png_size(tokens_figure(frame, STYLES, "toyshop"))[0] >= 6 * 200
    assert dict(matplotlib.rcParams) == before


def test_pareto_front_equals_brute_force() -> None:
    random = np.random.default_rng(0)
    costs, gains = random.integers(0, 8, 60), random.integers(0, 8, 60)
    expected = [
        not any(c <= cost and g >= gain and (c < cost or g > gain) for c, g in zip(costs, gains, strict=True))
        for cost, gain in zip(costs, gains, strict=True)
    ]
    assert on_front(costs, gains).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_spread_keeps_order_and_gaps(seed: int) -> None:
    wanted = np.random.default_rng(seed).normal(size=9)
    placed = spread(wanted, 0.4)
    assert (np.argsort(placed) == np.argsort(wanted)).all()
    assert np.diff(np.sort(placed)).min() >= 0.4 - 1e-9


def test_spread_leaves_what_is_apart() -> None:
    assert spread([3.0, 1.0], 0.5).tolist() == [3.0, 1.0]
    assert spread([], 0.5).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_spread_keeps_within_bounds_where_there_is_room(seed: int) -> None:
    wanted = np.random.default_rng(seed).normal(size=9)
    placed = spread(wanted, 0.2, low=-0.9, high=0.9)
    assert (np.argsort(placed) == np.argsort(wanted)).all()
    assert np.diff(np.sort(placed)).min() >= 0.2 - 1e-9
    assert placed.min() >= -0.9 - 1e-9 and placed.max() <= 0.9 + 1e-9
    assert np.diff(np.sort(spread(wanted, 0.5, low=0.0, high=1.0))).min() >= 0.5 - 1e-9


def test_equal_values_have_a_histogram() -> None:
    frame = histogram({"own": pd.Series([1.0, 1.0]), "another": pd.Series([1.0])}, "x", (-1, 1))
    assert len(frame) == 2 * BINS and frame.groupby("pair")["share"].sum().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("x\ufeffy\u200bz", "xyz"),  # a byte-order mark stopped the PDF
        ("_mug", " _mug"),  # a legend leaves out what begins so
        ("$\\frac{1}{$ $x$", "\\$\\frac{1}{\\$ \\$x\\$"),
        ("a\u202eb\x1b\n c", "a�b� c"),
        ("👩\u200d🔧 mug", "?? mug"),
        ("x" * 100_000, "x" * 69 + "…"),
        ("e" + "\u0301" * 1000, "e" + "\u0301" * 4),
    ],
)
def test_texts_from_users_are_drawn_as_text(text: str, drawn: str) -> None:
    shown = plain(text)
    assert shown == drawn
    figure = Figure()
    axes = figure.add_subplot(title=shown, xlabel=shown)
    axes.plot([0, 1], label=shown)
    axes.legend()
    for form in ("png", "svg", "pdf"):
        figure.savefig(io.BytesIO(), format=form)
    assert len(axes.get_legend().texts) == 1
