"""From a model and positions to their states: what is encoded together, and under which key it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from illmrec.files import cache_dir, hash_json
from illmrec.model.budget import reading_budget, token_batches
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import reads_features, reads_llm
from illmrec.prompts.packing import Fitted, Packed
from illmrec.states.positions import Positions
from illmrec.states.table import StateDtype, StateTable, in_memory
from illmrec.states.writing import TablePlan, begin_together, compute_states

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class _Window:
    """A history as it is read.

    Attributes:
        fitted: Cut to the context.
        boundaries: Int64 [positions], items of it before each state.
        rows: Int64 [positions], their rows in the table.
    """

    fitted: Fitted
    boundaries: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What of some positions is encoded together; parts are, each by itself.

    Attributes:
        windows: The histories.
        counts: Int [windows], tokens of each, with one ``[REC]`` at a boundary.
        batches: Per batch, int [n], numbers of windows.
        ends: Of each part, the number of batches up to its end.
    """

    windows: list[_Window]
    counts: np.ndarray
    batches: list[np.ndarray]
    ends: list[int]

    @classmethod
    def of(cls, model: ILLMRec, parts: Sequence[Positions]) -> _Reading:
        windows: list[_Window] = []
        batches: list[np.ndarray] = []
        counts, ends = [np.zeros(0, dtype=np.int64)], []
        budget, rows = reading_budget(model.engine.backbone.device), 0
        for part in parts:
            own = _windows(model, part, first_row=rows)
            counts.append(model.token_counts([w.fitted for w in own], [w.boundaries for w in own]))
            batches += [len(windows) + batch for batch in token_batches(counts[-1], token_budget=budget)]
            windows += own
            rows += len(part)
            ends.append(len(batches))
        return cls(windows=windows, counts=np.concatenate(counts), batches=batches, ends=ends)

    def rows(self, number: int) -> np.ndarray:
        """Return int64 [n], the rows of the table that a batch fills."""
        return np.concatenate([self.windows[window].rows for window in self.batches[number]])

    def tokens(self, number: int) -> int:
        """Return the tokens of a batch."""
        return int(self.counts[self.batches[number]].sum())

    @torch.inference_mode()
    def read(self, number: int, models: Sequence[ILLMRec]) -> list[Tensor]:
        """Return the standardised states of a batch, float32 [n, width], of each of models that differ in ``[REC]``."""
        parts = [self.windows[window] for window in self.batches[number]]
        reader, recs = models[0], torch.stack([model.rec for model in models])
        fitted, boundaries = [part.fitted for part in parts], [part.boundaries for part in parts]
        counts = reader.token_counts(fitted, boundaries, recs=len(recs))

        def states(tokens: int) -> list[Tensor]:
            found: list[Sequence[Tensor]] = [()] * len(parts)
            for chosen in token_batches(counts, token_budget=tokens):
                ends = [boundaries[place] for place in chosen]
                of_models = reader.read_each([fitted[place] for place in chosen], ends, recs)
                split = zip(*(read.split([len(end) for end in ends]) for read in of_models), strict=True)
                for place, of_window in zip(chosen, split, strict=True):
                    found[place] = of_window
            return [torch.cat(of_model) for of_model in zip(*found, strict=True)]

        read = reader.budget.run(states)
        return [model.standardised(found) for model, found in zip(models, read, strict=True)]


def encode_positions(
    model: ILLMRec,
    *parts: Positions,
    dtype: StateDtype = "float16",
    cache: Path | None = None,
    progress: bool = True,
) -> StateTable:
    """Return the table of positions' states, standardised by the model's calibration; computed if it is not there.

    Cost: with ``L`` items a window and ``t`` tokens an item, up to ``2 t`` tokens a target plus those of a retrieval
    branch, which with the instruction before the history is one token.

    Of an LLM that is run plainly, states stay in memory as they are, in float32.

    Args:
        model: The model, calibrated. Adaptors, ``[REC]``, LLM and prompts are part of the key; projectors are not.
        parts: Where states are read, one part after the other.
        dtype: Data type on disk.
        cache: Folder of caches; ``None`` is the user's.
        progress: Show a progress bar.

    Raises:
        InputError: If the disk has no room for it.
    """
    reading = _Reading.of(model, parts)
    plan = _table_plan(model, parts, reading, dtype=dtype, cache=cache)
    if model.plain:
        values = torch.zeros(sum(map(len, parts)), len(model.rec_mean))
        for number, rows in enumerate(plan.batches):
            values[torch.from_numpy(rows)] = reading.read(number, [model])[0].cpu()
        return in_memory(values, meta={**plan.meta, "dtype": "float32"})
    return compute_states(plan, lambda number: reading.read(number, [model])[0], progress=progress)


