"""From a model and positions to their states: what is encoded together, and under which key it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from illmrec.states.table import StateDtype, StateTable, compute_states, in_memory

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


def encode_positions(
    model: ILLMRec,
    positions: Positions,
    *,
    dtype: StateDtype = "float16",
    cache: Path | None = None,
    progress: bool = True,
) -> StateTable:
    """Return the table of the positions' states, standardised by the model's calibration; computed if it is not there.

    Cost: with ``L`` items a window and ``t`` tokens an item, up to ``2 t`` tokens a target plus those of a retrieval
    branch, which with the instruction before the history is one token.

    Of an LLM that is run plainly, states stay in memory as they are, in float32.

    Args:
        model: The model, calibrated. Adaptors, ``[REC]``, LLM and prompts are part of the key; projectors are not.
        positions: Where states are read.
        dtype: Data type on disk.
        cache: Folder of caches; ``None`` is the user's.
        progress: Show a progress bar.

    Raises:
        InputError: If the disk has no room for it.
    """
    windows, counts, batches = _planned(model, positions)
    meta: dict[str, Any] = {
        "version": _VERSION,
        "model": encoder_key(model),
        "positions": _digest([*positions.trunks, *positions.boundaries]),
        "dtype": dtype,
    }

    @torch.inference_mode()
    def encode(number: int) -> Tensor:
        batch = batches[number]

        def states(tokens: int) -> Tensor:
            read = []
            for rows in token_batches(counts[batch], token_budget=tokens):
                parts = [windows[row] for row in batch[rows]]
                read.append(model.read([p.fitted for p in parts], [p.boundaries for p in parts]))
            return model.standardised(torch.cat(read))

        return model.budget.run(states)

    if model.engine.backbone.plain:
        values = torch.zeros(len(positions), len(model.rec_mean))
        for number, batch in enumerate(batches):
            values[torch.from_numpy(np.concatenate([windows[row].rows for row in batch]))] = encode(
                number
            ).cpu()
        return in_memory(values, meta={**meta, "dtype": "float32", "tokens": int(counts.sum())})
    return compute_states(
        (cache_dir() if cache is None else cache) / "states" / hash_json(meta),
        positions=len(positions),
        width=len(model.rec_mean),
        dtype=dtype,
        batches=[np.concatenate([windows[row].rows for row in batch]) for batch in batches],
        tokens=[int(counts[batch].sum()) for batch in batches],
        encode=encode,
        meta={**meta, "tokens": int(counts.sum())},
        progress=progress,
    )


def rows_of(model: ILLMRec, positions: Positions) -> Iterator[Packed]:
    """Yield what :func:`encode_positions` puts through the LLM, pass by pass; nothing is computed."""
    windows, _, batches = _planned(model, positions)
    if not reads_llm(model.readout):
        return
    for batch in batches:
        parts = [windows[row] for row in batch]
        yield model.pack([part.fitted for part in parts], [part.boundaries for part in parts])


def _planned(model: ILLMRec, positions: Positions) -> tuple[list[_Window], np.ndarray, list[np.ndarray]]:
    """Return windows, the tokens of each, and which of them are encoded together."""
    windows = _windows(model, positions)
    counts = model.token_counts([w.fitted for w in windows], [w.boundaries for w in windows])
    budget = reading_budget(model.engine.backbone.device)
    return windows, counts, list(token_batches(counts, token_budget=budget))


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


def _windows(model: ILLMRec, positions: Positions) -> list[_Window]:
    """Cut windows to the context; positions in what was cut off are read in windows of their own."""
    starts = positions.starts
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
