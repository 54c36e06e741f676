"""Users whose histories grow: what the LLM has read of them stays read, and one more item costs that item alone.

The history is a trunk, each token of which sees only those before it, and the instruction with ``[REC]`` hangs behind
it. So keys and values of the trunk stay as they are when an item is appended: its tokens and one branch go through the
LLM, and the scores are those of encoding the whole history anew (equal in float32; rounded otherwise in bfloat16, where
sums are taken in another order).

Histories are read anew when their window moves: beyond ``history_length`` items, or beyond the context, the oldest
item leaves, and every token behind it saw it. A user at the limit would be read anew for each item; with ``slack`` the
window grows by so many items before it moves, and lists are then those of up to ``history_length + slack`` items.

Cost: with trunks of ``T`` tokens, an item of ``t`` and a branch of ``b`` it is ``t + b`` tokens through the LLM in
place of ``T + t + b``, and memory of :class:`illmrec.model.kv_cache.KVCache`'s bytes for each token of prefix and
trunk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError, UnsupportedError
from illmrec.model.budget import token_batches
from illmrec.model.illmrec import ILLMRec
from illmrec.model.kv_cache import KeysAndValues, KVCache
from illmrec.model.readout import reads_llm
from illmrec.prompts.packing import Fitted
from illmrec.retrieval import TopK, exact_top_k
from illmrec.session_users import Reading, SessionUser, Way

Value = TypeVar("Value")


class Sessions:
    """The sessions of many users, whose next recommendations are computed together.

    Args:
        model: A trained model whose LLM is run in packed rows.
        dataset: Whose items it recommends.
        slack: Items that a window grows by before it moves; 0 gives what encoding anew gives.
        max_bytes: Of keys and values in all sessions together, but for what one pass adds to them; those of users who
            were not asked for longest are dropped first, and read anew when they are asked for. ``None`` is no limit.
        catalogue: What :meth:`ILLMRec.catalogue` returned, if at hand.

    Raises:
        InputError: If ``slack`` is negative, or ``max_bytes`` below 1.
        UnsupportedError: If the LLM is not run in packed rows.
    """

    def __init__(
        self,
        *,
        model: ILLMRec,
        dataset: Dataset,
        slack: int = 0,
        max_bytes: int | None = None,
        catalogue: Tensor | None = None,
    ) -> None:
        if slack < 0:
            raise InputError(f"slack {slack}: give 0 or more items")
        if max_bytes is not None and max_bytes < 1:
            raise InputError(f"max_bytes {max_bytes}: give 1 or more")
        rows = model.engine.execution.rows
        if reads_llm(model.readout) and rows != "packed":
            raise UnsupportedError(
                f"LLM {model.engine.backbone.name}: a session goes on from stored keys and values, which needs packed "
                f"rows, and {rows} rows suit it; ask for each recommendation by itself"
            )
        self._model, self._dataset = model, dataset
        self._slack, self._max_bytes = slack, max_bytes
        self._users: OrderedDict[str, SessionUser] = OrderedDict()
        self._rows = {item_id: row for row, item_id in enumerate(dataset.items["item_id"])}
        self._given_catalogue = catalogue
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, user: str) -> bool:
        return user in self._users

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values that are held."""
        return sum(user.nbytes for user in self._users.values())

    @cached_property
    def _catalogue(self) -> Tensor:
        return self._model.catalogue() if self._given_catalogue is None else self._given_catalogue

    def open(self, user: str, history: Sequence[str]) -> None:
        """Begin a user's session, in place of one that there may be; nothing is read yet.

        Args:
            user: Any name.
            history: Item ids, the most recent last.

        Raises:
            InputError: If it is empty or names an unknown item.
        """
        if not history:
            raise InputError(f"history of {user}: it is empty; give item ids of {self._dataset.name}")
        self._users[user] = SessionUser(history=self._known(history))

    def append(self, user: str, *items: str) -> None:
        """Append items to a user's history; they are read when a recommendation is asked for.

        Args:
            user: A name given to :meth:`open`.
            items: Item ids, the most recent last.

        Raises:
            InputError: If there is no such session, or an item is unknown; then none is appended.
        """
        self._user(user).history.extend(self._known(items))

    def close(self, user: str) -> None:
        """End a user's session.

        Raises:
            InputError: If there is none.
        """
        self._user(user)
        del self._users[user]

    def reading(self, user: str) -> Reading:
        """Return what the LLM read for a user's last recommendation.

        Raises:
            InputError: If there is no such session.
        """
        return self._user(user).reading

    def recommend(self, users: Sequence[str], *, k: int = 10, repeats: bool = False) -> list[pd.DataFrame]:
        """Return the k items that suit each user best; what is unread of their histories is read in one pass.

        Args:
            users: Names given to :meth:`open`, each once.
            k: How many items.
            repeats: Whether items of the history may be recommended again.

        Returns:
            For each user a frame with item_id, title and score, the best first.

        Raises:
            InputError: If there is no such session, or k is below 1.
        """
        if not users:
            return []
        best = self.top_k(users, k=k, repeats=repeats)
        titles = self._dataset.items[["item_id", "title"]]
        frames = []
        for items, scores in zip(best.items, best.scores, strict=True):
            left = items >= 0
            frames.append(titles.iloc[items[left]].reset_index(drop=True).assign(score=scores[left]))
        return frames

    @torch.inference_mode()
    def top_k(self, users: Sequence[str], *, k: int = 10, repeats: bool = False) -> TopK:
        """Return what :meth:`recommend` shows as row numbers and scores; arguments and errors are its own."""
        vectors = self.vectors(users)
        exclude = None if repeats else [np.unique(self._users[user].history) for user in users]
        return exact_top_k(vectors, self._catalogue, k=min(k, self._model.n_items), exclude=exclude)

    @torch.inference_mode()
    def scores(self, users: Sequence[str]) -> np.ndarray:
        """Return the scores of the whole catalogue, float32 [users, n_items]; see :meth:`ILLMRec.score`.

        Args:
            users: Names given to :meth:`open`, each once.
        """
        found: np.ndarray = (self.vectors(users) @ self._catalogue.T).cpu().numpy()
        return found

    @torch.inference_mode()
    def vectors(self, users: Sequence[str]) -> Tensor:
        """Read what is unread and return the users' projections, float32 [users, heads * shared].

        Args:
            users: Names given to :meth:`open`, each once.
        """
        chosen = [self._user(user) for user in users]
        by_way: dict[Way, list[SessionUser]] = {"append": [], "anew": [], "nothing": []}
        for user in chosen:
            way = self._way(user)
            by_way[way].append(user)
            user.reading = Reading(way=way, tokens=0)
        anew, further = by_way["anew"], by_way["append"]
        for name in users:
            self._users.move_to_end(name)
        try:
            # First what is kept is used; then it may be dropped for others'.
            self._read_on(further)
            self._read_anew(anew)
            self._project([*anew, *further])
        except BaseException:
            # What a pass that was cut short has left is never used: all of these are read anew.
            for user in (*anew, *further):
                user.cache = user.states = user.projected = None
                user.read = 0
            raise
        self._evict()
        return torch.stack([_there(user.projected) for user in chosen])

    def _user(self, name: str) -> SessionUser:
        if name not in self._users:
            raise InputError(f"no session of {name!r}; open one with a history")
        return self._users[name]

    def _known(self, items: Sequence[str]) -> list[int]:
        for item_id in items:
            if item_id not in self._rows:
                raise InputError(f"unknown item {item_id!r}; give item ids of {self._dataset.name}")
        return [self._rows[item_id] for item_id in items]

    def _way(self, user: SessionUser) -> Way:
        """Return what is to be read: all, unless the window begins where it began and what was read is there."""
        if user.read == len(user.history):
            return "nothing"
        if user.cache is None and (user.states is not None or user.projected is None):
            return "anew"
        window = np.array(user.history[user.first :])
        if len(window) > self._model.history_length + self._slack:
            return "anew"
        fitted = self._model.prompts.fit(window)
        return "append" if fitted.cut_ids is None and not fitted.dropped_items else "anew"

    def _read_anew(self, users: Sequence[SessionUser]) -> None:
        """Read whole windows, and keep keys and values of their trunks."""
        model = self._model
        fitted = [model.prompts.fit(np.array(user.history), max_items=model.history_length) for user in users]
        ends = [np.array([len(prompt.items)]) for prompt in fitted]
        counts = model.token_counts(fitted, ends) if users else np.zeros(0, dtype=np.int64)
        for user, prompt, tokens in zip(users, fitted, counts, strict=True):
            reason = "first" if user.projected is None else "evicted" if user.evicted else "moved"
            user.cache, user.evicted = None, False
            user.first, user.read = len(user.history) - len(prompt.items), len(user.history)
            shared = len(model.prompts.task) if reads_llm(model.readout) else 0
            user.reading = Reading(way="anew", tokens=int(tokens) - shared, reason=reason)
        if not reads_llm(model.readout):
            return

        def run(budget: int) -> None:
            for rows in token_batches(counts, token_budget=budget):
                self._read_together([users[row] for row in rows], [fitted[row] for row in rows])
                self._evict()

        if users:
            model.budget.run(run)

    def _read_together(self, users: Sequence[SessionUser], fitted: Sequence[Fitted]) -> None:
        model = self._model
        packed = model.pack(fitted, [np.array([len(prompt.items)]) for prompt in fitted])
        kept: KeysAndValues = {}
        states, _ = model.hidden(packed, kept=kept)
        prefix = model.engine.prefix(packed.prefix)
        starts = np.cumsum(packed.lengths) - packed.lengths
        branches = [len(prompt.items) if model.readout == "last+mean" else 1 for prompt in fitted]
        for user, prompt, start, trunk, own in zip(
            users, fitted, starts, packed.trunk_lengths, states.split(branches), strict=True
        ):
            user.states = own
            if prompt.cut_ids is None:  # an item without its end is no history to go on from
                rows = slice(int(start), int(start + trunk))
                trunk_only = {block: (k[:, :, rows], v[:, :, rows]) for block, (k, v) in kept.items()}
                user.cache = KVCache(prefix, trunk_only)

    def _read_on(self, users: Sequence[SessionUser]) -> None:
        """Read the items that came since, a branch behind the last; behind each where the mean of states is read."""
        if not reads_llm(self._model.readout):
            for user in users:
                user.read = len(user.history)
            return
        left = list(users)
        while left:
            self._step(left)
            left = [user for user in left if user.read < len(user.history)]

    def _step(self, users: Sequence[SessionUser]) -> None:
        model = self._model
        ends = [user.read + 1 if model.readout == "last+mean" else len(user.history) for user in users]
        unread = [
            Fitted(
                items=np.array(user.history[user.read : end]), cut_ids=None, dropped_items=0, dropped_tokens=0
            )
            for user, end in zip(users, ends, strict=True)
        ]
        counts = model.prompts.token_counts(unread) - len(model.prompts.task)

        def run(budget: int) -> None:
            for batch in token_batches(counts, token_budget=budget):
                # Where memory ran out, those before are done.
                rows = [row for row in batch if users[row].read < ends[row]]
                if rows:
                    self._read_on_together([users[row] for row in rows], [unread[row] for row in rows])

        model.budget.run(run)
        for user, tokens in zip(users, counts, strict=True):
            user.reading = replace(user.reading, tokens=user.reading.tokens + int(tokens))

    def _read_on_together(self, users: Sequence[SessionUser], unread: Sequence[Fitted]) -> None:
        model = self._model
        packed = model.prompts.pack(unread)
        caches = [_there(user.cache) for user in users]
        before = np.array([cache.length for cache in caches]) - len(packed.prefix)
        packed = replace(packed, position_ids=packed.position_ids + np.repeat(before, packed.lengths))
        states, _ = model.hidden(packed, caches=caches)
        for user, cache, trunk, own, read in zip(
            users, caches, packed.trunk_lengths, states.split(1), unread, strict=True
        ):
            cache.keep(int(trunk))
            user.read += len(read.items)
            user.states = torch.cat([_there(user.states), own]) if model.readout == "last+mean" else own

    def _project(self, users: Sequence[SessionUser]) -> None:
        model = self._model
        for user in users:
            window = np.array(user.history[user.first : user.read])
            fitted = [Fitted(items=window, cut_ids=None, dropped_items=0, dropped_tokens=0)]
            every = model.readout == "last+mean"
            ends = [np.arange(1, len(window) + 1) if every else np.array([len(window)])]
            read = model.read_out(user.states, fitted, ends)[-1:]
            user.projected = model.project_users(read).flatten()

    def _evict(self) -> None:
        """Drop keys and values of the users who were not asked for longest, until the rest fits."""
        if self._max_bytes is None:
            return
        held = self.nbytes
        for user in self._users.values():
            if held <= self._max_bytes:
                return
            if user.cache is not None:
                held -= user.nbytes
                user.cache, user.evicted = None, True
                self.evictions += 1


def _there(value: Value | None) -> Value:
    assert value is not None
    return value


class Session:
    """One user's session: a history that grows, and recommendations from it.

    Args:
        sessions: Where it is kept.
        user: Its name there.
    """

    def __init__(self, sessions: Sessions, user: str) -> None:
        self._sessions, self._user = sessions, user

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values that are held."""
        return self._sessions.nbytes

    @property
    def reading(self) -> Reading:
        """What the LLM read for the last recommendation."""
        return self._sessions.reading(self._user)

    def append(self, *items: str) -> None:
        """Append item ids to the history; see :meth:`Sessions.append`."""
        self._sessions.append(self._user, *items)

    def recommend(self, *, k: int = 10, repeats: bool = False) -> pd.DataFrame:
        """Return the k items that suit the history best; see :meth:`Sessions.recommend`."""
        return self._sessions.recommend([self._user], k=k, repeats=repeats)[0]

    def scores(self) -> np.ndarray:
        """Return the scores of the whole catalogue, float32 [n_items]."""
        found: np.ndarray = self._sessions.scores([self._user])[0]
        return found
