"""The engine's states and losses beside the LLM's own, for a few short prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from illmrec.model.answer_loss import Logits, answer_loss
from illmrec.model.backbone import Backbone
from illmrec.model.engine import Engine, Execution
from illmrec.model.probe import Probe
from illmrec.model.reference import Outputs, plain_outputs, windows_of
from illmrec.model.separate import separate_prompts
from illmrec.model.trunks import Trunks
from illmrec.prompts.packing import Packed

TOLERANCE = 1e-4
"""Of float32 states, in units of how much the states of different tokens differ. Rounding gave 1e-6 after two blocks
of SmolLM2 and 1e-5 after 30."""

COARSE = 0.5
"""The same in half precision at most: bfloat16 gave 0.05 after 30 blocks, other users' tokens or wrong positions 1."""

WINDOW = 12
"""Positions of sliding windows while they are compared: the prompts are longer."""


class Differs(Exception):
    """What the engine computes is not what the LLM computes, or the LLM computes nothing that the engine could."""


class Comparison:
    """An LLM's own results for the probe, and how the engine's are compared with them.

    Args:
        backbone: The LLM.
        probe: The prompts.
        exact: The same in float32: how far the LLM itself is from it, in its own data type, is what rounding does.

    Raises:
        Differs: If the LLM cannot be used in any way.
    """

    def __init__(self, backbone: Backbone, probe: Probe, *, exact: Comparison | None = None) -> None:
        self.backbone, self.probe = backbone, probe
        self.logits: Logits
        self.tolerance: float
        if getattr(backbone.model.config.get_text_config(), "hidden_size_per_layer_input", None):
            raise Differs("its per-layer embeddings need token ids, which slots have not")
        # Per prompt, its rows and which of the probe's positions are read in it.
        self._prompts = list(separate_prompts(probe.packed, probe.positions))
        self._inputs = probe.inputs(backbone, probe.packed)
        self._outputs = self._own(self._inputs)
        every = torch.cat([output.states for output in self._outputs])
        if every.ndim != 2 or every.shape[1] != backbone.width:
            raise Differs(
                f"its final states have {every.shape[-1]} numbers, its token embeddings {backbone.width}"
            )
        spread = every.std(dim=0)
        # Numbers that hardly vary say nothing.
        self._spread = spread.clamp_min(float(spread.mean()) / 10)
        if exact is not None:
            self.tolerance = _allowed(self._distance(self._read(self._outputs), exact._read(exact._outputs)))
            self.logits = exact.logits
        else:
            self.tolerance = TOLERANCE if backbone.dtype == torch.float32 else self._rounding()
            self.logits = self._check_model()
        with windows_of(backbone, WINDOW) as any_window:
            self._windowed = self._own(self._inputs) if any_window else None

    def check(self, execution: Execution) -> None:
        """Compare the engine with the LLM.

        Raises:
            Differs: If they do not agree, or the LLM cannot be run so.
        """
        if execution.rows != "separate" and (reason := _beside_attention(self.backbone)):
            raise Differs(reason)
        if execution.rows == "packed" and not getattr(
            self.backbone.model, "_supports_attention_backend", False
        ):
            raise Differs("its code does not let attention be replaced")
        states = self._check_states(execution, self._outputs, "the states of {what} differ")
        if self._windowed is not None:
            with windows_of(self.backbone, WINDOW):
                self._check_states(execution, self._windowed, "the states of {what} differ beyond its window")
        answers = torch.from_numpy(self.probe.packed.answer_ids).to(states.device)
        logits = self._read(self._outputs, of="logits")[-len(answers) :]
        own_loss = float(functional.cross_entropy(logits, answers))
        head, told = self.backbone.head, states[-len(answers) :]
        loss = float(answer_loss(head, told, answers, logits=execution.logits)) / len(answers)
        if not abs(loss - own_loss) <= self.tolerance * max(1.0, own_loss):
            raise Differs(f"the loss of answers is {loss:.4g}, its own {own_loss:.4g}")

    def _check_states(self, execution: Execution, outputs: list[Outputs], message: str) -> Tensor:
        """Compare the engine's states with the LLM's own, and where a row goes on from another, those as well."""
        own = self._read(outputs)
        states = _engine_states(self.backbone, self.probe, execution)
        self._agree(states, own, message)
        if Engine(self.backbone, execution=execution).goes_on:
            behind = _engine_states(self.backbone, self.probe, execution, trunks=Trunks())
            self._agree(behind, own, f"{message}, behind a history that was read before,")
        return states

    def _agree(self, ours: Tensor, theirs: Tensor, message: str) -> None:
        answers = len(self.probe.packed.answer_positions)
        for what, part in (("[REC]", slice(-answers)), ("answers", slice(-answers, None))):
            distance = self._distance(ours[part], theirs[part])
            if not distance <= self.tolerance:
                raise Differs(f"{message.format(what=what)} by {distance:.2g} of their spread")

    def _distance(self, ours: Tensor, theirs: Tensor) -> float:
        """Return the largest root mean square difference of a token's state."""
        return float(((ours - theirs) / self._spread).square().mean(dim=1).sqrt().max())

    def _own(self, inputs: Tensor) -> list[Outputs]:
        """Return what the LLM itself gives for each prompt."""
        return [
            _plain(self.backbone, embeddings=_prompt(self.backbone, self.probe.packed, inputs, rows))
            for rows, _ in self._prompts
        ]

    def _read(self, outputs: list[Outputs], *, of: str = "states") -> Tensor:
        """Return states or logits at the probe's positions, in their order."""
        prefix, positions = len(self.probe.packed.prefix), self.probe.positions
        read: list[Tensor] = [torch.empty(0)] * len(positions)
        for (rows, which), output in zip(self._prompts, outputs, strict=True):
            values = getattr(output, of)
            for index in which.tolist():
                read[index] = values[prefix + int(np.searchsorted(rows, positions[index]))]
        return torch.stack(read)

    def _rounding(self) -> float:
        """Return what to allow in half precision: inputs are shaken in their last bit."""
        random = torch.Generator().manual_seed(1)
        noise = torch.randn(self._inputs.shape, generator=random).to(self._inputs.device)
        shaken = self._inputs.float() * (1 + torch.finfo(self._inputs.dtype).eps * noise)
        outputs = self._own(shaken.to(self._inputs.dtype))
        return _allowed(self._distance(self._read(outputs), self._read(self._outputs)))

    def _check_model(self) -> Logits:
        """Check what every way relies on, and return what the LLM makes of its head's outputs.

        Raises:
            Differs: If tokens enter otherwise than by their embeddings, see later tokens, or logits are not understood.
        """
        backbone, probe = self.backbone, self.probe
        by_ids = _plain(backbone, ids=probe.words)
        by_embeddings = _plain(backbone, embeddings=backbone.embeddings(probe.words))
        if not self._distance(by_ids.states, by_embeddings.states) <= self.tolerance:
            raise Differs(
                "its states differ between token ids and their embeddings, and slots have embeddings only"
            )
        changed = _plain(backbone, ids=probe.other_words)
        same = int((probe.words == probe.other_words).long().cumprod(0).sum())
        if not self._distance(by_ids.states[:same], changed.states[:same]) <= self.tolerance:
            raise Differs("its states change with tokens that come later: not a causal language model")
        return self._logits(by_ids)

    def _logits(self, outputs: Outputs) -> Logits:
        head = self.backbone.head
        if head is None:
            raise Differs("its LM head is not found")
        linear = head(outputs.states.to(self.backbone.dtype)).float()
        if linear.shape == outputs.logits.shape:
            spread = float(outputs.logits.std())
            for logits in _possible_logits(
                self.backbone.model.config.get_text_config(), linear, outputs.logits
            ):
                error = float((logits(linear) - outputs.logits).square().mean().sqrt())
                if error <= self.tolerance * spread:
                    return logits
        raise Differs("its logits are not its LM head of its final states, scaled or capped")


