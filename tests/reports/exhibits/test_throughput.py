"""The engine's pace: numbers of figures and sentences, one exhibit a machine."""

from __future__ import annotations

import pytest
from engine_cells import MACHINE, throughput_cells
from page_reader import Page

from reports.build import build_report
from reports.drawing.engine_figures import throughput_figure
from reports.exhibits.exhibit import Exhibit, Gap
from reports.exhibits.throughput import exhibits
from reports.sections.results import read_store, whole_store


def shown(filler) -> list[Exhibit | Gap]:
    return exhibits(whole_store(read_store(filler.store), filler.store))


def exhibit(filler, name: str) -> Exhibit:
    (found,) = (item for item in shown(filler) if isinstance(item, Exhibit) and item.name == name)
    return found


def test_pace_is_what_was_measured(filler) -> None:
    throughput_cells(filler)
    found = exhibit(filler, "figure_throughput")
    frame = found.tables[0].data
    assert frame["phase"].tolist() == ["train-one"] * 5 + ["train-all"] * 4 + ["inference"] * 6
    engine = frame[frame["path"] == "engine"].set_index("phase")
    assert engine["speedup_vs_two_pass"].tolist() == pytest.approx([4, 15, 2.5])
    assert engine["samples_per_second"].tolist() == pytest.approx([8 / 3, 80 / 6, 8 / 1.6])
    # The slowest repeat took twice the median, the fastest half of it.
    assert engine["samples_low"].tolist() == pytest.approx((engine["samples_per_second"] / 2).tolist())
    assert engine["samples_high"].tolist() == pytest.approx((engine["samples_per_second"] * 2).tolist())
    assert (
        "Inference: 5 users/s at 94 % of the measured peak, 2.0 times those of two passes by length without the LM"
        " head, the strongest peer; 2.2 times those of two passes without padding; 2.5 times those of two padded passes"
        in found.reading
    )
    assert "10.0 times those of the released code's manner" in found.reading
    assert "1.25 times the users whose prompts llama.cpp runs" in found.reading
    strongest = found.tables[0].data.set_index(["phase", "path"])["speedup_vs_strongest"]
    assert strongest["train-one", "engine"] == pytest.approx(8 / 3)
    assert strongest["train-all", "engine"] == pytest.approx(80 / 6)
    assert strongest["inference", "llama.cpp"] == pytest.approx(3.2 / 2)
    assert strongest["inference", "padding-free"] == pytest.approx(3.2 / 3.6)
    assert found.notes[0].startswith("Measured on ") and "bfloat16, 2 threads" in found.notes[0]
    figure = throughput_figure(frame, "toyshop")
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        "Training,\none target a user",
        "Training,\nevery position",
        "Inference",
    ]
    widths = {round(bar.get_width(), 6) for bar in figure.axes[2].patches}
    assert widths == {round(value, 6) for value in (8 / 4, 8 / 3.2, 8 / 3.6, 8 / 16, 4.0, 8 / 1.6)}
    assert {text.get_text() for text in figure.axes[2].texts} == {
        "2 (0.8×)", "2.5 (1.0×)", "2.22 (0.9×)", "0.5 (0.2×)", "4 (1.6×)", "5 (2.0×)"
    }  # fmt: skip


def test_ratios_hold_within_one_run(filler) -> None:
    throughput_cells(filler, phases=("inference",))
    filler.date("2020-01-01T00:00:00+00:00")
    throughput_cells(filler, phases=("inference",), paths=("engine",), slower=3.0)
    found = exhibit(filler, "figure_throughput")
    assert found.tables[0].data["path"].tolist() == ["engine"]
    assert found.tables[0].data[["speedup_vs_two_pass", "speedup_vs_strongest"]].isna().all(axis=None)
    assert found.reading == "Inference: 1.67 users/s at 31 % of the measured peak."
    assert [text.get_text() for text in throughput_figure(found.tables[0].data, "x").axes[0].texts] == [
        "1.67"
    ]


def test_each_llm_and_machine_has_its_own(filler) -> None:
    throughput_cells(filler)
    throughput_cells(filler, device="cuda", machine={**MACHINE, "gpus": ["a GPU"]})
    filler.llm = {"name": "other", "layers": 2}
    throughput_cells(filler)
    names = [item.name for item in shown(filler) if isinstance(item, Exhibit)]
    assert len(names) == len(set(names)) == 3
    assert all(name.startswith("figure_throughput-toyshop") for name in names)
    page = Page(build_report(filler.store.out))
    assert len(page.all("img")) == 3


def test_older_settings_do_not_mix_with_the_newest(filler) -> None:
    throughput_cells(filler, lengths=[2, 3, 4], slower=9.0)
    filler.date("2020-01-01T00:00:00+00:00")
    throughput_cells(filler)
    frame = exhibit(filler, "figure_throughput").tables[0].data
    assert len(frame) == 15 and frame["seconds_median"].max() == 90
