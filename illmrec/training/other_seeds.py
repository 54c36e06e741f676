"""Stored states of several seeds: what a frozen LLM reads of a history is read once for all of them.

Without a slot that an adaptor fills, the models of two seeds differ before any training in ``[REC]`` alone, and that
stands in branches behind the history.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from illmrec.data.splits import Split
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import reads_llm
from illmrec.states.encoding import begin_tables
from illmrec.states.positions import Positions
from illmrec.states.table import StateDtype
from illmrec.training.calibration import calibrate_by_table

logger = logging.getLogger(__name__)


def begin_for_seeds(
    model: ILLMRec,
    split: Split,
    parts: Mapping[int, Sequence[Positions]],
    *,
    validated: int,
    dtype: StateDtype,
    cache: Path | None = None,
    progress: bool = True,
) -> None:
    """Encode what the tables of several seeds begin with at once, where seeds differ in ``[REC]`` alone.

    Else, for one seed, and with an LLM that is run plainly, nothing is done: each table is then encoded by itself.

    Args:
        model: The model of the first seed, calibrated and not trained.
        split: Whose users others are calibrated by.
        parts: By seed, the positions of its table, what all of them have first.
        validated: Users whose validation chooses an epoch.
        dtype: Data type on disk.
        cache: Folder of caches; ``None`` is the user's.
        progress: Show a progress bar.
    """
    drawn = len(model.adaptors) > 0 or any(parameter.requires_grad for parameter in model.llm.parameters())
    if len(parts) < 2 or drawn or model.plain or not reads_llm(model.readout):
        return
    models = [model]
    for seed in list(parts)[1:]:
        models.append(model.with_rec_of(seed))
        calibrate_by_table(models[-1], split, seed=seed, validated=validated, cache=cache)
    logger.info("states of %d seeds: each history is read once for all of them", len(parts))
    begin_tables(models, list(parts.values()), dtype=dtype, cache=cache, progress=progress)
