"""IDGenRec style: the LLM reads a history as short textual identifiers and writes that of the next item.

Identifiers are words of the LLM's own vocabulary, so nothing is added to it: what is trained is the LLM. An end token
follows each identifier, in the history and where one is written, so that none begins another one.

Cost: a prompt takes ``prefix`` and each item's tokens, and writing with ``B`` beams at most ``B`` more a step for a
user, in fewer steps than the longest identifier has tokens (:mod:`baselines.generative.tree_decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.generative.code_rows import CODES, Row, pack_rows
from baselines.generative.tree_decoding import SharedTrunks
from baselines.generative.trie import build_trie
from baselines.generative.written_items import WritingModel
from illmrec.errors import InputError, UnsupportedError
from illmrec.model.answer_loss import answer_loss
from illmrec.model.backbone import Backbone
from illmrec.model.budget import TokenBudget, reading_budget
from illmrec.model.check import checked_execution
from illmrec.model.engine import Engine, Execution
from illmrec.model.tuning import TrainedWeights
from illmrec.prompts.packing import Packed, begin_ids
from illmrec.prompts.tokens import tokenise_texts

HISTORY = "The items that a user has interacted with, from the oldest to the most recent, and the next:"
END = ";"
_LOGITS_AT_ONCE = 256
"""States whose logits over the LLM's vocabulary exist at a time: 50 MB in float32 for 49,152 words."""


