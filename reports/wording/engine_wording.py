"""What the throughput benchmark shows, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.frames import throughput
from reports.drawing.engine_figures import PHASE_LABELS, PHASE_UNITS

_WORDS = {
    throughput.SORTED: "two passes by length without the LM head",
    throughput.PADDING_FREE: "two passes without padding",
    throughput.TWO_PASS: "two padded passes",
    throughput.RELEASED_STYLE: "the released code's manner",
}


def paces(frame: pd.DataFrame) -> list[str]:
    """Return a sentence for each phase in which the engine was measured.

    Args:
        frame: What :func:`bench.frames.throughput.throughput_frame` returned.
    """
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
