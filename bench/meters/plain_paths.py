"""The two paths that the engine is compared with: plain padded passes, and passes in the manner of the released code.

Both use the modules of an :class:`~illmrec.model.illmrec.ILLMRec`, its adaptors, ``[REC]``, projectors and frozen
LLM, and the token ids of its prompt builder, so that losses, gradients and scores equal the engine's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from illmrec.model.illmrec import ILLMRec
from illmrec.model.slot_content import slot_rows
from illmrec.prompts.packing import Fitted
from illmrec.training import Trainer
from illmrec.training.windows import Windows

NOT_PREDICTED = -100
"""The label that the cross-entropy of transformers leaves out."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training example: a history and the item that follows it.

    Attributes:
        history: The history, cut to the context.
        target: Row number of the next item.
        negatives: Int [heads], one sampled item for each feature type; ``None``: cross-entropy over the catalogue.
        question: Token ids of a RISA question and of its answer, or ``None`` for RERI alone.
    """

    history: Fitted
    target: int
    negatives: np.ndarray | None
    question: tuple[np.ndarray, np.ndarray] | None


class PlainPath(ABC):
    """Prompts as rows padded on the right, run through the whole causal LM.

    Args:
        model: The model whose modules and parameters are used.
        batch_size: Examples of a training pass.

    Attributes:
        tokens: Tokens put through the LLM so far, padding included.
    """

    def __init__(self, model: ILLMRec, *, batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size
        self.backbone = model.engine.backbone
        self.device = self.backbone.device
        self.tokens = 0

    def batches(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Yield rows in the batches in which they are run: here in the order they came.

        Args:
            tokens: Int [rows], tokens of each row.
        """
        for start in range(0, len(tokens), self.batch_size):
            yield np.arange(start, min(start + self.batch_size, len(tokens)))

    @abstractmethod
    def features(self, name: str, items: np.ndarray) -> Tensor:
        """Return the features of some items as the model sees them, float32 [items, width]."""

    def losses(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Return L_RERI and L_RISA of a batch, each from a pass of its own (equations 1 and 2).

        Returns:
            Their sums over targets, and over answer tokens.
        """
        rows = [self.trunk(example.history) for example in examples]
        reri = self._retrieval_loss(self.retrieval_states(rows), examples)
        asked = [
            (row, example.question)
            for row, example in zip(rows, examples, strict=True)
            if example.question is not None
        ]
        if not asked:
            return reri, reri.new_zeros(())
        answers = [answer for _, (_, answer) in asked]
        rows = [np.concatenate([row, question, answer]) for row, (question, answer) in asked]
        return reri, self._answer_loss(rows, answers)

    def retrieval_states(self, trunks: Sequence[np.ndarray]) -> Tensor:
        """Run the RERI pass over trunks and return the states of ``[REC]``, float32 [rows, width]."""
        instruction = self.model.prompts.instruction
        rows = [np.concatenate([trunk, instruction, [0]]) for trunk in trunks]
        inputs, mask = self._inputs(rows)
        last = torch.tensor([len(row) - 1 for row in rows], device=self.device)
        each = torch.arange(len(rows), device=self.device)
        rec = self.model.rec.to(inputs.dtype).expand(len(rows), -1)
        output = self._causal_lm(inputs.index_put((each, last), rec), mask, output_hidden_states=True)
        return output.hidden_states[-1][each, last].float()

    def trunk(self, fitted: Fitted) -> np.ndarray:
        """Return the task and a history as token ids, int64 [n].

        A slot of feature s of item i is ``-1 - (i * number of slot features + s)``.
        """
        prompts, tokenised = self.model.prompts, self.model.prompts.items
        parts = [prompts.task.astype(np.int64)]
        for item in fitted.items.tolist():
            ids = tokenised.ids[tokenised.offsets[item] : tokenised.offsets[item + 1]]
            ids = (ids if fitted.cut_ids is None else fitted.cut_ids).astype(np.int64)
            parts.append(np.where(ids < 0, ids - item * len(tokenised.slots), ids))
        return np.concatenate(parts)

    def _inputs(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Return padded embeddings with filled slots, [rows, longest, width], and the mask, int64 [rows, longest]."""
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)], mask[index, : len(row)] = row, 1
        self.tokens += ids.size
        slots = self.model.slots
        inputs = self.backbone.embeddings(torch.from_numpy(np.maximum(ids, 0)).to(self.device))
        for number, name in enumerate(slots):
            row_at, column_at = np.nonzero((ids < 0) & ((-1 - ids) % len(slots) == number))
            items = (-1 - ids[row_at, column_at]) // len(slots)
            if len(items):
                found = self.features(name, items)
                own = torch.arange(len(found), device=found.device)
                shown = slot_rows(found, own, vectors=self.model.vectors[name])
                vectors = self.model.adaptors[name](shown).to(inputs.dtype)
                at = (
                    torch.from_numpy(row_at).to(self.device),
                    torch.from_numpy(column_at).to(self.device),
                )
                inputs = inputs.index_put(at, vectors)
        return inputs, torch.from_numpy(mask).to(self.device)

    def _causal_lm(
        self,
        inputs: Tensor,
        mask: Tensor,
        *,
        attention: Literal["sdpa", "eager"] = "sdpa",
        **options: Any,
    ) -> Any:
        self.backbone.model.set_attn_implementation(attention)
        return self.backbone.model(inputs_embeds=inputs, attention_mask=mask, use_cache=False, **options)

    def _answer_loss(self, rows: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> Tensor:
        """Return L_RISA by the causal LM's own loss: logits in float32 at every position, most of them not read."""
        inputs, mask = self._inputs(rows)
        labels = np.full(mask.shape, NOT_PREDICTED)
        for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            labels[index, len(row) - len(answer) : len(row)] = answer
        # Without the number of items its loss is a mean over the batch, whatever the other batches hold.
        output = self._causal_lm(
            inputs, mask, labels=torch.from_numpy(labels).to(self.device), num_items_in_batch=1
        )
        loss: Tensor = output.loss
        return loss

    def _retrieval_loss(self, states: Tensor, examples: Sequence[Example]) -> Tensor:
        targets = np.array([example.target for example in examples])
        drawn = [example.negatives for example in examples if example.negatives is not None]
        if not drawn:
            return self.model.retrieval_loss(states, torch.from_numpy(targets).to(self.device))
        users, negatives = self.model.project_users(states), np.stack(drawn)
        loss = users.new_zeros(())
        for number, head in enumerate(self.model.heads):
            project = self.model.item_projectors[head]
            for items, label in ((targets, 1.0), (negatives[:, number], 0.0)):
                affinities = (users[:, number] * project(self.features(head, items))).sum(-1)
                loss = loss + functional.binary_cross_entropy_with_logits(
                    affinities, torch.full_like(affinities, label), reduction="sum"
                )
        return loss


class TwoPass(PlainPath):
    """The plain Hugging Face way: a fixed batch of users, two right-padded passes, logits of the whole vocabulary.

    Feature tables stay in memory and the catalogue is projected once, as in the engine: what is compared is the way
    through the LLM.
    """

    def features(self, name: str, items: np.ndarray) -> Tensor:
        """Return rows of the resident table, float32 [items, width]."""
        return self.model.features(name)[torch.from_numpy(items).to(self.device)]

    @torch.inference_mode()
    def score(
        self, histories: Sequence[np.ndarray], candidates: np.ndarray, *, catalogue: Tensor
    ) -> np.ndarray:
        """Score candidates by one RERI pass per batch of users.

        Args:
            histories: Item row numbers, the most recent last.
            candidates: Int [histories, n], item row numbers.
            catalogue: What ``ILLMRec.catalogue`` returned.

        Returns:
            Float32 [histories, n].
        """
        trunks = [self.trunk(_fit(self.model, history)) for history in histories]
        states = torch.zeros(len(trunks), self.model.rec.numel(), device=self.device)
        for rows in self.batches(np.array([len(trunk) for trunk in trunks])):
            states[torch.from_numpy(rows)] = self.retrieval_states([trunks[row] for row in rows])
        scores = (self.model.project_users(states).flatten(1) @ catalogue.T).float().cpu().numpy()
        return np.take_along_axis(scores, candidates, axis=1)


class ReleasedStyle(PlainPath):
    """In the manner of the authors' released code, our own implementation of what it was seen to do.

    Each item's features are a file of their own, read one by one inside the pass; evaluation takes one user at a
    time, keeps all hidden states and all attentions, turns the logits of every position into float32, and reads and
    projects the candidates anew for each user. Training runs the two padded passes in batches of 8. Not imitated:
    the released code also trains the token embeddings and evaluates in float16.

    Args:
        model: The model whose modules and parameters are used.
        folder: What :func:`write_item_files` filled. The files are as a rule still in the page cache, so that
            reading them costs less here than on a cold disk.
        batch_size: Examples of a training pass.
    """

    def __init__(self, model: ILLMRec, *, folder: Path, batch_size: int = 8) -> None:
        super().__init__(model, batch_size=batch_size)
        self.folder = folder

    def features(self, name: str, items: np.ndarray) -> Tensor:
        """Read one file per item, float32 [items, width]: the loop is what is to be measured."""
        rows = [np.load(_item_file(self.folder, name, item)) for item in items.tolist()]
        return torch.from_numpy(np.stack(rows)).to(self.device)

    @torch.inference_mode()
    def score(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
        """Score candidates user by user; see :meth:`TwoPass.score`."""
        return np.stack(
            [self._score_user(history, row) for history, row in zip(histories, candidates, strict=True)]
        )

    def _score_user(self, history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        users = self.model.project_users(
            self.retrieval_states([self.trunk(_fit(self.model, history))])
        ).flatten(1)
        items = [
            self.model.item_projectors[head](self.features(head, candidates)) for head in self.model.heads
        ]
        scores: np.ndarray = (users @ torch.cat(items, dim=1).T)[0].cpu().numpy()
        return scores

    def _causal_lm(self, inputs: Tensor, mask: Tensor, **options: Any) -> Any:
        if torch.is_inference_mode_enabled():
            # Only eager attention has weights to return.
            options |= {"attention": "eager", "output_attentions": True}
        output = super()._causal_lm(inputs, mask, **options)
        if output.loss is None:  # a loss has already turned them
            output.logits = output.logits.float()
        return output


def write_item_files(model: ILLMRec, folder: Path) -> None:
    """Write each item's features, as the model sees them, to a file of its own: ``folder/FEATURE/ITEM.npy``."""
    for name in dict.fromkeys((*model.slots, *model.heads)):
        (folder / name).mkdir()
        for item, row in enumerate(model.features(name).cpu().numpy()):
            np.save(_item_file(folder, name, item), row)


class PlainTrainer(Trainer):
    """Trains by a plain path: each position is an example of its own with its own pass.

    A user's question, one per user and step as in the engine, goes with the last position.

    Args:
        path: How losses are computed.
        arguments: Those of :class:`~illmrec.training.Trainer` except the model.
    """

    def __init__(self, path: PlainPath, **arguments: Any) -> None:
        super().__init__(model=path.model, **arguments)
        self.path = path

    def _losses(self, windows: Windows, generator: np.random.Generator) -> dict[str, float]:
        examples = list(self._examples(windows, generator))
        n_answer = sum(len(e.question[1]) for e in examples if e.question is not None)
        sums = self.no_losses()
        tokens = self.model.prompts.token_counts([e.history for e in examples])
        asked = [0 if e.question is None else sum(map(len, e.question)) for e in examples]
        for rows in self.path.batches(tokens + np.array(asked)):
            reri, risa = self.path.losses([examples[row] for row in rows])
            reri, risa = reri / len(examples), risa / max(1, n_answer)
            (reri + risa).backward()
            for name, value in (("reri", reri), ("risa", risa)):
                if name in sums:
                    sums[name] += value.item()
        self.targets += len(examples)
        return sums

    def _examples(self, windows: Windows, generator: np.random.Generator) -> Iterator[Example]:
        drawn = self.draw(windows, generator)
        for user, trunk in enumerate(drawn.histories):
            for number, boundary in enumerate(drawn.boundaries[user]):
                last = number == len(drawn.boundaries[user]) - 1
                yield Example(
                    history=replace(trunk, items=trunk.items[:boundary]),
                    target=int(drawn.targets[user][number]),
                    negatives=None if drawn.negatives is None else drawn.negatives[user][number],
                    question=drawn.questions[user] if drawn.questions is not None and last else None,
                )


def _fit(model: ILLMRec, history: np.ndarray) -> Fitted:
    return model.prompts.fit(history, max_items=model.history_length)


def _item_file(folder: Path, name: str, item: int) -> Path:
    return folder / name / f"{item}.npy"
