"""How LC-Rec's codes are learnt: next items at every position of a history, and tasks that align codes with words.

The next item's codes are the next tokens of the history's own row, so that a window of L + 1 items trains ``levels *
L`` codes in ``levels * (L + 1) - 1`` tokens beside the prefix: no branch is needed. The alignment tasks are
LC-Rec's, as far as items have titles alone; they add examples, not targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.generative.code_rows import Row, as_codes, pack_rows
from baselines.generative.lcrec import CODES_FIRST, NEXT_TITLE, TITLE_FIRST, LCRec
from baselines.generative.quantiser import QuantiserOptions
from baselines.generative.written_items import WritingTrainer
from illmrec.data.splits import Split
from illmrec.errors import InputError, UnsupportedError, nearest
from illmrec.files import hash_json
from illmrec.model import processes
from illmrec.model.answer_loss import answer_loss
from illmrec.model.budget import token_batches
from illmrec.prompts.packing import begin_ids
from illmrec.prompts.tokens import tokenise_texts
from illmrec.training import TrainingOptions
from illmrec.training.calibration import calibration_users
from illmrec.training.windows import Windows

ALIGNMENTS = ("title-to-codes", "codes-to-title", "next-title")
"""An item's title gives its codes; its codes give its title; a history gives the title of the item after it."""
SEMANTIC_FEATURES = ("text", "image", "image+text")


@dataclass(frozen=True, kw_only=True)
class LCRecOptions:
    """What an LC-Rec model is, beside its LLM; part of a cell's key.

    Attributes:
        semantics: Feature types that codes are made of: ``text`` (as published), ``image`` or ``image+text``.
        levels: Codes of an item.
        codebook: Codes of a level; None takes 16 items a code, 256 at most.
        collisions: How items of the same codes are told apart: ``assigned`` or ``extra``.
        tied: One vector of a code for reading and for writing.
        alignments: Tasks beside the next item, by name, separated by ``+``; ``none`` has none of them.
        alignment_weight: Each task's loss, a mean over its items or words, is multiplied by it. At 1 the tasks
            slowed the next item down where few targets were seen (docs/methods/lc-rec.md).
    """

    semantics: str = "text"
    levels: int = 4
    codebook: int | None = None
    collisions: str = "assigned"
    tied: bool = True
    alignments: str = "+".join(ALIGNMENTS)
    alignment_weight: float = 0.05

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is unknown or out of range.
        """
        if self.semantics not in SEMANTIC_FEATURES:
            raise InputError(f"semantics {self.semantics}: {nearest(self.semantics, SEMANTIC_FEATURES)}")
        for task in self.tasks:
            if task not in ALIGNMENTS:
                raise InputError(f"alignments {task}: {nearest(task, (*ALIGNMENTS, 'none'))}")
        if not 0 < self.alignment_weight < float("inf"):
            raise InputError(f"alignment_weight {self.alignment_weight}: must be above 0")
        self.quantiser()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The alignment tasks."""
        return () if self.alignments == "none" else tuple(self.alignments.split("+"))

    @property
    def features(self) -> tuple[str, ...]:
        """Feature types that codes are made of."""
        return tuple(self.semantics.split("+"))

    def quantiser(self) -> QuantiserOptions:
        """Return how items become codes."""
        collisions: Any = self.collisions
        return QuantiserOptions(levels=self.levels, codebook=self.codebook, collisions=collisions)


@dataclass(frozen=True, kw_only=True)
class Task:
    """The examples of a step for one loss.

    Attributes:
        prefix: Int64 [P], what all its rows begin with.
        rows: One for each example.
        codes: Per row, int [targets], the items whose codes come first among what is read.
        words: Per row, int [n], the words that the states read after those predict.
        after: Number of what the codes are written after, in ``AFTER``.
    """

    prefix: np.ndarray
    rows: Sequence[Row]
    codes: Sequence[np.ndarray]
    words: Sequence[np.ndarray]
    after: int = 0


