"""Transformers' own constrained beam search over the same LLM and codes: what the shared trunks are compared with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.generative.beam_search import BeamResult
from baselines.generative.code_rows import CODES, pack_rows
from baselines.generative.lcrec import LCRec


class GeneratePath:
    """``generate`` with ``prefix_allowed_tokens_fn``, over a causal LM whose vocabulary holds the codes.

    What may follow is looked up in a dictionary of all prefixes. Scores are renormalised over it, as ours are:
    without that, ``generate`` masks after the softmax. Prompts are padded on the left.

    Args:
        model: The model whose LLM and codes are used; weights of the blocks are shared, not copied.
        words: Keep the LLM's own words in the vocabulary, as LC-Rec does; without them the head has the codes alone,
            which is the least that ``generate`` can be given.

    Attributes:
        tokens: Tokens put through the LLM so far, padding and copies for beams included.
    """

    def __init__(self, model: LCRec, *, words: bool) -> None:
        self._model = model
        backbone = model.engine.backbone
        frozen = backbone.model
        shared: dict[int, Any] = {id(tensor): tensor for tensor in (*frozen.parameters(), *frozen.buffers())}
        self._lm = copy.deepcopy(frozen, shared)
        self._first = len(backbone.embeddings.weight) if words else 0
        codes = torch.arange(model.levels * model.codebook, device=backbone.device)
        with torch.no_grad():
            own = model.vectors(codes).to(backbone.dtype)
            table = torch.cat([backbone.embeddings.weight, own]) if words else own
            weight, bias = self._head(model)
            head = nn.Linear(weight.shape[1], len(table), device=backbone.device, dtype=backbone.dtype)
            head.weight.zero_()
            head.bias.zero_()
            if words:
                head.weight[: self._first] = next(backbone.head.parameters())
            head.weight[self._first :], head.bias[self._first :] = weight, bias
        self._lm.set_input_embeddings(nn.Embedding.from_pretrained(table))
        self._lm.set_output_embeddings(head)
        config = self._lm.config.get_text_config()
        config.vocab_size, config.tie_word_embeddings = len(table), False
        self._lm.set_attn_implementation("sdpa")
        self._allowed = self._prefixes(model.tokens(np.arange(model.n_items)))
        self.tokens = 0
        self._lm.get_decoder().register_forward_pre_hook(self._count, with_kwargs=True)

    @staticmethod
    def _head(model: LCRec) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the linear map that standardising states and multiplying by codes' vectors is."""
        table = model.reading if model.writing is None else model.writing
        level = torch.arange(model.levels, device=table.device).repeat_interleave(model.codebook)
        scaled = table / model.deviation[0, level]
        return scaled, -(scaled * model.mean[0, level]).sum(dim=1)

    def _prefixes(self, tokens: np.ndarray) -> dict[tuple[int, ...], list[int]]:
        found: dict[tuple[int, ...], set[int]] = {}
        for row in (tokens + self._first).tolist():
            for length in range(len(row)):
                found.setdefault(tuple(row[:length]), set()).add(row[length])
        return {prefix: sorted(following) for prefix, following in found.items()}

    def _count(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        inputs = keywords.get("inputs_embeds")
        inputs = keywords.get("input_ids") if inputs is None else inputs
        self.tokens += 0 if inputs is None else inputs.shape[0] * inputs.shape[1]

    @torch.inference_mode()
    def search(self, histories: Sequence[np.ndarray]) -> BeamResult:
        """Return as many items of each user as there are beams.

        Args:
            histories: Item row numbers, the most recent last.
        """
        model, device = self._model, self._model.reading.device
        rows = [model.history_row(history) for history in histories]
        lengths = np.array([len(row.ids) for row in rows])
        packed = pack_rows(model.prefix, rows)
        embeddings = self._model.engine.backbone.embeddings
        codes = model.vectors(torch.from_numpy(packed.slot_items[CODES]).to(device)).to(
            embeddings.weight.dtype
        )
        prefix = embeddings(torch.from_numpy(packed.prefix).to(device))
        longest = len(prefix) + int(lengths.max())
        inputs = prefix.new_zeros(len(rows), longest, prefix.shape[1])
        mask = torch.zeros(len(rows), longest, dtype=torch.int64, device=device)
        for row, own in enumerate(codes.split(lengths.tolist())):
            whole = torch.cat([prefix, own])
            inputs[row, longest - len(whole) :], mask[row, longest - len(whole) :] = whole, 1
        found = self._lm.generate(
            inputs_embeds=inputs,
            attention_mask=mask,
            prefix_allowed_tokens_fn=lambda user, written: self._allowed[tuple(written.tolist())],
            renormalize_logits=True,
            do_sample=False,
            num_beams=model.beams,
            num_return_sequences=model.beams,
            max_new_tokens=model.levels,
            length_penalty=0.0,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        written = found.sequences.cpu().numpy().reshape(-1, model.levels) - self._first
        nodes = model.trie.walk(written)
        shape = (len(rows), model.beams)
        return BeamResult(
            items=model.trie.items[nodes].reshape(shape),
            scores=found.sequences_scores.float().cpu().numpy().reshape(shape),
        )