def begin_tables(
    models: Sequence[ILLMRec],
    parts: Sequence[Sequence[Positions]],
    *,
    dtype: StateDtype = "float16",
    cache: Path | None = None,
    progress: bool = True,
) -> None:
    """Encode what the tables of several models begin with at once: each history is read once for all of them.

    :func:`encode_positions` completes each table when it is wanted.

    Cost: with ``M`` models, ``2 t`` tokens a target and ``M`` retrieval branches, in place of ``M`` times ``2 t`` and
    ``M`` branches.

    Args:
        models: Calibrated models that differ in nothing that is read but ``[REC]``; nothing that learns is in a
            history. Their states may be standardised differently.
        parts: Of each model, what :func:`encode_positions` will be given; the first parts are read at once, up to one
            that is not that of all.
        dtype: Data type on disk.
        cache: Folder of caches; ``None`` is the user's.
        progress: Show a progress bar.

    Raises:
        InputError: If the disk has no room for it.
    """
    digests = [tuple(_digest_of(part) for part in of_model) for of_model in parts]
    different = dict(zip(digests, parts, strict=True))
    readings = {digest: _Reading.of(models[0], of_model) for digest, of_model in different.items()}
    shared = len(list(takewhile(lambda of_models: len(set(of_models)) == 1, zip(*digests, strict=True))))
    first = readings[digests[0]]
    plans = [
        _table_plan(model, of_model, readings[digest], dtype=dtype, cache=cache)
        for model, of_model, digest in zip(models, parts, digests, strict=True)
    ]
    begin_together(
        plans,
        lambda number, wanted: first.read(number, [models[place] for place in wanted]),
        batches=first.ends[shared - 1] if shared else 0,
        progress=progress,
    )


def _table_plan(
    model: ILLMRec, parts: Sequence[Positions], reading: _Reading, *, dtype: StateDtype, cache: Path | None
) -> TablePlan:
    meta: dict[str, Any] = {
        "version": _VERSION,
        "model": encoder_key(model),
        "positions": _digest_of(*parts),
        "dtype": dtype,
    }
    numbers = range(len(reading.batches))
    return TablePlan(
        directory=(cache_dir() if cache is None else cache) / "states" / hash_json(meta),
        width=len(model.rec_mean),
        dtype=dtype,
        batches=[reading.rows(number) for number in numbers],
        tokens=[reading.tokens(number) for number in numbers],
        meta={**meta, "tokens": int(reading.counts.sum())},
    )


def rows_of(model: ILLMRec, *parts: Positions) -> Iterator[Packed]:
    """Yield what :func:`encode_positions` puts through the LLM, pass by pass; nothing is computed."""
    if not reads_llm(model.readout):
        return
    reading = _Reading.of(model, parts)
    for batch in reading.batches:
        windows = [reading.windows[window] for window in batch]
        yield model.pack([w.fitted for w in windows], [w.boundaries for w in windows])


def encoder_key(model: ILLMRec) -> str:
    """Return 16 hexadecimal digits over all that a model's standardised states depend on, histories aside."""
    prompts, backbone = model.prompts, model.engine.backbone
    shown = (prompts.task, prompts.instruction, prompts.items.ids, prompts.items.offsets)
    tensors = {
        name: value
        for name, value in (*model.named_parameters(), *model.named_buffers())
        if "projector" not in name
        and name.removeprefix("mean_").removeprefix("features_") not in _unread(model)
    }
    embedded = {name: _digest([table]) for name, table in model.embedded.items()}
    return hash_json(
        {
            **({"embedded": embedded} if embedded else {}),
            "llm": [backbone.fingerprint, backbone.describe()["layers"], str(backbone.dtype)],
            "prompts": _digest(shown),
            "context": [prompts.context, prompts.limit],
            "readout": model.readout,
            "tensors": {name: _digest([_bits(value)]) for name, value in tensors.items()},
        }
    )


def _unread(model: ILLMRec) -> set[str]:
    """Return the feature types that score items and are not read, in a slot or as they are."""
    return set() if reads_features(model.readout) else set(model.heads) - set(model.slots)


def _digest_of(*parts: Positions) -> str:
    trunks = [trunk for part in parts for trunk in part.trunks]
    return _digest([*trunks, *(ends for part in parts for ends in part.boundaries)])


def _digest(arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}:".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _bits(value: Tensor) -> np.ndarray:
    """Return a tensor as an array; numpy has no bfloat16."""
    value = value.detach().cpu()
    return (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()


def _windows(model: ILLMRec, positions: Positions, *, first_row: int) -> list[_Window]:
    """Cut windows to the context; positions in what was cut off are read in windows of their own."""
    starts = positions.starts + first_row
    todo = [
        (trunk, ends, start + np.arange(len(ends)))
        for trunk, ends, start in zip(positions.trunks, positions.boundaries, starts, strict=True)
    ]
    windows = []
    while todo:
        trunk, ends, rows = todo.pop()
        fitted = model.prompts.fit(trunk)
        inside = ends - (len(trunk) - len(fitted.items))
        kept = inside > 0
        windows.append(_Window(fitted=fitted, boundaries=inside[kept], rows=rows[kept]))
        if not kept.all():
            lost = ends[~kept]
            todo.append((trunk[: lost[-1]], lost, rows[~kept]))
    return windows