class LCRecTrainer(WritingTrainer):
    """Trains an LC-Rec model by the trainer of LLM methods: its windows, steps, schedule, validation and checkpoints.

    Args:
        model: The model to train in place.
        split: Leave-one-out split; only its training part is used for targets.
        options: Training options; those of RISA and of retrieval losses say nothing here.
        lcrec: The alignment tasks.
        seed: Of windows and of the tasks' items.
        negatives: Int [n_users, n], items for ranking validation targets.
        arguments: ``checkpoint``, ``progress`` and ``look``, as of :class:`WritingTrainer`.

    Raises:
        UnsupportedError: If the strategy trains projectors over states or adaptors, which this method has none of.
    """

    def __init__(
        self,
        *,
        model: LCRec,
        split: Split,
        options: TrainingOptions,
        lcrec: LCRecOptions,
        seed: int,
        negatives: np.ndarray,
        **arguments: Any,
    ) -> None:
        if options.strategy in ("cached", "two-stage"):
            raise UnsupportedError(
                f"strategy {options.strategy}: lc-rec has neither projectors nor adaptors, which that strategy trains; "
                "give --strategy frozen, lora or end-to-end"
            )
        super().__init__(
            network=model, split=split, options=options, seed=seed, negatives=negatives, **arguments
        )
        self.lcrec, self.network = lcrec, model
        backbone = model.engine.backbone
        self._first = {
            "title-to-codes": begin_ids(backbone.tokenizer, TITLE_FIRST),
            "codes-to-title": begin_ids(backbone.tokenizer, CODES_FIRST),
        }
        self._question = tokenise_texts([NEXT_TITLE], backbone.tokenizer)[0]
        titles = [f" {title}" for title in split.dataset.items["title"]]
        self._titles = (
            [ids[: options.answer_tokens] for ids in tokenise_texts(titles, backbone.tokenizer)] if lcrec.tasks else []
        )  # fmt: skip

        self._titled = np.flatnonzero([len(ids) for ids in self._titles])
        if lcrec.tasks and not len(self._titled):
            raise UnsupportedError(
                f"lc-rec: no item has a title to be learnt by {lcrec.alignments}; take none of them"
            )

    def _losses(self, windows: Windows, generator: np.random.Generator) -> dict[str, float]:
        """Leave the gradients of one step and return its mean losses."""
        if self.step == 0 and "title-to-codes" in self.lcrec.tasks:
            self._calibrate_titles()
        tasks = self._tasks(windows, generator)
        sums = self.budget.run(
            lambda tokens: self._task_losses(tasks, token_budget=tokens), undo=self._make_room
        )
        processes.sum_gradients(p for group in self.optimiser.param_groups for p in group["params"])
        self.targets += sum(map(len, tasks["codes"].codes))
        means = processes.total(torch.tensor(list(sums.values()), dtype=torch.float64))
        return dict(zip(sums, means.tolist(), strict=True))

    def _tasks(self, windows: Windows, generator: np.random.Generator) -> dict[str, Task]:
        """Return the examples of a step by loss: next items, and each alignment task with as many items as users."""
        lasts = [int(targets[-1]) for targets in windows.targets]
        tasks = self.lcrec.tasks
        rows = [
            self.network.target_row(trunk, boundaries, last)
            for trunk, boundaries, last in zip(windows.trunks, windows.boundaries, lasts, strict=True)
        ]
        nothing = [np.zeros(0, dtype=np.int64)] * len(rows)
        words = nothing
        if "next-title" in tasks:
            words = [self._titles[last] for last in lasts]
            rows = [self._asked(row, title) for row, title in zip(rows, words, strict=True)]
        found = {
            "codes": Task(prefix=self.network.prefix, rows=rows, codes=list(windows.targets), words=words)
        }
        # Drawn whichever tasks there are, so that a run without one is otherwise the same.
        drawn = generator.random((2, len(rows)))
        if "title-to-codes" in tasks:
            found["title-to-codes"] = self._title_first(self._some_titled(drawn[0]))
        if "codes-to-title" in tasks:
            found["codes-to-title"] = self._codes_first(self._some_titled(drawn[1]))
        return found

    def _some_titled(self, drawn: np.ndarray) -> np.ndarray:
        """Return items that have a title, by numbers between 0 and 1."""
        found: np.ndarray = self._titled[(drawn * len(self._titled)).astype(np.int64)]
        return found

    def _asked(self, row: Row, title: np.ndarray) -> Row:
        """Return a training row with a branch that asks for the title of the last target."""
        levels, trunk = self.network.levels, len(row.ids)
        branch = np.concatenate([self._question, title[:-1]])
        asked = trunk + len(self._question) - 1 + np.arange(len(title))
        return Row(
            ids=np.concatenate([row.ids, branch]),
            read=np.concatenate([row.read, asked]),
            branch=len(branch),
            hangs=trunk + 1 - levels,
        )

    def _title_first(self, items: np.ndarray) -> Task:
        codes = as_codes(self.network.tokens(items))[:, :-1]
        titles = [self._titles[item] for item in items]
        rows = [
            Row(ids=np.concatenate([title, own]), read=len(title) - 1 + np.arange(self.network.levels))
            for title, own in zip(titles, codes, strict=True)
        ]
        return Task(
            prefix=self._first["title-to-codes"],
            rows=rows,
            codes=[np.array([item]) for item in items],
            words=[np.zeros(0, dtype=np.int64)] * len(rows),
            after=1,
        )

    def _codes_first(self, items: np.ndarray) -> Task:
        codes = as_codes(self.network.tokens(items))
        titles = [self._titles[item] for item in items]
        rows = [
            Row(ids=np.concatenate([own, title[:-1]]), read=self.network.levels - 1 + np.arange(len(title)))
            for title, own in zip(titles, codes, strict=True)
        ]
        nothing = [np.zeros(0, dtype=np.int64)] * len(rows)
        return Task(prefix=self._first["codes-to-title"], rows=rows, codes=nothing, words=titles)

    def _task_losses(self, tasks: dict[str, Task], *, token_budget: int) -> dict[str, float]:
        """Add up this process's share of gradients and return its share of mean losses, by name."""
        sums = {name: 0.0 for name in self._names()}
        for name, task in tasks.items():
            lengths = np.array([len(row.ids) for row in task.rows])
            share = processes.share(lengths)
            counts = (max(1, sum(map(len, task.codes))), max(1, sum(map(len, task.words))))
            for batch in token_batches(lengths[share], token_budget=token_budget):
                losses = self._task_pass(name, task, share[batch], counts)
                torch.stack(list(losses.values())).sum().backward()
                for loss, value in losses.items():
                    weight = 1.0 if loss == "codes" else self.lcrec.alignment_weight
                    sums[loss] += value.item() / weight
        return sums

    def _names(self) -> tuple[str, ...]:
        return ("codes", *self.lcrec.tasks)

    def _task_pass(
        self, name: str, task: Task, rows: np.ndarray, counts: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Return a pass's losses by name, each weighted and divided by what the whole step has of it."""
        network, weight = self.network, self.lcrec.alignment_weight
        packed = pack_rows(task.prefix, [task.rows[row] for row in rows])
        states = network.states(packed)
        levels = network.levels
        codes = np.array([len(task.codes[row]) * levels for row in rows])
        words = np.array([len(task.words[row]) for row in rows])
        first = np.repeat(np.cumsum(codes + words) - codes - words, codes + words)
        of_code = torch.from_numpy(np.arange(len(first)) - first < np.repeat(codes, codes + words))
        of_code = of_code.to(states.device)
        losses = {}
        if codes.any():
            items = np.concatenate([task.codes[row] for row in rows])
            loss = network.code_loss(states[of_code], items, after=task.after) / counts[0]
            losses[name] = loss if name == "codes" else weight * loss
        if words.any():
            ids = np.concatenate([task.words[row] for row in rows]).astype(np.int64)
            engine = network.engine
            loss = answer_loss(
                engine.backbone.head,
                states[~of_code],
                torch.from_numpy(ids).to(states.device),
                logits=engine.execution.logits,
            )
            losses["next-title" if name == "codes" else name] = weight * loss / counts[1]
        return losses

    @torch.no_grad()
    def _calibrate_titles(self) -> None:
        """Standardise what is read after titles, by as many items as users for histories."""
        generator = np.random.default_rng([self.seed, self.network.n_items])
        validated = self.options.validation_users
        count = len(calibration_users(self.split, seed=self.seed, validated=validated))
        task = self._title_first(self._some_titled(generator.random(max(2, count))))
        states = [
            self.network.states(pack_rows(task.prefix, [task.rows[row] for row in batch]))
            for batch in token_batches(
                np.array([len(row.ids) for row in task.rows]), token_budget=self.options.token_budget
            )
        ]
        self.network.standardise_by(torch.cat(states), after=1)

    def _identity(self) -> str:
        network = self.network
        return hash_json(
            {
                "options": self.options.described(),
                "lcrec": vars(self.lcrec),
                "seed": self.seed,
                "data": self.split.dataset.training_fingerprint,
                "backbone": {
                    **network.engine.backbone.describe(),
                    "name": network.engine.backbone.fingerprint,
                },
                "codes": hash_json(network.codes.tolist()),
                "history_length": network.history_length,
                "prefix": network.prefix.tolist(),
            }
        )
