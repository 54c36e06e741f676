"""I-LLMRec: slots filled by adaptors, a frozen LLM, and retrieval by the sum of affinities (paper section 3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from illmrec.model import processes
from illmrec.model.affinities import Affinities
from illmrec.model.answer_loss import CHUNK, answer_loss
from illmrec.model.backbone import Backbone
from illmrec.model.budget import TokenBudget, reading_budget, token_batches
from illmrec.model.check import checked_execution
from illmrec.model.engine import Engine, Execution
from illmrec.model.heads import ITEM_TOKEN, Adaptor, Form, ItemTokens, projectors, unit_mean_square
from illmrec.model.hub import HubModel
from illmrec.model.kv_cache import KeysAndValues, KVCache
from illmrec.model.readout import Readout, read_features, read_states, reads_features, reads_llm, width_of
from illmrec.model.slot_content import SlotContent, embedded_rows, slot_rows
from illmrec.model.trunks import Trunks
from illmrec.model.tuning import TrainedWeights
from illmrec.prompts.packing import Fitted, Packed, PromptBuilder


class ILLMRec(Affinities, HubModel):
    """The model for any representation: text methods are the same model without slots (paper Appendix B).

    Only adaptors, ``[REC]`` and projectors are parameters of this module, and what requires a gradient in the LLM, if
    anything does; the LLM itself is held aside.

    Args:
        backbone: The LLM, frozen in the paper.
        prompts: Prompt builder of the representation.
        features: For each feature type that is used, float32 [n_items, width].
        heads: Feature types that score items (RERI), such as ``("image", "cf", "text")``, or ``("item-token",)``.
        vectors: For slot features of which an item has several, how many stand side by side in a row of the table.
        embedded: Slot features that are input embeddings of this LLM: no adaptor changes them, and their table is left
            where it is and read row by row.
        history_length: L, items of history that are read.
        seed: Seed of the initial parameters.
        hidden: Hidden width of projectors.
        depth: Hidden layers of projectors.
        shared: Width d of the recommendation space.
        form: The form of adaptors, projectors, their inputs and affinities; ``None`` is this toolkit's.
        readout: What of a history is projected: the last ``[REC]`` state, as in the paper, or it and their mean, or
            beside it, or in its place, the features of the items by which the heads score.
        slot_content: What fills the slots: the items' features, or a control that tells what they are worth.
        execution: How the LLM is run; ``None`` checks the LLM for what suits it (:mod:`illmrec.model.check`).

    Attributes:
        trunks: While set, histories that nothing trains are read once and kept there (:mod:`illmrec.model.trunks`).

    Raises:
        InputError: If nothing suits the LLM.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        prompts: PromptBuilder,
        features: Mapping[str, np.ndarray],
        heads: Sequence[str],
        vectors: Mapping[str, int] | None = None,
        embedded: Sequence[str] = (),
        history_length: int = 10,
        seed: int = 0,
        hidden: int = 512,
        depth: int = 1,
        shared: int = 256,
        form: Form | None = None,
        readout: Readout = "last",
        slot_content: SlotContent = "features",
        execution: Execution | None = None,
    ) -> None:
        super().__init__()
        self.prompts = prompts
        self.readout: Readout = readout
        self.heads = tuple(heads)
        self.slots = prompts.items.slots
        self.vectors = dict.fromkeys(self.slots, 1) | dict(vectors or {})
        self.embedded = {name: np.asarray(features[name]) for name in embedded}
        self.shared = shared
        self.form = form = Form() if form is None else form
        self.slot_content, self.slot_seed = slot_content, seed
        self.history_length = history_length
        # In a list, so that the LLM's parameters are not counted, saved or trained as this module's.
        execution = checked_execution(backbone) if execution is None else execution
        self._engine = [Engine(backbone, execution=execution)]
        self.budget = TokenBudget(reading_budget(backbone.device))
        self.llm = TrainedWeights(backbone.model)
        self.trunks: Trunks | None = None
        content = {head: features[head].shape[1] for head in self.heads if head != ITEM_TOKEN}
        read = width_of(readout, states=backbone.width, features=sum(content.values()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.rec = _drawn_rec(backbone)
            adaptor: Any = {
                "width": backbone.width,
                "scale": backbone.embedding_scale,
                "form": form.adaptor,
            }
            read_by = [slot for slot in self.slots if slot not in self.embedded]
            widths = {slot: features[slot].shape[1] // self.vectors[slot] for slot in read_by}
            self.adaptors = nn.ModuleDict(
                {slot: Adaptor(feature_width=width, **adaptor) for slot, width in widths.items()}
            )
            sizes: Any = {"hidden": hidden, "depth": depth, "shared": shared, "form": form.projector}
            self.user_projectors = projectors(dict.fromkeys(self.heads, read), **sizes)
            tokens = {ITEM_TOKEN: ItemTokens(self.n_items, shared)} if ITEM_TOKEN in self.heads else {}
            self.item_projectors = nn.ModuleDict({**projectors(content, **sizes), **tokens})
        self.register_buffer("rec_mean", torch.zeros(read))
        self.register_buffer("rec_scale", torch.ones(read))
        self.tables = tuple(dict.fromkeys((*self.adaptors, *content)))
        for name in self.tables:
            # The mean belongs to the trained parameters: a larger catalogue must not shift the inputs.
            mean = torch.from_numpy(np.array(features[name], dtype=np.float32)).mean(dim=0)
            self.register_buffer(f"mean_{name}", mean)
        self.set_features(features)
        self.to(backbone.device)

    def with_rec_of(self, seed: int) -> ILLMRec:
        """Return a model with the ``[REC]`` that another seed draws, not calibrated; it shares all else with this."""
        other = copy.copy(self)
        other._parameters, other._buffers = dict(self._parameters), dict(self._buffers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            other.rec = nn.Parameter(_drawn_rec(self.engine.backbone).data.to(self.rec.device))
        other.rec_mean, other.rec_scale = torch.zeros_like(self.rec_mean), torch.ones_like(self.rec_scale)
        return other

    @property
    def engine(self) -> Engine:
        """The engine around the LLM."""
        return self._engine[0]

    @property
    def plain(self) -> bool:
        """Whether every fast path is off."""
        return self.engine.backbone.plain

    @property
    def constant_trunks(self) -> bool:
        """Whether histories are read without a gradient: neither the LLM nor an adaptor learns from them."""
        learns = (*self.llm.parameters(), *self.adaptors.parameters())
        return self.engine.goes_on and not any(parameter.requires_grad for parameter in learns)

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.prompts.items.lengths)

    def features(self, name: str) -> Tensor:
        """Return a feature table as the model sees it, float32 [n_items, width]; of ``item-token`` int64 [n_items]."""
        if name == ITEM_TOKEN:
            return torch.arange(self.n_items, device=self.rec.device)
        return self.get_buffer(f"features_{name}")

    def set_features(self, features: Mapping[str, np.ndarray]) -> None:
        """Compute the tables with the means that are there, those that came with loaded parameters."""
        self.embedded = {name: np.asarray(features[name]) for name in self.embedded}
        tables = {}
        for name in self.tables:
            mean = self.get_buffer(f"mean_{name}")
            tables[name] = torch.from_numpy(np.array(features[name], dtype=np.float32)).to(mean.device)
            if self.form.inputs != "raw":
                tables[name] = unit_mean_square(tables[name], mean, vectors=self.vectors.get(name, 1))
        self.show(tables)

    def slot_table(self, name: str) -> Tensor:
        """Return what adaptors read for a slot: float32 [n_items, width], the features or what a control puts there."""
        return self.get_buffer(f"{'features' if self.slot_content == 'features' else 'slot'}_{name}")

    def limit(self, *, history_length: int | None = None, context: int | None = None) -> None:
        """Read less from now on: fewer items of history, or a smaller context in tokens; ``None`` changes nothing."""
        if history_length is not None:
            self.history_length = history_length
        if context is not None:
            self.prompts = self.prompts.with_context(context)

    def hidden(
        self,
        packed: Packed,
        *,
        rec: Tensor | None = None,
        kept: KeysAndValues | None = None,
        caches: Sequence[KVCache] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode packed prompts in one pass; what is kept and gone on from is :meth:`Engine.hidden`'s.

        Args:
            rec: [width], or [retrieval branches, width]: other embeddings in place of this model's ``[REC]``.

        Returns:
            The states of ``[REC]``, float32 [retrieval branches, width], and the states that predict answer
            tokens, float32 [answer tokens, width].
        """
        slots = {
            name: self.adaptors[name](
                slot_rows(
                    self.slot_table(name),
                    torch.from_numpy(packed.slot_items[name]).to(self.rec.device),
                    vectors=self.vectors[name],
                )
            )
            for name in self.adaptors
        }
        for name, table in self.embedded.items():
            rows = embedded_rows(table, packed.slot_items[name], vectors=self.vectors[name])
            slots[name] = rows.to(self.rec.device)
        positions = torch.from_numpy(packed.read_positions)
        trunks = self.trunks if self.trunks is not None and self.constant_trunks else None
        states = self.engine.hidden(
            packed,
            slots=slots,
            rec=self.rec if rec is None else rec,
            positions=positions,
            kept=kept,
            caches=caches,
            trunks=trunks,
        )
        rec, answers = states.split([len(packed.rec_positions), len(packed.answer_positions)])
        return rec, answers

    @torch.inference_mode()
    def calibrate(self, histories: Sequence[np.ndarray]) -> None:
        """Set how ``[REC]`` states are standardised before the user projectors: by mean and deviation over users.

        The states of a frozen LLM are nearly the same for every user: with titles and four blocks of SmolLM2, 99 % of
        their mean square was a shared offset, half of it in five dimensions. Users should differ more than that.

        Args:
            histories: Histories of the training part, item row numbers, the most recent last; two or more.
        """
        if self.form.inputs != "raw":
            self.standardise_by(self.encode(histories))

    @torch.inference_mode()
    def encode(self, histories: Sequence[np.ndarray], *, token_budget: int | None = None) -> Tensor:
        """Return what is read out after histories, float32 [histories, width of the readout].

        Several processes share the histories and all get all states: each must be called with the same.

        Args:
            histories: Item row numbers, the most recent last.
            token_budget: Tokens in one forward pass; ``None`` is what suits the device, less where memory ran out.
        """
        fitted = [self.prompts.fit(history, max_items=self.history_length) for history in histories]
        ends = [np.array([len(prompt.items)]) for prompt in fitted]
        counts = self.token_counts(fitted, ends)
        share = processes.share(counts)
        budget = self.budget if token_budget is None else TokenBudget(token_budget)

        def states(tokens: int) -> Tensor:
            found = torch.zeros(len(fitted), len(self.rec_mean), device=self.rec.device)
            for batch in token_batches(counts[share], token_budget=tokens):
                rows = share[batch]
                read = self.read([fitted[row] for row in rows], [ends[row] for row in rows])
                found[torch.from_numpy(rows)] = read
            return found

        # The other processes' rows are zero.
        return processes.total(budget.run(states))

    def read(self, fitted: Sequence[Fitted], boundaries: Sequence[np.ndarray]) -> Tensor:
        """Encode histories in one pass and return what is read out at item boundaries.

        Args:
            fitted: Histories cut to the context.
            boundaries: Per history, int [boundaries], ascending, each 1 or more: a state is read after so many items.

        Returns:
            Float32 [all boundaries, width of the readout], history by history.
        """
        return self.read_each(fitted, boundaries, self.rec[None])[0]

    def read_each(
        self, fitted: Sequence[Fitted], boundaries: Sequence[np.ndarray], recs: Tensor
    ) -> list[Tensor]:
        """Do what :meth:`read` does for several ``[REC]`` tokens, [tokens, width], reading each history once.

        Returns:
            For each of them float32 [all boundaries, width of the readout].
        """
        if not reads_llm(self.readout):
            return [self.read_out(None, fitted, boundaries)] * len(recs)
        hung = self._hung(fitted, boundaries)
        packed = self.prompts.pack(fitted, boundaries=[np.repeat(ends, len(recs)) for ends in hung])
        states, _ = self.hidden(packed, rec=recs.repeat(sum(map(len, hung)), 1))
        read = [
            self.read_out(of_one, fitted, hung) for of_one in states.unflatten(0, (-1, len(recs))).unbind(1)
        ]
        if hung is boundaries:
            return read
        # Branch number b of a history hangs after b items.
        counts = np.array([len(ends) for ends in hung])
        firsts = np.repeat(np.cumsum(counts) - counts, [len(ends) for ends in boundaries])
        at = torch.from_numpy(firsts + np.concatenate(boundaries) - 1).to(states.device)
        return [of_one[at] for of_one in read]

    def read_out(
        self, states: Tensor | None, fitted: Sequence[Fitted], boundaries: Sequence[np.ndarray]
    ) -> Tensor:
        """Return what is projected at item boundaries.

        Args:
            states: Float32 [all boundaries, width], the ``[REC]`` states there; ``None`` where the readout has none.
            fitted: The histories.
            boundaries: Per history, int [boundaries]; where the readout has a mean of states, all from the first item.

        Returns:
            Float32 [all boundaries, width of the readout].
        """
        parts = []
        if states is not None:
            parts.append(read_states(states, np.array([len(ends) for ends in boundaries]), self.readout))
        if reads_features(self.readout):
            rows = [
                torch.from_numpy(history.items.astype(np.int64)).to(self.rec.device) for history in fitted
            ]
            values = [torch.cat([self.features(head)[row] for head in self.heads], dim=1) for row in rows]
            parts.append(read_features(values, boundaries))
        return torch.cat(parts, dim=1)

    def pack(self, fitted: Sequence[Fitted], boundaries: Sequence[np.ndarray]) -> Packed:
        """Lay out histories in one row, with the branches that :meth:`read` needs for its boundaries."""
        return self.prompts.pack(fitted, boundaries=self._hung(fitted, boundaries))

    def token_counts(
        self, fitted: Sequence[Fitted], boundaries: Sequence[np.ndarray], *, recs: int = 1
    ) -> np.ndarray:
        """Return int [histories], tokens of each that :meth:`read_each` puts through the LLM; items where it asks none.

        Args:
            recs: How many ``[REC]`` tokens it is given.
        """
        if not reads_llm(self.readout):
            return np.array([len(history.items) for history in fitted], dtype=np.int64)
        further = np.array([recs * len(ends) - 1 for ends in self._hung(fitted, boundaries)], dtype=np.int64)
        return self.prompts.token_counts(fitted) + further * (len(self.prompts.instruction) + 1)

    def _hung(self, fitted: Sequence[Fitted], boundaries: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Return where retrieval branches hang: after every item if their mean is read."""
        if self.readout != "last+mean":
            return boundaries
        return [np.arange(1, len(history.items) + 1) for history in fitted]

    def answer_loss(self, states: Tensor, answer_ids: Tensor, *, chunk: int = CHUNK) -> Tensor:
        """Return L_RISA summed over answer tokens (section 3.2); logits exist for one chunk at a time."""
        head, logits = self.engine.backbone.head, self.engine.execution.logits
        return answer_loss(head, states, answer_ids, logits=logits, chunk=chunk, plain=self.plain)

    @torch.inference_mode()
    def score(
        self,
        histories: Sequence[np.ndarray],
        *,
        catalogue: Tensor | None = None,
        token_budget: int | None = None,
    ) -> np.ndarray:
        """Score the whole catalogue for each history: the sum of affinities over feature types (section 3.4).

        Args:
            histories: Item row numbers, the most recent last.
            catalogue: What :meth:`catalogue` returned, if at hand.
            token_budget: Tokens in one forward pass; ``None`` is what suits the device, less where memory ran out.

        Returns:
            Float32 [histories, n_items].
        """
        states = self.encode(histories, token_budget=token_budget)
        catalogue = self.catalogue() if catalogue is None else catalogue
        scores: np.ndarray = (self.project_users(states).flatten(1) @ catalogue.T).cpu().numpy()
        return scores


def _drawn_rec(backbone: Backbone) -> nn.Parameter:
    """Return ``[REC]`` at the scale of the LLM's token embeddings: float32 [width]."""
    return nn.Parameter(torch.randn(backbone.width) * backbone.embedding_scale)
