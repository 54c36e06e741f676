"""Times of preparation in the report, beside inference."""

from __future__ import annotations

import pytest
from stored import shown

from reports.exhibits.exhibit import Exhibit, Gap


def prepared(filler, *, machine: dict | None = None, image: float = 300.0, summary: float = 9000.0) -> None:
    for kind, seconds in (("image", image), ("summary", summary)):
        filler.write(
            "preparation",
            {"method": kind, "device": "cpu", "machine": machine or {"cpu": "a CPU", "cores": 2}, "threads": 2},
            {
                "kind": kind, "encoder": "some", "items": 600, "seconds": seconds, "seconds_per_item": seconds / 600,
                "device": "cpu", "threads": 2, "finished": "2026-01-02T03:04:05+00:00",
            },
        )  # fmt: skip


def test_preparation_stands_beside_inference_with_the_papers_minutes(filler) -> None:
    filler.efficiency(["illmrec", "trsr", "title"], [5, 10])
    prepared(filler, image=300.0, summary=100.0)
    found = shown(filler, "Appendix E.5")
    assert isinstance(found, Exhibit)
    times, paid = (table.data for table in found.tables)
    assert times["seconds_per_item"].tolist() == [0.5, pytest.approx(100 / 600)]
    row = paid.set_index(["against", "history_length"]).loc[("TRSR (summary)", 10), :]
    needed = 200.0 / ((row["against_latency_ms"] - row["latency_ms"]) / 1e3)
    assert needed <= row["ahead_from"] < needed + 1
    assert (
        f"With |S_u| = 10, I-LLMRec, extraction counted, is ahead of TRSR from {int(row['ahead_from']):,} requests"
        in found.reading
    )
    assert "47 minutes" in found.paper and "15" in found.paper and "5 more" in found.paper
    assert "different machines" not in " ".join(found.notes)


def test_another_machine_is_said_and_what_is_not_timed_is_not_compared(filler) -> None:
    prepared(filler, machine={"cpu": "another"})
    filler.efficiency(["illmrec"], [5])
    found = shown(filler, "Appendix E.5")
    assert isinstance(found, Exhibit) and len(found.tables) == 1
    assert found.reading == "Once: image features 300.0 s for 600 items; summaries 9,000 s for 600 items."
    filler.efficiency(["trsr"], [5])
    found = shown(filler, "Appendix E.5")
    assert "from the first request on" in found.reading
    assert any("different machines" in note for note in found.notes)


def test_without_times_the_page_says_how_to_get_them(filler) -> None:
    filler.efficiency(["illmrec"], [5])
    found = shown(filler, "Appendix E.5")
    assert isinstance(found, Gap) and "bench.preparation" in found.command
