"""One forward pass of the LLM over packed prompts: trunks with branches, no padding, a common prefix run once.

Linear layers see one row of N tokens, so no position is wasted on padding; attention keeps users apart
(:mod:`illmrec.model.attention`). The last block's MLP runs only where its output is read. LLMs that this does not suit
are run in padded rows, or one prompt at a time (:mod:`illmrec.model.separate`); which way is right for an LLM is found
out by :mod:`illmrec.model.check`. What a pass costs is in :mod:`illmrec.model.cost`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from illmrec.errors import UnsupportedError
from illmrec.model.answer_loss import Logits
from illmrec.model.attention import (
    PACKED_ATTENTION,
    Layout,
    attend_packed,
    branches_layout,
    continued_layout,
    packed_layout,
    prefix_layout,
)
from illmrec.model.backbone import Backbone
from illmrec.model.kv_cache import KeysAndValues, KVCache
from illmrec.model.pooling import pooled_inputs
from illmrec.model.separate import longest_unstretched, separate_states
from illmrec.model.trunks import Trunks, trunk_tokens, trunks_alone
from illmrec.prompts.packing import Packed

logger = logging.getLogger(__name__)

CUDA_ROW_MULTIPLE = 128
"""Tokens of a block of flex_attention's mask: no more than 32 shapes of rows up to 4,096 tokens."""

Rows = Literal["packed", "padded", "separate", "pooled"]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How an LLM is run; all that suit it give equal results.

    Attributes:
        rows: ``packed``, all users in one row; ``padded``, a row for each user with a mask of its own; ``separate``,
            each branch with its trunk as a prompt by itself, which is right for any causal LM and the slowest;
            ``pooled``, of an LLM without blocks, what a token may see averaged.
        flex: Packed rows attend by flex_attention in one call; ``None`` does so on CUDA, user by user elsewhere.
        short_mlp: Packed rows run the last block's MLP only where its output is read.
        attention: transformers' implementation that padded and separate rows attend by.
        logits: What the LLM makes of its head's outputs.
    """

    rows: Rows = "packed"
    flex: bool | None = None
    short_mlp: bool = True
    attention: Literal["sdpa", "eager"] = "sdpa"
    logits: Logits = field(default_factory=Logits)


PLAIN = Execution(rows="separate", attention="eager")
"""Every fast path off: each branch with its whole history in a row of its own and no other length beside it, attention
as softmax of queries times keys, times values, in transformers' own code."""


