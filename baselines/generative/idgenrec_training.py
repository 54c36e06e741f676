"""How an LLM learns to write identifiers: next items at every position of a history, in the history's own row.

A window of L + 1 items trains all identifiers but the first in as many tokens as they have: no branch is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from baselines.generative.code_rows import Row, pack_rows
from baselines.generative.idgenrec import IDGenRec
from baselines.generative.written_items import WritingTrainer
from illmrec.data.splits import Split
from illmrec.errors import InputError, UnsupportedError
from illmrec.files import hash_json
from illmrec.model import processes
from illmrec.model.budget import token_batches
from illmrec.training import TrainingOptions
from illmrec.training.windows import Windows


@dataclass(frozen=True, kw_only=True)
class IDGenRecOptions:
    """What identifiers are made of; part of a cell's key.

    Attributes:
        words: Keywords of an identifier, if an item's text has so many.
        least_items: Items that a keyword has at least.
    """

    words: int = 4
    least_items: int = 3

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is below 1.
        """
        for name in ("words", "least_items"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be at least 1")


def idgenrec_options(options: TrainingOptions) -> TrainingOptions:
    """Return how IDGenRec is trained: jointly, and by LoRA where others train nothing in the LLM.

    There is nothing around the LLM that could learn.

    Args:
        options: How LLM methods are trained.
    """
    tunes = options.tunes if options.tunes in ("lora", "embeddings", "end-to-end") else "lora"
    return replace(options, strategy=tunes, cached=None, risa=False, adaptor_start="drawn")


class IDGenRecTrainer(WritingTrainer):
    """Trains an IDGenRec model by the trainer of LLM methods: its windows, steps, schedule, validation and checkpoints.

    Args:
        model: The model to train in place.
        split: Leave-one-out split; only its training part is used for targets.
        options: Training options; those of RISA and of retrieval losses say nothing here.
        seed: Of windows.
        negatives: Int [n_users, n], items for ranking validation targets.
        arguments: ``checkpoint``, ``progress`` and ``look``, as of :class:`WritingTrainer`.

    Raises:
        UnsupportedError: If nothing of the LLM is trained.
    """

    def __init__(
        self,
        *,
        model: IDGenRec,
        split: Split,
        options: TrainingOptions,
        seed: int,
        negatives: np.ndarray,
        **arguments: Any,
    ) -> None:
        if not any(True for _ in model.llm.parameters()):
            raise UnsupportedError(
                f"strategy {options.strategy}: idgenrec has nothing to train but the LLM; give --strategy lora, "
                "embeddings or end-to-end"
            )
        super().__init__(
            network=model, split=split, options=options, seed=seed, negatives=negatives, **arguments
        )
        self.network = model

    def _losses(self, windows: Windows, generator: np.random.Generator) -> dict[str, float]:
        """Leave the gradients of one step and return its mean loss."""
        made = [
            self.network.target_row(np.append(trunk, targets[-1]), boundaries)
            for trunk, boundaries, targets in zip(
                windows.trunks, windows.boundaries, windows.targets, strict=True
            )
        ]
        rows, words = [row for row, _ in made], [own for _, own in made]
        loss = self.budget.run(
            lambda tokens: self._words_loss(rows, words, token_budget=tokens), undo=self._make_room
        )
        processes.sum_gradients(p for group in self.optimiser.param_groups for p in group["params"])
        self.targets += sum(map(len, windows.targets))
        return {"words": float(processes.total(torch.tensor([loss], dtype=torch.float64))[0])}

    def _words_loss(self, rows: list[Row], words: list[np.ndarray], *, token_budget: int) -> float:
        """Add up this process's share of gradients and return its share of the mean loss of a token."""
        lengths = np.array([len(row.ids) for row in rows])
        share, count = processes.share(lengths), sum(map(len, words))
        total = 0.0
        for batch in token_batches(lengths[share], token_budget=token_budget):
            some = share[batch]
            states = self.network.states(pack_rows(self.network.prefix, [rows[row] for row in some]))
            loss = self.network.word_loss(states, np.concatenate([words[row] for row in some])) / count
            loss.backward()
            total += loss.item()
        return total

    def _identity(self) -> str:
        network = self.network
        return hash_json(
            {
                "options": self.options.described(),
                "seed": self.seed,
                "data": self.split.dataset.training_fingerprint,
                "backbone": {
                    **network.engine.backbone.describe(),
                    "name": network.engine.backbone.fingerprint,
                },
                "words": [words.tolist() for words in network.words(range(network.n_items))],
                "history_length": network.history_length,
                "prefix": network.prefix.tolist(),
            }
        )
