"""Whether the engine computes what an LLM itself computes: checked when it is first used, and which way is right.

A few short prompts go through the LLM's own forward pass (:mod:`illmrec.model.reference`), one by one, and through the
engine, together: two users, branches at several places, a question and its answer, slots and ``[REC]``. The states that
are read must agree, and the loss of the answers with that of the LLM's own logits; then states of a longer prompt, and
of one through all blocks. Ways are tried from the fastest; an LLM that none suits is refused.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from illmrec import checksums
from illmrec.errors import InputError
from illmrec.files import cache_dir, hash_json
from illmrec.model.answer_loss import Logits
from illmrec.model.backbone import Backbone
from illmrec.model.comparison import Comparison, Differs, check_long, check_whole
from illmrec.model.engine import PLAIN, Execution
from illmrec.model.probe import make_probe

logger = logging.getLogger(__name__)

EXACT_BYTES = 8e9
"""Memory for a copy of the first blocks in float32, where agreement is exact up to rounding."""


_SOURCES = (
    "attention",
    "answer_loss",
    "check",
    "comparison",
    "engine",
    "flex",
    "kv_cache",
    "probe",
    "reference",
    "separate",
    "trunks",
)
_known: dict[str, Execution] = {}


def checked_execution(backbone: Backbone) -> Execution:
    """Return the fastest way of running an LLM that agrees with the LLM itself.

    The verdict is kept in memory and on disk under the LLM's content, its number of blocks, data type and kind of
    device, the versions of PyTorch and transformers, and this code.

    One that is to be run plainly is so, once it is known what becomes of its head's outputs.

    Raises:
        InputError: If none agrees, with what differs.
    """
    if not backbone.layers:
        return Execution(rows="pooled")
    if backbone.plain:
        return replace(PLAIN, logits=checked_execution(replace(backbone, plain=False)).logits)
    key = _key(backbone)
    if key not in _known:
        path = cache_dir() / "checks" / f"{key}.json"
        verdict = checksums.kept(path) or _verdict(backbone)
        if not path.exists():
            checksums.write_json(path, verdict)
        if verdict["refused"] is not None:
            raise InputError(f"--llm {backbone.name}: {verdict['refused']}; use another LLM")
        if verdict["slower"] is not None:
            logger.warning("%s: %s", backbone.name, verdict["slower"])
        logits = Logits(**verdict["execution"].pop("logits"))
        _known[key] = Execution(**verdict["execution"], logits=logits)
    return _known[key]


def _key(backbone: Backbone) -> str:
    folder = Path(__file__).parent
    sources = b"".join((folder / f"{name}.py").read_bytes() for name in _SOURCES)
    return hash_json(
        {
            **backbone.describe(),
            "name": backbone.fingerprint,
            "device": backbone.device.type,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "code": hashlib.sha256(sources).hexdigest(),
        }
    )


@torch.no_grad()
def _verdict(backbone: Backbone) -> dict[str, Any]:
    """Check an LLM: ``execution``, why it is not the fastest (``slower``), or why there is none (``refused``)."""
    logger.info("checking that %s computes here what it computes by itself, once", backbone.name)
    probe, first = make_probe(backbone), _first_blocks(backbone)
    try:
        comparisons = [Comparison(_in_float32(first), probe)]
        if comparisons[0].backbone is not first:
            comparisons.append(Comparison(first, probe, exact=comparisons[0]))
    except Differs as error:
        return {"execution": None, "slower": None, "refused": str(error)}
    reasons: dict[str, str] = {}
    for execution in _candidates(backbone):
        execution = replace(execution, logits=comparisons[0].logits)
        try:
            # A fused kernel may not exist in float32: where there is a copy, that one does without.
            exact = replace(execution, flex=False) if len(comparisons) > 1 else execution
            for comparison in comparisons:
                comparison.check(exact if comparison is comparisons[0] else execution)
            if execution.rows != "separate":
                check_long(comparisons[0].backbone, probe, exact)
            if first.layers < backbone.layers:
                check_whole(backbone, probe, execution)
        except Differs as error:
            reasons.setdefault(execution.rows, str(error))
            continue
        slower = None
        if execution.rows != "packed":
            slower = f"packed rows do not suit it ({reasons['packed']}); {execution.rows} rows are slower, same results"
        return {"execution": asdict(execution), "slower": slower, "refused": None}
    return {"execution": None, "slower": None, "refused": reasons["separate"]}


def _first_blocks(backbone: Backbone) -> Backbone:
    """Return the LLM with as many of its first blocks as there are kinds of them, not compiled; weights are shared."""
    blocks = backbone.blocks
    kinds = [_kind(block) for block in blocks]
    count = min(len(blocks), max(2, *(1 + kinds.index(kind) for kind in set(kinds))))
    # One memory of what was copied: parts that blocks share with the rest, the configuration first, stay shared.
    copied: dict[int, Any] = {
        id(tensor): tensor for tensor in (*backbone.model.parameters(), *backbone.model.buffers())
    }
    copied[id(blocks)] = nn.ModuleList(copy.deepcopy(block, copied) for block in blocks[:count])
    model = copy.deepcopy(backbone.model, copied)
    model.config.get_text_config().num_hidden_layers = count
    for module in model.modules():
        module.__dict__.pop("forward", None)
    return replace(backbone, model=model, layers=count, compiled=False)


def _kind(block: nn.Module) -> tuple[object, ...]:
    """Return what tells blocks of different code apart: their parts with the settings of each."""
    return tuple(
        (type(part).__name__, name, value)
        for part in block.modules()
        for name, value in sorted(vars(part).items())
        if isinstance(value, str | bool | int | float | None) and name not in ("layer_idx", "layer_id")
    )


def _in_float32(backbone: Backbone) -> Backbone:
    """Return a copy in float32; an LLM that would take too much memory is returned as it is."""
    parameters = sum(parameter.numel() for parameter in backbone.model.parameters())
    if backbone.dtype == torch.float32 or 4 * parameters > EXACT_BYTES:
        return backbone
    try:
        return replace(backbone, model=copy.deepcopy(backbone.model).float())
    except torch.OutOfMemoryError:
        return backbone


def _candidates(backbone: Backbone) -> Iterator[Execution]:
    """Yield ways of running an LLM, the fastest first."""
    for flex in (True, False) if backbone.device.type == "cuda" else (False,):
        for short_mlp in (True, False):
            yield Execution(rows="packed", flex=flex, short_mlp=short_mlp)
    yield Execution(rows="padded")
    yield Execution(rows="separate")
    yield Execution(rows="separate", attention="eager")