class Engine:
    """Runs a backbone over packed prompts and returns only the hidden states that are read.

    Args:
        backbone: The LLM. Keys and values of the prefix are kept while none of its parameters requires a gradient.
        execution: How to run it; ``None`` takes packed rows.

    Attributes:
        row_multiple: Packed rows are filled up to a multiple of so many tokens. On CUDA, where kernels are compiled
            for shapes, ``CUDA_ROW_MULTIPLE``; elsewhere 1, none.
        checkpointing: Keep only the inputs of blocks for the backward pass and run the blocks again there: a fraction
            of the memory (:func:`illmrec.model.cost.training_memory`) for a third more time.
    """

    checkpointing = False

    def __init__(self, backbone: Backbone, *, execution: Execution | None = None) -> None:
        self.backbone = backbone
        self.execution = Execution() if execution is None else execution
        on_cuda = backbone.device.type == "cuda"
        self.flex = on_cuda if self.execution.flex is None else self.execution.flex
        self.row_multiple = CUDA_ROW_MULTIPLE if on_cuda else 1
        self._longest_unstretched = longest_unstretched(backbone.model)
        self._frozen_prefix: tuple[np.ndarray, KeysAndValues] | None = None

    def hidden(
        self,
        packed: Packed,
        *,
        slots: Mapping[str, Tensor],
        rec: Tensor,
        positions: Tensor,
        kept: KeysAndValues | None = None,
        caches: Sequence[KVCache] | None = None,
        trunks: Trunks | None = None,
    ) -> Tensor:
        """Return final hidden states at some positions.

        Args:
            packed: The prompts.
            slots: For each slot feature, [slots, width], vectors in the order of ``packed.slot_positions``.
            rec: [width], the embedding of ``[REC]``.
            positions: Int64 [n], positions in the row, each once.
            kept: Where given, the keys and values of the row are put here, filled up as the row is; those of the prefix
                are :meth:`prefix`'s.
            caches: Where given, each user's tokens go on from one of these, in which the prefix is, and their keys and
                values are put there. Positions are those of the whole prompt; a token sees all before it.

        Returns:
            Float32 [n, width]; gradients flow to ``slots`` and ``rec``.

        Raises:
            UnsupportedError: If keys and values are asked for or given and the LLM is not run in packed rows.
        """
        device = self.backbone.device
        rows = self.rows(packed)
        if (kept is not None or caches is not None) and rows != "packed":
            if self.backbone.plain:
                raise UnsupportedError(
                    "--plain: what goes on from stored keys and values is a fast path; leave it out"
                )
            raise UnsupportedError(
                f"--llm {self.backbone.name}: what goes on from stored keys and values needs packed rows, and {rows} "
                "rows suit it; use another LLM"
            )
        if rows != "packed" or not self.goes_on or kept is not None or caches is not None:
            trunks = None
        if rows == "packed" and caches is None and trunks is None:
            packed = packed.filled(self.row_multiple)
        inputs = self.backbone.embeddings(torch.from_numpy(packed.ids).to(device))
        for name, vectors in slots.items():
            at = torch.from_numpy(packed.slot_positions[name]).to(device)
            inputs = inputs.index_copy(0, at, vectors.to(inputs.dtype))
        rec_at = torch.from_numpy(packed.rec_positions).to(device)
        inputs = inputs.index_copy(0, rec_at, rec.to(inputs.dtype).expand(len(rec_at), -1))
        if trunks is not None:
            states = self._branches(packed, inputs, positions, trunks)
        elif rows == "packed":
            states = self._packed_rows(packed, inputs, positions.to(device), kept, caches)
        elif rows == "padded":
            states = self._padded_rows(packed, inputs)[positions.to(device)]
        elif rows == "pooled":
            prefix = self.backbone.embeddings(torch.from_numpy(packed.prefix).to(device))
            pooled = pooled_inputs(packed, inputs, prefix, positions.cpu().numpy())
            states = self.backbone.trunk(inputs_embeds=pooled[None], use_cache=False).last_hidden_state[0]
        else:
            read, attention = positions.cpu().numpy(), self.execution.attention
            with self._run_again():
                states = separate_states(self.backbone, packed, inputs, read, attention=attention)
        return states.float()

    @property
    def goes_on(self) -> bool:
        """Whether a row of branches goes on from trunks that were read before: packed rows, user by user."""
        return self.execution.rows == "packed" and not self.flex

    def _run_again(self, *, but_last: bool = False) -> AbstractContextManager[None]:
        blocks = self.backbone.blocks[:-1] if but_last else self.backbone.blocks
        return _run_again(blocks if self.checkpointing and torch.is_grad_enabled() else ())

    def rows(self, packed: Packed) -> Rows:
        """Return how to lay out prompts: not beside each other where frequencies depend on the longest."""
        limit = None if self.execution.rows == "pooled" else self._longest_unstretched
        return "separate" if limit is not None and packed.longest > limit else self.execution.rows

    def _packed_rows(
        self,
        packed: Packed,
        inputs: Tensor,
        positions: Tensor,
        kept: KeysAndValues | None,
        caches: Sequence[KVCache] | None,
    ) -> Tensor:
        if caches is not None:
            layout = continued_layout(packed, caches)
        else:
            layout = packed_layout(
                packed,
                self.prefix(packed.prefix),
                flex=self.flex,
                read=positions.cpu().numpy(),
                last=len(self.backbone.blocks) - 1,
            )
        layout.kept = kept
        position_ids = torch.from_numpy(packed.position_ids).to(inputs.device)
        mlp = self.backbone.last_mlp if self.execution.short_mlp else None
        # The last block is never run again: its MLP is cut short for this pass only, and keeps little.
        with _only_at(mlp, positions, packed.tokens), self._run_again(but_last=True):
            return self._run(inputs, position_ids, layout)[positions]

    def _branches(self, packed: Packed, inputs: Tensor, positions: Tensor, trunks: Trunks) -> Tensor:
        """Return states in branches, which alone are in the row, behind trunks that no gradient reaches."""
        known = trunks.of(packed, read=partial(self._read_trunks, packed, inputs.detach()))
        at = np.flatnonzero(packed.branch > 0)
        layout = branches_layout(packed, self.prefix(packed.prefix), known)
        row = inputs[torch.from_numpy(at).to(inputs.device)]
        position_ids = torch.from_numpy(packed.position_ids[at]).to(inputs.device)
        read = torch.from_numpy(np.searchsorted(at, positions.cpu().numpy())).to(inputs.device)
        mlp = self.backbone.last_mlp if self.execution.short_mlp else None
        with _only_at(mlp, read, len(row)), self._run_again(but_last=True):
            return self._run(row, position_ids, layout)[read]

    def _read_trunks(self, packed: Packed, inputs: Tensor, users: np.ndarray) -> list[KeysAndValues]:
        """Return keys and values of some users' trunks, that later passes can use for training."""
        alone, last = trunks_alone(packed, users), len(self.backbone.blocks) - 1
        nothing = np.zeros(0, dtype=np.int64)
        kept: KeysAndValues = {}
        with torch.inference_mode(False), torch.no_grad():
            layout = packed_layout(alone, self.prefix(packed.prefix), flex=False, read=nothing, last=last)
            layout.kept = kept
            row = inputs[torch.from_numpy(trunk_tokens(packed, users)).to(inputs.device)]
            position_ids = torch.from_numpy(alone.position_ids).to(inputs.device)
            mlp = self.backbone.last_mlp if self.execution.short_mlp else None
            with _only_at(mlp, torch.from_numpy(nothing).to(inputs.device), alone.tokens):
                self._run(row, position_ids, layout)
        ends = np.cumsum(alone.lengths)
        return [
            {block: (k[:, :, start:end], v[:, :, start:end]) for block, (k, v) in kept.items()}
            for start, end in zip(ends - alone.lengths, ends, strict=True)
        ]

    def _run(self, inputs: Tensor, position_ids: Tensor, layout: Layout) -> Tensor:
        self.backbone.attend_by(PACKED_ATTENTION, attend_packed)
        output = self.backbone.trunk(
            inputs_embeds=inputs[None], position_ids=position_ids[None], use_cache=False, layout=layout
        )
        states: Tensor = output.last_hidden_state[0]
        return states

    def prefix(self, ids: np.ndarray) -> KeysAndValues:
        """Return keys and values of the prefix: run once for a frozen LLM, in every pass for one that learns."""
        if any(parameter.requires_grad for parameter in self.backbone.model.parameters()):
            return self._keys_and_values(ids)
        if self._frozen_prefix is None or not np.array_equal(self._frozen_prefix[0], ids):
            # Tensors made in inference mode could not be used in training.
            with torch.inference_mode(False), torch.no_grad():
                self._frozen_prefix = (ids, self._keys_and_values(ids))
        return self._frozen_prefix[1]

    def _keys_and_values(self, ids: np.ndarray) -> KeysAndValues:
        device = self.backbone.device
        kept: KeysAndValues = {}
        inputs = self.backbone.embeddings(torch.from_numpy(ids).to(device))
        self._run(inputs, torch.arange(len(ids), device=device), prefix_layout(len(ids), kept))
        return kept

    def _padded_rows(self, packed: Packed, inputs: Tensor) -> Tensor:
        """The plain way, for models whose attention cannot be replaced: one row per user, padded on the right."""
        device, users, prefix = inputs.device, len(packed.lengths), len(packed.prefix)
        longest = prefix + int(packed.lengths.max())
        user = np.repeat(np.arange(users), packed.lengths)
        column = np.arange(packed.tokens) - np.repeat(
            np.cumsum(packed.lengths) - packed.lengths, packed.lengths
        )
        at = torch.from_numpy(user * longest + prefix + column).to(device)
        first = self.backbone.embeddings(torch.from_numpy(packed.prefix).to(device))
        rows = torch.cat([first, first.new_zeros(longest - prefix, first.shape[1])]).repeat(users, 1)
        rows = rows.index_copy(0, at, inputs)
        position_ids = torch.arange(longest, device=device).repeat(users)
        position_ids[at] = torch.from_numpy(packed.position_ids).to(device)
        # A padding token sees itself only, so that no row of the softmax is empty.
        mask = np.broadcast_to(np.eye(longest, dtype=bool), (users, longest, longest)).copy()
        mask[:, :prefix, :prefix] = np.tri(prefix, dtype=bool)
        for index, length in enumerate(packed.lengths):
            end = prefix + length
            mask[index, prefix:end, :prefix] = True
            mask[index, prefix:end, prefix:end] = packed.mask(index)
        self.backbone.attend_by(self.execution.attention)
        with self._run_again():
            output = self.backbone.trunk(
                inputs_embeds=rows.view(users, longest, -1),
                position_ids=position_ids.view(users, longest),
                attention_mask=torch.from_numpy(mask)[:, None].to(device),
                use_cache=False,
            )
        return output.last_hidden_state.reshape(users * longest, -1)[at]


@contextmanager
def _run_again(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Let blocks keep nothing but their inputs for the backward pass."""
    blocks = list(blocks)
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


@contextmanager
def _only_at(mlp: nn.Module | None, positions: Tensor, tokens: int) -> Iterator[None]:
    """Run the last block's MLP, three quarters of its cost, only at the tokens that are read; it is zero elsewhere."""
    if mlp is None:
        yield
        return

    def select(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (arguments[0][:, positions], *arguments[1:])

    def restore(module: nn.Module, arguments: tuple[Tensor, ...], output: Any) -> Any:
        if isinstance(output, tuple):  # Experts return their router's scores, too.
            return (restore(module, arguments, output[0]), *output[1:])
        return output.new_zeros(1, tokens, output.shape[2]).index_copy(1, positions, output)

    handles = [mlp.register_forward_pre_hook(select), mlp.register_forward_hook(restore)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