def check_whole(backbone: Backbone, probe: Probe, execution: Execution) -> None:
    """Compare one prompt through all blocks, where a few were compared closely: rounding grows with their number.

    Raises:
        Differs: If the states of an answer are not the LLM's own.
    """
    prompt = list(separate_prompts(probe.packed, probe.positions))[-1]
    states = _engine_states(backbone, probe, execution)
    _agree_coarsely(backbone, probe, probe.packed, probe.positions, prompt, states, "after all blocks")


def check_long(backbone: Backbone, probe: Probe, execution: Execution) -> None:
    """Compare a long prompt with branches: windows, chunks and frequencies may depend on the distance.

    Raises:
        Differs: If the states of a ``[REC]`` are not the LLM's own.
    """
    positions = probe.long.rec_positions
    states = _engine_states(backbone, probe, execution, long=True)
    for prompt in separate_prompts(probe.long, positions):
        _agree_coarsely(backbone, probe, probe.long, positions, prompt, states, "in a long prompt")


def _agree_coarsely(
    backbone: Backbone,
    probe: Probe,
    packed: Packed,
    positions: np.ndarray,
    prompt: tuple[np.ndarray, np.ndarray],
    states: Tensor,
    where: str,
) -> None:
    rows, which = prompt
    own = _plain(backbone, embeddings=_prompt(backbone, packed, probe.inputs(backbone, packed), rows)).states
    at = len(packed.prefix) + np.searchsorted(rows, positions[which])
    spread = own.std(dim=0)
    difference = states[torch.from_numpy(which)] - own[torch.from_numpy(at)]
    distance = float((difference / spread.clamp_min(float(spread.mean()) / 10)).square().mean().sqrt())
    if not distance <= (100 * TOLERANCE if backbone.dtype == torch.float32 else COARSE):
        raise Differs(f"its states differ by {distance:.2g} of their spread {where}")


