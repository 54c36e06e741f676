"""Latency against accuracy at each length of history."""

from __future__ import annotations

from stored import section_of, trained

from reports.exhibits.page_order import section_exhibits


def test_the_front_at_each_length_of_history(filler) -> None:
    # By the fixture's latencies the image is faster than attributes, attributes than the summary.
    filler.efficiency(["illmrec", "tallrec", "trsr"], [5, 10])
    for method, ndcg in {"illmrec": 0.3, "tallrec": 0.25, "trsr": 0.4}.items():
        trained(filler, ndcg, method=method)
    shown = section_exhibits(section_of(filler))
    exhibit = next(entry for entry in shown if entry.title == "Figure 1(b) at each length of history")
    table = exhibit.tables[0].data.set_index(["method", "history_length"])["on_front"]
    assert table.to_dict() == {
        (method, length): method != "tallrec"
        for method in ("tallrec", "trsr", "illmrec")
        for length in (5, 10)
    }
    assert "I-LLMRec at every length" in exhibit.reading and "TALLRec" not in exhibit.reading
