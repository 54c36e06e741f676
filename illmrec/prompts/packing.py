"""Prompts packed for the engine: one trunk per user with branches, users side by side without padding.

Every prompt begins with the same task: a prefix, which the engine runs once for all users. A user's trunk is the
history. A branch hangs at an item boundary, sees the prefix, the trunk up to there and itself, and its positions
continue from where it hangs. A retrieval branch (RERI) is the instruction and ``[REC]``; a
question branch (RISA) is a question about the next item and its answer. Everything here is array work on token
ids: nothing is tokenised and no item is looped over.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from illmrec.errors import InputError
from illmrec.prompts.templates import INSTRUCTION, TASK
from illmrec.prompts.tokens import TokenisedItems, tokenise_texts


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Several users' prompts without their common prefix, one after the other in one row of N tokens.

    Attributes:
        prefix: Int64 [P], token ids that every prompt begins with and every token may see.
        ids: Int64 [N], token ids; slots and ``[REC]`` hold 0.
        position_ids: Int64 [N], the first after the prefix is P.
        lengths: Int64 [users], tokens of each user's prompt, branches included.
        branch: Int64 [N], 0 in the trunk, 1, 2, ... in the user's branches.
        visible: Int64 [N], how many tokens of the user's trunk a token may see (itself included if in the trunk).
        slot_positions: For each slot feature, int64 [slots], where its vectors go.
        slot_items: For each slot feature, int64 [slots], whose feature it is.
        rec_positions: Int64 [retrieval branches], in the order of users and boundaries.
        answer_positions: Int64 [answer tokens], the hidden states that predict them.
        answer_ids: Int64 [answer tokens].
        straight: Whether every user has a single branch at the end, so that plain causal attention is enough.
    """

    prefix: np.ndarray
    ids: np.ndarray
    position_ids: np.ndarray
    lengths: np.ndarray
    branch: np.ndarray
    visible: np.ndarray
    slot_positions: Mapping[str, np.ndarray]
    slot_items: Mapping[str, np.ndarray]
    rec_positions: np.ndarray
    answer_positions: np.ndarray
    answer_ids: np.ndarray
    straight: bool

    @property
    def tokens(self) -> int:
        """Number of tokens N, those of the prefix left out."""
        return len(self.ids)

    @property
    def trunk_lengths(self) -> np.ndarray:
        """Int64 [users], tokens of each user's trunk, which come first in the user's prompt."""
        user = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return np.bincount(user[self.branch == 0], minlength=len(self.lengths))

    @property
    def longest(self) -> int:
        """Positions of the longest prompt, the prefix included."""
        return int(self.position_ids.max()) + 1

    def mask(self, user: int, *, prefix: bool = False, window: int | None = None) -> np.ndarray:
        """Return bool [length, length] of one user: may the row's token see the column's?

        Args:
            user: Which user.
            prefix: Put the prefix's P columns first.
            window: A token sees so many positions, its own the last of them; ``None`` is no limit.
        """
        start = int(self.lengths[:user].sum())
        rows = slice(start, start + int(self.lengths[user]))
        branch, visible, position = self.branch[rows], self.visible[rows], self.position_ids[rows]
        local = np.arange(len(branch))
        trunk = (branch[None, :] == 0) & (local[None, :] < visible[:, None])
        seen = trunk | (
            (branch[None, :] == branch[:, None]) & (local[None, :] <= local[:, None]) & (branch > 0)[:, None]
        )
        columns = position
        if prefix:
            seen = np.pad(seen, ((0, 0), (len(self.prefix), 0)), constant_values=True)
            columns = np.append(np.arange(len(self.prefix)), position)
        return seen if window is None else seen & (position[:, None] - columns[None, :] < window)

    def of_user(self, user: int) -> Packed:
        """Return one user's row alone, as what attention needs of it: no slots, ``[REC]`` or answers are told."""
        start = int(self.lengths[:user].sum())
        rows = slice(start, start + int(self.lengths[user]))
        nothing = np.zeros(0, dtype=np.int64)
        return replace(
            self,
            ids=self.ids[rows],
            position_ids=self.position_ids[rows],
            lengths=self.lengths[user : user + 1],
            branch=self.branch[rows],
            visible=self.visible[rows],
            slot_positions={},
            slot_items={},
            rec_positions=nothing,
            answer_positions=nothing,
            answer_ids=nothing,
        )

    def filled(self, multiple: int) -> Packed:
        """Return the row with a trunk of nobody at its end, so that N is a multiple: shapes of rows then repeat."""
        missing = -self.tokens % multiple
        if not missing:
            return self
        nobody = np.arange(missing)
        return replace(
            self,
            ids=np.pad(self.ids, (0, missing)),
            position_ids=np.append(self.position_ids, len(self.prefix) + nobody),
            lengths=np.append(self.lengths, missing),
            branch=np.pad(self.branch, (0, missing)),
            visible=np.append(self.visible, nobody + 1),
        )

    def attended_pairs(self, window: int | None = None, *, read: bool = False) -> int:
        """Return the number of (query, key) pairs that attention needs, keys of the prefix included.

        Args:
            window: Tokens that a query may see at most, itself and the nearest before it; ``None``: all before it.
            read: Count the queries alone whose states are read: ``[REC]`` and what predicts answers.
        """
        within = np.arange(self.tokens) - branch_starts(self)
        keys = len(self.prefix) + self.visible + np.where(self.branch > 0, within + 1, 0)
        if read:
            keys = keys[self.read_positions]
        return int((keys if window is None else np.minimum(keys, window)).sum())

    @property
    def read_positions(self) -> np.ndarray:
        """Int64 [n], positions whose states are read: ``[REC]``, then what predicts answers."""
        return np.concatenate([self.rec_positions, self.answer_positions])


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A history cut to the context.

    Attributes:
        items: Int [kept], item row numbers, the most recent last.
        cut_ids: Token ids of the only item left where even that one had to be cut, else ``None``.
        dropped_items: Items that did not fit.
        dropped_tokens: Tokens that did not fit, those cut from the last item included.
    """

    items: np.ndarray
    cut_ids: np.ndarray | None
    dropped_items: int
    dropped_tokens: int


class PromptBuilder:
    """Builds packed prompts of one representation for one tokenizer and context.

    Args:
        items: The tokenised catalogue.
        tokenizer: The backbone's tokenizer.
        context: Tokens of the whole LLM input, task, instruction and ``[REC]`` included; ``None`` is no limit.
        limit: Positions that the LLM has; unlike ``context``, no branch may pass it. ``None`` is no limit.
        instruction: Where the retrieval instruction stands: ``after`` the history, before ``[REC]``, as in the paper;
            or ``before`` it, which leaves ``[REC]`` alone in a retrieval branch, so that a target at every item
            boundary costs one token each.

    Raises:
        InputError: If the context is too small for task, instruction and ``[REC]``.
    """

    def __init__(
        self,
        *,
        items: TokenisedItems,
        tokenizer: Any,
        context: int | None = None,
        limit: int | None = None,
        instruction: Literal["after", "before"] = "after",
    ) -> None:
        self.items = items
        before = instruction == "before"
        self.task = begin_ids(tokenizer, f"{INSTRUCTION} {TASK}" if before else TASK)
        following: np.ndarray | list[int] = (
            [] if before else tokenise_texts([f" {INSTRUCTION}"], tokenizer)[0]
        )
        self.instruction = np.asarray(following, dtype=np.int64)
        self.fixed_tokens = len(self.task) + len(self.instruction) + 1
        self.limit = limit
        self.context = self._checked(context)

    def _checked(self, context: int | None) -> int | None:
        if context is not None and context <= self.fixed_tokens:
            raise InputError(
                f"--context {context}: task, instruction and [REC] alone take {self.fixed_tokens} tokens; "
                f"give at least {self.fixed_tokens + 1}"
            )
        return context

    def with_context(self, context: int | None) -> PromptBuilder:
        """Return the same builder for another context.

        Raises:
            InputError: If it is too small for task, instruction and ``[REC]``.
        """
        changed = copy.copy(self)
        changed.context = self._checked(context)
        return changed

    def token_counts(self, fitted: Sequence[Fitted]) -> np.ndarray:
        """Return int [histories], tokens of each prompt that ends in one retrieval branch."""
        items = [
            len(f.cut_ids) if f.cut_ids is not None else self.items.lengths[f.items].sum() for f in fitted
        ]
        return self.fixed_tokens + np.array(items, dtype=np.int64)

    def fit(self, history: np.ndarray, *, max_items: int | None = None, branch: int = 0) -> Fitted:
        """Keep the most recent items that fit: oldest out first, and a single item too long loses text.

        Args:
            history: Int [n], item row numbers, the most recent last, n >= 1.
            max_items: Length of history L to keep at most; items beyond it are not counted as dropped.
            branch: Tokens of a further branch after the last item; it may exceed the context, not the LLM's limit.

        Raises:
            InputError: If nothing of the history would be left beside that branch.
        """
        if max_items is not None:
            history = history[-max_items:]
        room = self._room(branch)
        if room is None:
            return Fitted(items=history, cut_ids=None, dropped_items=0, dropped_tokens=0)
        lengths = self.items.lengths[history]
        kept = int(np.searchsorted(np.cumsum(lengths[::-1]), room, side="right"))
        if kept > 0:
            dropped = len(history) - kept
            return Fitted(
                items=history[dropped:],
                cut_ids=None,
                dropped_items=dropped,
                dropped_tokens=int(lengths[:dropped].sum()),
            )
        cut = self.items.cut(int(history[-1]), room)
        return Fitted(
            items=history[-1:],
            cut_ids=cut,
            dropped_items=len(history) - 1,
            dropped_tokens=int(lengths.sum()) - len(cut),
        )

    def _room(self, branch: int) -> int | None:
        """Return the tokens that are left for a history, ``None`` for any number."""
        rooms = [] if self.context is None else [self.context - self.fixed_tokens]
        if self.limit is not None:
            rooms.append(self.limit - max(self.fixed_tokens, len(self.task) + branch))
            if rooms[-1] < 1:
                raise InputError(
                    f"the LLM reads {self.limit} tokens: a question with its answer takes {branch} of them and leaves "
                    "none for the history; use an LLM with more positions"
                )
        return min(rooms, default=None)

    def pack(
        self,
        histories: Sequence[Fitted],
        *,
        boundaries: Sequence[np.ndarray] | None = None,
        questions: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> Packed:
        """Lay out the prompts of several users in one row.

        Args:
            histories: One per user.
            boundaries: Per user, int [branches]: a retrieval branch hangs after that many items. ``None`` hangs one
                after the last item of each user.
            questions: Per user, token ids of a RISA question and of its answer; the branch hangs after the last item.
        """
        users = len(histories)
        counts = np.array([len(h.items) for h in histories])
        items = np.concatenate([h.items for h in histories]).astype(np.int64)
        item_user = np.repeat(np.arange(users), counts)
        first_item = _starts(counts)
        item_lengths = self.items.lengths[items]
        cuts = {int(first_item[u]): h.cut_ids for u, h in enumerate(histories) if h.cut_ids is not None}
        for row, cut in cuts.items():
            item_lengths[row] = len(cut)

        # Where things start, within the user's own prompt first.
        before = np.concatenate([[0], np.cumsum(item_lengths)])
        item_local = before[:-1] - before[first_item][item_user]
        trunk = before[first_item + counts] - before[first_item]
        ends: Sequence[np.ndarray] = list(counts[:, None]) if boundaries is None else boundaries
        hangs = np.concatenate(ends).astype(np.int64)
        branches = np.array([len(end) for end in ends])
        hang_user = np.repeat(np.arange(users), branches)
        hang_visible = before[first_item[hang_user] + hangs] - before[first_item[hang_user]]
        branch_number = np.arange(len(hangs)) - np.repeat(_starts(branches), branches)
        reri = len(self.instruction) + 1
        risa = np.zeros(users, dtype=np.int64)
        if questions is not None:
            risa = np.array([len(question) + len(answer) - 1 for question, answer in questions])
        lengths = trunk + branches * reri + risa
        start = _starts(lengths)
        total = int(lengths.sum())

        ids = np.zeros(total, dtype=np.int64)
        branch = np.zeros(total, dtype=np.int64)
        local = np.arange(total) - np.repeat(start, lengths)
        visible = local + 1
        position_ids = local.copy()

        item_start = start[item_user] + item_local
        destination = _ranges(item_start, item_lengths)
        source = _ranges(self.items.offsets[items], item_lengths)
        ids[destination] = self.items.ids[source]
        for row, cut in cuts.items():
            ids[item_start[row] : item_start[row] + len(cut)] = cut
        token_item = np.repeat(items, item_lengths)

        reri_start = start[hang_user] + trunk[hang_user] + branch_number * reri
        reri_tokens = reri_start[:, None] + np.arange(reri)
        ids[reri_tokens[:, :-1]] = self.instruction
        branch[reri_tokens] = (branch_number + 1)[:, None]
        visible[reri_tokens] = hang_visible[:, None]
        position_ids[reri_tokens] = hang_visible[:, None] + np.arange(reri)

        answer_positions = np.zeros(0, dtype=np.int64)
        answer_ids = np.zeros(0, dtype=np.int64)
        if questions is not None:
            risa_start = start + trunk + branches * reri
            tokens = _ranges(risa_start, risa)
            ids[tokens] = np.concatenate(
                [np.concatenate([question, answer[:-1]]) for question, answer in questions]
            )
            branch[tokens] = np.repeat(branches + 1, risa)
            visible[tokens] = np.repeat(trunk, risa)
            position_ids[tokens] = _ranges(trunk, risa)
            answer_lengths = np.array([len(answer) for _, answer in questions])
            answer_positions = _ranges(risa_start + risa - answer_lengths, answer_lengths)
            answer_ids = np.concatenate([answer for _, answer in questions]).astype(np.int64)

        slot_positions, slot_items = {}, {}
        item_tokens = ids[destination]
        for number, slot in enumerate(self.items.slots):
            found = item_tokens == -1 - number
            slot_positions[slot] = destination[found]
            slot_items[slot] = token_item[found]
        ids[ids < 0] = 0
        return Packed(
            prefix=self.task,
            ids=ids,
            position_ids=position_ids + len(self.task),
            lengths=lengths,
            branch=branch,
            visible=visible,
            slot_positions=slot_positions,
            slot_items=slot_items,
            rec_positions=reri_tokens[:, -1].copy(),
            answer_positions=answer_positions,
            answer_ids=answer_ids,
            straight=questions is None and bool((branches == 1).all()) and bool((hangs == counts).all()),
        )


def begin_ids(tokenizer: Any, text: str) -> np.ndarray:
    """Return the ids of a beginning, with the tokenizer's begin token where it adds one and without an end token."""
    ids = list(tokenizer(text)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return np.asarray(ids, dtype=np.int64)


def _starts(lengths: np.ndarray) -> np.ndarray:
    """Return where each run starts when runs of these lengths stand one after the other."""
    return np.cumsum(lengths) - lengths


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return ``start, start + 1, ...`` for each run, one run after the other."""
    return np.repeat(starts - _starts(lengths), lengths) + np.arange(int(lengths.sum()))


def branch_starts(packed: Packed) -> np.ndarray:
    """Return int64 [N], the position in the row at which each token's branch (or trunk) begins."""
    user = np.repeat(np.arange(len(packed.lengths)), packed.lengths)
    begins = np.ones(packed.tokens, dtype=bool)
    begins[1:] = (user[1:] != user[:-1]) | (packed.branch[1:] != packed.branch[:-1])
    return np.maximum.accumulate(np.where(begins, np.arange(packed.tokens), 0))
