"""LC-Rec style: the LLM reads a history as semantic IDs, four tokens an item, and writes those of the next item.

Codes are tokens that the LLM's vocabulary lacks. Each has one vector, which is trained: it enters the LLM as the
code's embedding and, unless told otherwise, scores it as the next token as well (tied). A state is standardised
before that, for each level by its own mean and deviation over users, as I-LLMRec does before its projectors: states
of a frozen LLM are nearly the same for every user.

Cost: a prompt takes ``prefix + levels * items`` tokens, and writing with ``B`` beams at most ``B * (levels - 1)``
more for a user (:mod:`baselines.generative.tree_decoding`); the LM head is never asked for an item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.generative.code_rows import CODES, Row, as_codes, pack_rows
from baselines.generative.tree_decoding import SharedTrunks
from baselines.generative.trie import build_trie
from baselines.generative.written_items import WritingModel
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone
from illmrec.model.budget import TokenBudget, reading_budget, token_batches
from illmrec.model.check import checked_execution
from illmrec.model.engine import Engine, Execution
from illmrec.model.separate import longest_unstretched
from illmrec.model.tuning import TrainedWeights
from illmrec.prompts.packing import Packed, begin_ids

HISTORY = "The codes of the items that a user has interacted with, from the oldest to the most recent, and of the next:"
TITLE_FIRST = "The title of an item, and then its codes:"
CODES_FIRST = "The codes of an item, and then its title:"
NEXT_TITLE = " The title of the next item:"
AFTER = ("history", "title")
"""What codes are written after; states are standardised for each by itself."""


class LCRec(WritingModel):
    """A catalogue's semantic IDs around an LLM.

    Args:
        backbone: The LLM; what is trained in it requires a gradient.
        codes: Int [n_items, levels], no two rows equal.
        codebook: Codes of a level.
        history_length: L, items of a history that are read.
        beams: Of the search that lists items.
        context: Tokens of a prompt and what is written after it; older items that do not fit are dropped. ``None``
            is no limit but the LLM's.
        tied: One vector of a code for reading and for writing; else one for each.
        seed: Of the vectors' initial values.
        execution: How the LLM is run; ``None`` finds out.

    Raises:
        InputError: If not even one item fits into the context.
    """

    codes: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        codes: np.ndarray,
        codebook: int,
        history_length: int = 10,
        beams: int = 20,
        context: int | None = None,
        tied: bool = True,
        seed: int = 0,
        execution: Execution | None = None,
    ) -> None:
        super().__init__()
        self.n_items, self.levels = codes.shape
        self.codebook, self.beams = codebook, beams
        tokens = codes + codebook * np.arange(self.levels)
        self.trie = build_trie(tokens)
        execution = checked_execution(backbone) if execution is None else execution
        # In a list, so that the LLM's parameters are not counted, saved or trained as this module's.
        self._engine = [Engine(backbone, execution=execution)]
        self.budget = TokenBudget(reading_budget(backbone.device))
        self.llm = TrainedWeights(backbone.model)
        self.prefix = begin_ids(backbone.tokenizer, HISTORY)
        self.history_length = history_length
        self._room(context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # As a linear layer's weights: with numbers of about 1, a step would change next to nothing.
            size, spread = (self.levels * codebook, backbone.width), backbone.width**-0.5
            self.reading = nn.Parameter(torch.randn(size) * spread)
            self.writing = None if tied else nn.Parameter(torch.randn(size) * spread)
        self._scale = backbone.embedding_scale / spread
        self.register_buffer("codes", torch.from_numpy(codes.astype(np.int64)))
        self.register_buffer("mean", torch.zeros(len(AFTER), self.levels, backbone.width))
        self.register_buffer("deviation", torch.ones(len(AFTER), self.levels, backbone.width))
        self._tokens = tokens.astype(np.int64)
        self.to(backbone.device)

    def _room(self, context: int | None) -> None:
        """Bound the items of a history by the context and by what the LLM reads."""
        backbone = self.engine.backbone
        # Beyond the last of them keys that are kept would be those of other frequencies.
        reads = (context, backbone.longest_input, longest_unstretched(backbone.model))
        limits = [limit for limit in reads if limit is not None]
        if not limits:
            return
        items = (min(limits) - len(self.prefix) - self.levels + 1) // self.levels
        if items < 1:
            raise InputError(
                f"--context {min(limits)}: {len(self.prefix)} tokens of the task and {self.levels} of an item to be "
                f"written leave no room for an item; give at least {len(self.prefix) + 2 * self.levels}"
            )
        self.history_length = min(self.history_length, items)

    @property
    def engine(self) -> Engine:
        """The engine around the LLM."""
        return self._engine[0]

    def tokens(self, items: np.ndarray) -> np.ndarray:
        """Return the tokens of some items, int64 [*items.shape, levels]."""
        found: np.ndarray = self._tokens[items]
        return found

    def prompt_tokens(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return int64 [histories], tokens of each prompt, the prefix included."""
        items = np.array([min(len(history), self.history_length) for history in histories])
        return len(self.prefix) + self.levels * items

    @property
    def item_tokens(self) -> np.ndarray:
        """Int64 [n_items], tokens of each item in a history: its codes."""
        return np.full(self.n_items, self.levels)

    def candidate_tokens(self, count: int) -> int:
        """Return how many tokens go through the LLM for a user of whom so many items are scored, at most."""
        return (self.levels - 1) * count

    def history_row(self, history: np.ndarray) -> Row:
        """Return the prompt of a history, of which the last state is read."""
        ids = as_codes(self.tokens(history[-self.history_length :])).reshape(-1)
        return Row(ids=ids, read=np.array([len(ids) - 1]))

    def target_row(self, trunk: np.ndarray, boundaries: np.ndarray, last: int) -> Row:
        """Return a training row: the codes of a trunk and of what follows it, read before each target's codes.

        Args:
            trunk: Int [n], item rows.
            boundaries: Int [targets], a target follows so many items of the trunk.
            last: The item after the trunk.
        """
        ids = as_codes(self.tokens(np.append(trunk, last))).reshape(-1)[:-1]
        read = (boundaries[:, None] * self.levels - 1 + np.arange(self.levels)).reshape(-1)
        return Row(ids=ids, read=read)

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return what codes enter the LLM as, float32 [n, width]."""
        return self.reading[tokens] * self._scale

    def states(self, packed: Packed) -> Tensor:
        """Return final states of what a packed row reads, float32 [n, width]."""
        device = self.reading.device
        slots = {CODES: self.vectors(torch.from_numpy(packed.slot_items[CODES]).to(device))}
        rec = torch.zeros(self.engine.backbone.width, device=device)
        return self.engine.hidden(
            packed, slots=slots, rec=rec, positions=torch.from_numpy(packed.answer_positions)
        )

    def logits(self, states: Tensor, level: int, *, after: int = 0) -> Tensor:
        """Return logits over the codes of a level, float32 [n, codebook].

        Args:
            states: Float32 [n, width], before a code of that level.
            level: Which.
            after: Number of what the codes are written after, in ``AFTER``.
        """
        table = self.reading if self.writing is None else self.writing
        own = table[level * self.codebook : (level + 1) * self.codebook]
        standardised = (states - self.mean[after, level]) / self.deviation[after, level]
        return standardised @ own.T

    def code_loss(self, states: Tensor, items: np.ndarray, *, after: int = 0) -> Tensor:
        """Return the cross-entropy of items' codes, each among the codes of its level, summed over levels and items.

        Args:
            states: Float32 [items * levels, width], those before an item's codes side by side.
            items: Int [items], item rows.
            after: As in :meth:`logits`.
        """
        by_level = states.view(len(items), self.levels, -1)
        codes = self.codes[torch.from_numpy(np.asarray(items, dtype=np.int64)).to(self.codes.device)]
        return torch.stack(
            [
                functional.cross_entropy(
                    self.logits(by_level[:, level], level, after=after), codes[:, level], reduction="sum"
                )
                for level in range(self.levels)
            ]
        ).sum()

    @torch.inference_mode()
    def calibrate(self, histories: Sequence[np.ndarray]) -> None:
        """Set how states are standardised after histories: by mean and deviation over users, level by level.

        Args:
            histories: Histories of the training part, item row numbers, the most recent last, of two items or more
                each.
        """
        rows = [
            self.target_row(short[:-1], np.array([len(short) - 1]), int(short[-1]))
            for short in (history[-self.history_length - 1 :] for history in histories)
        ]
        self.standardise_by(self._in_passes(self.prefix, rows), after=0)

    @torch.inference_mode()
    def standardise_by(self, states: Tensor, *, after: int) -> None:
        """Set it by states before the codes of some items, float32 [items * levels, width]."""
        by_level = states.view(-1, self.levels, states.shape[1])
        self.mean[after] = by_level.mean(dim=0)
        self.deviation[after] = by_level.std(dim=0).clamp_min(1e-6)

    def _in_passes(self, prefix: np.ndarray, rows: Sequence[Row]) -> Tensor:
        lengths, each = np.array([len(row.ids) for row in rows]), self.levels

        def read(tokens: int) -> Tensor:
            found = torch.zeros(len(rows), each, self.engine.backbone.width, device=self.reading.device)
            for batch in token_batches(lengths, token_budget=tokens):
                states = self.states(pack_rows(prefix, [rows[row] for row in batch]))
                found[torch.from_numpy(batch)] = states.view(len(batch), each, -1)
            return found.flatten(0, 1)

        return self.budget.run(read)

    def writer(self, histories: Sequence[np.ndarray]) -> CodeWriter:
        """Return what writes codes after some histories."""
        return CodeWriter(self, histories)


class CodeWriter:
    """Writes codes after histories, as :class:`~baselines.generative.beam_search.Writer` says.

    Args:
        model: The model.
        histories: One for each user.
    """

    def __init__(self, model: LCRec, histories: Sequence[np.ndarray]) -> None:
        self._model, self._histories = model, histories
        self._level = 0
        self._trunks: SharedTrunks | None = None

    def begin(self) -> Tensor:
        """Run the trunks and return the logits of first codes, float32 [users, levels * codebook]."""
        model = self._model
        packed = pack_rows(model.prefix, [model.history_row(history) for history in self._histories])
        codes = torch.from_numpy(packed.slot_items[CODES]).to(model.reading.device)
        self._trunks = SharedTrunks(model.engine, packed, slots={CODES: model.vectors(codes)})
        return self._logits(self._trunks.states)

    def step(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Write one more code in each row and return the logits of the next, float32 [rows, levels * codebook]."""
        if self._trunks is None:
            raise RuntimeError("a step before the first")
        self._level += 1
        return self._logits(self._trunks.write(parents, self._model.vectors(tokens)))

    def _logits(self, states: Tensor) -> Tensor:
        model = self._model
        found = states.new_full((len(states), model.levels * model.codebook), -torch.inf)
        start = self._level * model.codebook
        found[:, start : start + model.codebook] = model.logits(states, self._level)
        return found
