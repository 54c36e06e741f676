"""Throughput: the engine beside plain padded passes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.frames import throughput
from bench.frames.selection import latest
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.engine_figures import PATH_LOOKS, PHASE_LABELS, PHASE_UNITS, throughput_figure
from reports.exhibits.engine_runs import (
    conditions,
    fastest_and_slowest,
    newest_runs,
    subject,
    where,
    with_suffixes,
    without,
)
from reports.exhibits.exhibit import Exhibit, Shown, gap
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.tables import frame_table
from reports.wording.wording import words

_TITLE = "Throughput. The engine beside plain padded passes"
_COLUMNS = {
    "seconds_median": "median seconds",
    "samples_per_second": "samples/s",
    "tokens_per_second": "tokens/s",
    "peak_memory_mb": "peak memory (MB)",
    "speedup_vs_two_pass": "times two-pass",
    "speedup_vs_strongest": "times the strongest peer",
    "samples_low": "slowest repeat",
    "samples_high": "fastest repeat",
}
_WORDS = {
    throughput.SORTED: "two passes by length without the LM head",
    throughput.PADDING_FREE: "two passes without padding",
    throughput.TWO_PASS: "two padded passes",
    throughput.RELEASED_STYLE: "the released code's manner",
}


def exhibits(section: Section) -> list[Shown]:
    """Return the pace of each path, for each data set, LLM and machine."""
    records = latest(section.stored, throughput.EXPERIMENT)
    if not records:
        return [gap(section, _TITLE, "no throughput cells", throughput.EXPERIMENT)]
    runs = newest_runs(records, place=where, run=without("method", "phase", "beside"))
    return [_pace(section, suffix, run) for suffix, run in with_suffixes(runs)]


def _pace(section: Section, suffix: str, run: Sequence[Record]) -> Exhibit:
    # A ratio holds among the paths that took turns.
    phases = newest_runs(
        run, place=lambda cell: str(cell.config["phase"]), run=lambda cell: json.dumps(cell.config["beside"])
    )
    cells = [cell for phase in phases for cell in phase]
    low, high = fastest_and_slowest(cells, section.store)
    samples = [cell.results["samples"] for cell in cells]
    by_cell = pd.DataFrame(
        {
            "phase": [cell.config["phase"] for cell in cells],
            "path": [cell.method for cell in cells],
            "samples_low": [count / seconds for count, seconds in zip(samples, high, strict=True)],
            "samples_high": [count / seconds for count, seconds in zip(samples, low, strict=True)],
        }
    )
    frame = throughput.throughput_frame(cells).merge(by_cell, on=["phase", "path"], validate="one_to_one")
    config = cells[0].config
    repeats = words(sorted({cell.results["repeats"] for cell in cells}))
    name, on = f"figure_throughput{suffix}", subject(config)
    reading = " ".join(_paces(frame)) or "The engine was not measured here."
    return Exhibit(
        name=name,
        title=_TITLE,
        reading=reading,
        notes=(
            conditions(cells[-1]),
            f"{len(config['users'])} users with histories of {min(config['lengths'])} to"
            f" {max(config['lengths'])} items; medians over {repeats} repeats, whiskers span the repeats."
            " The paths of a phase took turns in one run.",
            "Tokens were put through the LLM, padding included. Utilisation is useful work over time and the"
            " matrix-product peak measured in the same run. Peak memory is that of the whole process on a CPU,"
            " of tensors on CUDA.",
            "The strongest peer, whose pace brackets compare with, is the fastest path with the same weights"
            " and results that is not the engine. llama.cpp runs the prompts alone, with 4-bit weights.",
        ),
        commands=commands(cells),
        tables=(frame_table(name, f"Throughput, {on}", frame, _COLUMNS, {"path": PATH_LOOKS}),),
        figure=drawing(throughput_figure, frame, on),
        alt=f"Bar charts of samples per second and of peak memory. {reading}",
    )


def _paces(frame: pd.DataFrame) -> list[str]:
    """Return a sentence for each phase in which the engine was measured."""
    sentences = []
    for phase, label in PHASE_LABELS.items():
        rows = frame[frame["phase"] == phase].set_index("path")
        if throughput.ENGINE not in rows.index:
            continue
        own = rows.loc[throughput.ENGINE]
        peers = rows.loc[rows.index.isin(throughput.PEERS), "samples_per_second"]
        strongest = str(peers.idxmax()) if len(peers) > 1 else None
        ratios = [
            f"{own['samples_per_second'] / peers[path]:.1f} times those of {_WORDS[path]}"
            + (", the strongest peer" if path == strongest else "")
            for path in peers.sort_values(ascending=False).index
        ]
        compared = f", {'; '.join(ratios)}" if ratios else ""
        share = own["utilisation"]
        used = f" at {100 * share:.0f} % of the measured peak" if np.isfinite(share) else ""
        if throughput.COMPILED in rows.index:
            more = rows.at[throughput.COMPILED, "samples_per_second"] / own["samples_per_second"]
            compared += f"; compiled, {more:.2f} times as many"
        if throughput.LLAMA_CPP in rows.index:
            times = own["samples_per_second"] / rows.at[throughput.LLAMA_CPP, "samples_per_second"]
            compared += f"; {times:.2f} times the users whose prompts llama.cpp runs"
        sentences.append(f"{label}: {own['samples_per_second']:.3g} {PHASE_UNITS[phase]}{used}{compared}.")
    return sentences