class IDGenRec(WritingModel):
    """A catalogue's textual identifiers around an LLM.

    Args:
        backbone: The LLM; what is trained in it requires a gradient.
        identifiers: One for each item, no two alike.
        history_length: L, items of a history that are read.
        beams: Of the search that lists items.
        context: Tokens of a prompt and what is written after it; as many items are read as always fit. ``None`` is no
            limit but the LLM's.
        execution: How the LLM is run; ``None`` finds out.

    Raises:
        InputError: If two items have the same tokens, or not even one item fits into the context.
        UnsupportedError: If the LLM writes an identifier by the token that ends it.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        identifiers: Sequence[str],
        history_length: int = 10,
        beams: int = 20,
        context: int | None = None,
        execution: Execution | None = None,
    ) -> None:
        super().__init__()
        self.n_items, self.beams = len(identifiers), beams
        self._words = _tokens(identifiers, backbone)
        self.vocabulary = np.unique(np.concatenate(self._words))
        self.trie = build_trie([np.searchsorted(self.vocabulary, words) for words in self._words])
        execution = checked_execution(backbone) if execution is None else execution
        # In a list, so that the LLM's parameters are not counted, saved or trained as this module's.
        self._engine = [Engine(backbone, execution=execution)]
        self.budget = TokenBudget(reading_budget(backbone.device))
        self.llm = TrainedWeights(backbone.model)
        self.prefix = begin_ids(backbone.tokenizer, HISTORY)
        self.history_length = history_length
        self._room(context)

    def _room(self, context: int | None) -> None:
        """Bound the items of a history by the context and by what the LLM reads."""
        limits = [limit for limit in (context, self.engine.backbone.longest_input) if limit is not None]
        if not limits:
            return
        longest = self.trie.longest
        items = (min(limits) - len(self.prefix) - longest + 1) // longest
        if items < 1:
            raise InputError(
                f"--context {min(limits)}: {len(self.prefix)} tokens of the task and {longest} of an item to be "
                f"written leave no room for an item; give at least {len(self.prefix) + 2 * longest - 1}"
            )
        self.history_length = min(self.history_length, items)

    @property
    def engine(self) -> Engine:
        """The engine around the LLM."""
        return self._engine[0]

    @property
    def item_tokens(self) -> np.ndarray:
        """Int64 [n_items], tokens of each identifier with its end."""
        return np.array([len(words) for words in self._words])

    def words(self, items: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return the LLM's tokens of some items, int64 each, the end included."""
        return [self._words[item] for item in items]

    def prompt_tokens(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return int64 [histories], tokens of each prompt, the prefix included."""
        rows = [self.history_row(history) for history in histories]
        return np.array([len(self.prefix) + len(row.ids) for row in rows])

    def candidate_tokens(self, count: int) -> int:
        """Return about how many tokens go through the LLM for a user of whom so many items are scored."""
        return int(self.tokens_per_item * count)

    def history_row(self, history: np.ndarray) -> Row:
        """Return the prompt of a history, of which the last state is read."""
        ids = np.concatenate(self.words(history[-self.history_length :]))
        return Row(ids=ids, read=np.array([len(ids) - 1]))

    def target_row(self, items: np.ndarray, boundaries: np.ndarray) -> tuple[Row, np.ndarray]:
        """Return a training row, whose states before each target's tokens are read, and these tokens, int64.

        Args:
            items: Int [n], item rows, the last of them a target.
            boundaries: Int [targets], places of the targets in ``items``, ascending, none of them 0.
        """
        words = self.words(items)
        ends = np.cumsum([len(each) for each in words])
        ids = np.concatenate(words)
        predicted = np.concatenate([np.arange(ends[place - 1], ends[place]) for place in boundaries])
        return Row(ids=ids[:-1], read=predicted - 1), ids[predicted]

    def states(self, packed: Packed) -> Tensor:
        """Return final states of what a packed row reads, float32 [n, width]."""
        backbone = self.engine.backbone
        nothing = torch.zeros(backbone.width, device=backbone.device)
        return self.engine.hidden(
            packed,
            slots={CODES: nothing[None, :].expand(0, -1)},
            rec=nothing,
            positions=torch.from_numpy(packed.answer_positions),
        )

    def word_loss(self, states: Tensor, words: np.ndarray) -> Tensor:
        """Return the cross-entropy of words over the LLM's whole vocabulary, summed.

        Args:
            states: Float32 [n, width], the states that predict them.
            words: Int [n], tokens of the LLM.
        """
        engine = self.engine
        ids = torch.from_numpy(np.asarray(words, dtype=np.int64)).to(states.device)
        return answer_loss(engine.backbone.head, states, ids, logits=engine.execution.logits)

    def logits(self, states: Tensor) -> Tensor:
        """Return logits of the tokens that identifiers are made of, float32 [n, tokens]."""
        head = self.engine.backbone.head
        made = torch.from_numpy(self.vocabulary).to(states.device)
        states = states.to(next(head.parameters()).dtype)
        if type(head) is nn.Linear:  # the others' rows are not asked for
            bias = None if head.bias is None else head.bias[made]
            outputs = functional.linear(states, head.weight[made], bias)
        else:
            outputs = torch.cat([head(part)[:, made] for part in states.split(_LOGITS_AT_ONCE)])
        return self.engine.execution.logits(outputs.float())

    def calibrate(self, histories: Sequence[np.ndarray]) -> None:
        """Do nothing: there are no projections whose inputs would be standardised."""

    def writer(self, histories: Sequence[np.ndarray]) -> WordWriter:
        """Return what writes identifiers after some histories."""
        return WordWriter(self, histories)


class WordWriter:
    """Writes identifiers after histories, as :class:`~baselines.generative.beam_search.Writer` says.

    Args:
        model: The model.
        histories: One for each user.
    """

    def __init__(self, model: IDGenRec, histories: Sequence[np.ndarray]) -> None:
        self._model, self._histories = model, histories
        self._trunks: SharedTrunks | None = None

    def begin(self) -> Tensor:
        """Run the trunks and return the logits of first tokens, float32 [users, tokens]."""
        model = self._model
        packed = pack_rows(model.prefix, [model.history_row(history) for history in self._histories])
        nothing = torch.zeros(0, model.engine.backbone.width, device=model.engine.backbone.device)
        self._trunks = SharedTrunks(model.engine, packed, slots={CODES: nothing})
        return model.logits(self._trunks.states)

    def step(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Write one more token in each row and return the logits of the next, float32 [rows, tokens]."""
        if self._trunks is None:
            raise RuntimeError("a step before the first")
        model = self._model
        words = torch.from_numpy(model.vocabulary).to(tokens.device)[tokens]
        return model.logits(self._trunks.write(parents, model.engine.backbone.embeddings(words)))


def _tokens(identifiers: Sequence[str], backbone: Backbone) -> list[np.ndarray]:
    """Return the LLM's tokens of each identifier, int64, the end included."""
    end = int(tokenise_texts([END], backbone.tokenizer)[0][-1])
    found = tokenise_texts([f" {text}" for text in identifiers], backbone.tokenizer)
    for text, words in zip(identifiers, found, strict=True):
        if end in words:
            raise UnsupportedError(
                f"--llm {backbone.name}: it writes the identifier '{text}' by the token that ends one; use another LLM"
            )
    return [np.append(words, end).astype(np.int64) for words in found]