def _engine_states(
    backbone: Backbone,
    probe: Probe,
    execution: Execution,
    *,
    long: bool = False,
    trunks: Trunks | None = None,
) -> Tensor:
    """Return the engine's states at the probe's positions."""
    packed = probe.long if long else probe.packed
    positions = torch.from_numpy(packed.rec_positions if long else probe.positions)
    slots = {} if long else probe.slots
    try:
        return Engine(backbone, execution=execution).hidden(
            packed, slots=slots, rec=probe.rec, positions=positions, trunks=trunks
        )
    except torch.OutOfMemoryError:
        raise
    # Code of many authors meets arguments that it was not made for: whatever it raises, it cannot be run so.
    except Exception as error:
        raise Differs(f"it raises {_said(error)}") from error


def _plain(backbone: Backbone, **inputs: Tensor) -> Outputs:
    try:
        return plain_outputs(backbone, **inputs)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        given = "embeddings in place of token ids" if "embeddings" in inputs else "token ids"
        raise Differs(f"it does not take {given}: {_said(error)}") from error


def _prompt(backbone: Backbone, packed: Packed, inputs: Tensor, rows: np.ndarray) -> Tensor:
    """Return [tokens, width], the prefix and some rows of embeddings."""
    first = backbone.embeddings(torch.from_numpy(packed.prefix).to(inputs.device))
    return torch.cat([first, inputs[torch.from_numpy(rows).to(inputs.device)]])


def _beside_attention(backbone: Backbone) -> str | None:
    """Return why prompts cannot share a row, where that might not show in a few short ones."""
    config = backbone.model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"it has layers of type {', '.join(sorted(kinds))}"
    if any(isinstance(module, nn.Conv1d) for module in backbone.trunk.modules()):
        return "it has convolutions along the row"
    if getattr(config, "attention_chunk_size", None):
        return "it attends within chunks of the row"
    return None


def _allowed(rounding: float) -> float:
    """Return the tolerance where rounding alone makes states differ by so much."""
    return min(COARSE, max(0.02, 4 * rounding))


def _possible_logits(config: Any, linear: Tensor, logits: Tensor) -> list[Logits]:
    """Return what configurations of different families say, and at last the scale that fits best."""
    found = [Logits()]
    for name, scale in (
        ("logit_scale", lambda value: value),
        ("logits_scaling", lambda value: 1 / value),
    ):
        value = getattr(config, name, None)
        if isinstance(value, int | float) and value:
            found.append(Logits(scale=float(scale(value))))
    best = float((linear.double() * logits.double()).sum() / linear.double().square().sum())
    found.append(Logits(scale=best))
    caps = {
        float(value)
        for name, value in vars(config).items()
        if "logit" in name
        and "cap" in name
        and "attn" not in name
        and isinstance(value, int | float)
        and value
    }
    return [*found, *(Logits(scale=one.scale, cap=cap) for cap in sorted(caps) for one in found[:-1])]


def _said(error: Exception) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
