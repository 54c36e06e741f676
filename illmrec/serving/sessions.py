"""Users' sessions: their keys and values are kept between requests, and one more item costs its own tokens.

The trunk of a prompt, the user's history, is causal: nothing of it changes when an item is added. So a session's next
recommendation runs the tokens of what was added and one branch (the instruction and ``[REC]``), and gives the scores
of the whole history encoded anew, in float32 up to rounding.

When the oldest items fall out of the window (length of history or context), the past of all other tokens changes and
the window is encoded anew. Once a history is as long as the window, that is so at every item, and a session gains
nothing; ``slack`` lets windows grow for some items before they are cut back, which reads more than the model was
evaluated with and therefore is not the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import reads_llm
from illmrec.model.trunk_cache import bytes_a_token, room_of
from illmrec.retrieval import exact_top_k
from illmrec.serving.windows import Encoding, Kept, Step, next_step

MAX_BYTES = 2**30
"""Bytes of keys and values that a pool keeps by default."""


class Sessions:
    """Sessions of many users over one model: what they were given since is encoded in packed passes.

    Memory of a session: ``2 * blocks * key heads * head width * bytes a number`` for each token of prefix and window,
    and a quarter more as room to grow: the 46,080 bytes a token of SmolLM2-135M in float32 make 12 MB of 260.
    All together keep to ``max_bytes``: keys and values of the least recently used session are dropped first, and
    computed anew from its history when it is asked for again. Histories are kept until :meth:`close`.

    Sessions hold for one set of parameters, and are used by one thread at a time.

    Args:
        model: A trained model.
        dataset: Whose items it recommends.
        max_bytes: Bytes of keys and values at most; ``None`` is no bound.
        slack: Items by which a window may grow before it is cut back to the length that the model reads
            (:func:`illmrec.serving.windows.window_of`). 0 gives the scores of histories encoded anew.
        catalogue: What :meth:`ILLMRec.catalogue` returned, if at hand.

    Raises:
        InputError: If ``max_bytes`` cannot hold one session with the longest items, or ``slack`` is negative.
        UnsupportedError: If the LLM is not run in packed rows.
    """

    def __init__(
        self,
        *,
        model: ILLMRec,
        dataset: Dataset,
        max_bytes: int | None = MAX_BYTES,
        slack: int = 0,
        catalogue: Tensor | None = None,
    ) -> None:
        if slack < 0:
            raise InputError(f"slack {slack}: give at least 0")
        self.model, self.dataset = model, dataset
        self.max_bytes: float = np.inf if max_bytes is None else max_bytes
        self.slack = slack
        self._rows = {item_id: row for row, item_id in enumerate(dataset.items["item_id"])}
        self._catalogue = model.catalogue() if catalogue is None else catalogue
        self._every = model.readout == "last+mean"
        self._kept: dict[str, Kept] = {}  # the least recently used first
        self.longest = self._longest()
        self.bytes_a_token = 0
        if reads_llm(model.readout):
            model.engine.check_continues()
            self.bytes_a_token = bytes_a_token(model.engine.prefix(model.prompts.task))
            needed = self.longest * self.bytes_a_token
            if max_bytes is not None and max_bytes < needed:
                raise InputError(
                    f"max_bytes {max_bytes:,}: a session of {self.longest} tokens takes {needed:,} bytes; "
                    "give at least as many, or read fewer items"
                )

    def _longest(self) -> int:
        """Return the tokens of a session that reads the longest items, prefix and branches included."""
        prompts, most = self.model.prompts, self.model.history_length + self.slack
        items = prompts.fixed_tokens + int(np.sort(prompts.items.lengths)[-most:].sum())
        bounds = [items, *(bound for bound in (prompts.context, prompts.limit) if bound is not None)]
        further = most - 1 if self._every else 0
        return min(bounds) + further * (len(prompts.instruction) + 1)

    def __len__(self) -> int:
        """Return how many sessions are open."""
        return len(self._kept)

    def __contains__(self, user: str) -> bool:
        return user in self._kept

    def __getitem__(self, user: str) -> Session:
        self._found(user)
        return Session(self, user)

    @property
    def bytes(self) -> int:
        """Bytes of keys and values that are kept now."""
        return sum(kept.bytes for kept in self._kept.values())

    def open(self, user: str, history: Sequence[str]) -> Session:
        """Begin a session, in place of any that the user has. Nothing is encoded before it is asked for.

        Args:
            user: Any name.
            history: Item ids, the most recent last.

        Raises:
            InputError: If the history is empty or names an unknown item.
        """
        rows = self._item_rows(history, user)
        if not rows:
            raise InputError(f"session {user!r}: its history is empty; give item ids of {self.dataset.name}")
        self._kept.pop(user, None)
        self._kept[user] = Kept(history=rows)
        return Session(self, user)

    def close(self, user: str) -> None:
        """End a session and forget its history.

        Raises:
            InputError: If the user has none.
        """
        self._found(user)
        del self._kept[user]

    def append(self, items: Mapping[str, Sequence[str]]) -> None:
        """Add items to users' histories. They are encoded with the next call that asks for scores, in one pass.

        Args:
            items: By user, item ids, the most recent last.

        Raises:
            InputError: If a user has no session or an item is unknown; then no history has changed.
        """
        rows = {user: self._item_rows(ids, user) for user, ids in items.items()}
        found = {user: self._found(user) for user in rows}
        for user, kept in found.items():
            kept.history.extend(rows[user])

    def scores(self, users: Sequence[str]) -> np.ndarray:
        """Score the whole catalogue for some users, float32 [users, n_items], as :meth:`ILLMRec.score` does."""
        scores: np.ndarray = (self._projected(users) @ self._catalogue.T).cpu().numpy()
        return scores

    def recommend(self, users: Sequence[str], *, k: int = 10, repeats: bool = False) -> list[pd.DataFrame]:
        """Return the k items that suit each user best, encoded in as few passes as memory allows.

        Args:
            users: Who; each has a session.
            k: How many items.
            repeats: Whether items of the history may be recommended again.

        Returns:
            For each user a frame with item_id, title and score, the best first.

        Raises:
            InputError: If a user has no session, or k is below 1.
        """
        if k < 1:
            raise InputError(f"k {k}: give at least 1")
        if not users:
            return []
        projected = self._projected(users)
        seen = [np.array(self._kept[user].history) for user in users]
        best = exact_top_k(
            projected, self._catalogue, k=min(k, self.model.n_items), exclude=None if repeats else seen
        )
        columns = self.dataset.items[["item_id", "title"]]
        frames = []
        for items, scores in zip(best.items, best.scores, strict=True):
            left = items >= 0
            frames.append(columns.iloc[items[left]].reset_index(drop=True).assign(score=scores[left]))
        return frames

    @torch.inference_mode()
    def _projected(self, users: Sequence[str]) -> Tensor:
        """Return the users' projections side by side, float32 [users, heads * shared]."""
        sessions = [self._found(user) for user in users]
        if not sessions:
            return self._catalogue.new_zeros(0, self._catalogue.shape[1])
        for user in users:
            self._kept[user] = self._kept.pop(user)  # now the most recently used
        self._encode([kept for kept in {id(k): k for k in sessions}.values() if not _is_current(kept)])
        read = torch.stack([kept.read for kept in sessions if kept.read is not None])
        return self.model.project_users(read).flatten(1)

    def _encode(self, waiting: list[Kept]) -> None:
        """Encode what was added to sessions, as many in a pass as the token budget and ``max_bytes`` allow."""
        waiting = list(waiting)

        def passes(token_budget: int) -> None:
            while waiting:
                steps = self._batch(waiting, token_budget)
                self._make_room(steps)
                self._run(steps)
                del waiting[: len(steps)]

        self.model.budget.run(passes)

    def _batch(self, waiting: Iterable[Kept], token_budget: int) -> list[Step]:
        """Return the steps of the next pass: those of the first sessions, one at least."""
        model = self.model
        steps: list[Step] = []
        tokens = memory = 0
        for kept in waiting:
            step = next_step(
                kept, model.prompts, max_items=model.history_length, slack=self.slack, every=self._every
            )
            tokens += step.tokens
            memory += self._needed(step)
            if steps and (tokens > token_budget or memory > self.max_bytes):
                break
            steps.append(step)
        return steps

    def _needed(self, step: Step) -> int:
        """Return the bytes of a session's keys and values after a step."""
        cache = step.kept.cache
        if cache is None or step.reason is not None:
            tokens = len(self.model.prompts.task) + step.tokens
            return self.bytes_a_token * room_of(tokens, most=self.longest)
        return self.bytes_a_token * cache.room_for(step.tokens)

    def _make_room(self, steps: Sequence[Step]) -> None:
        """Drop keys and values of the least recently used sessions until those of a pass fit."""
        running = {id(step.kept) for step in steps}
        others = [kept for kept in self._kept.values() if id(kept) not in running and kept.cache is not None]
        total = sum(self._needed(step) for step in steps) + sum(kept.bytes for kept in others)
        for kept in others:
            if total <= self.max_bytes:
                break
            total -= kept.bytes
            kept.cache = None
            kept.evicted += 1

    def _run(self, steps: Sequence[Step]) -> None:
        """Run one pass and keep what it gives."""
        model, prompts = self.model, self.model.prompts
        if not reads_llm(model.readout):
            self._keep(steps, None)
            return
        caches = []
        for step in steps:
            # Taken from the session for the time of the pass: what an interrupted one leaves is never used.
            cache, step.kept.cache = step.kept.cache, None
            if cache is None or step.reason is not None:
                cache = model.engine.empty_cache(prompts.task, most=self.longest)
            caches.append(cache)
        before = np.array([cache.tokens - len(prompts.task) for cache in caches])
        packed = prompts.pack([s.items for s in steps], boundaries=[s.branches for s in steps])
        states, _ = model.hidden(packed.continued(before), caches=caches)
        self._keep(steps, states.split([len(step.branches) for step in steps]))
        for step, cache in zip(steps, caches, strict=True):
            step.kept.cache = cache

    def _keep(self, steps: Sequence[Step], states: Sequence[Tensor] | None) -> None:
        model = self.model
        last = None if states is None else torch.stack([part[-1] for part in states])
        if self._every and states is not None and last is not None:
            means = []
            for step, part in zip(steps, states, strict=True):
                kept = step.kept
                before = 0 if step.reason is not None or kept.total is None else kept.total
                kept.total = part.sum(0) + before
                means.append(kept.total / len(step.window.items))
            read = torch.cat([last, torch.stack(means)], dim=1)
        else:
            ends = [np.array([len(step.window.items)]) for step in steps]
            read = model.read_out(last, [step.window for step in steps], ends)
        for step, row in zip(steps, read, strict=True):
            kept, runs = step.kept, states is not None
            kept.slid += runs and step.reason == "slid"
            kept.read, kept.encoded = row, len(kept.history)
            kept.start = len(kept.history) - len(step.window.items)
            kept.extendable = step.window.cut_ids is None
            kept.encoding = Encoding(
                way="anew" if runs and step.reason else "append",
                reason=step.reason if runs else None,
                tokens=step.tokens if runs else 0,
            )

    def _found(self, user: str) -> Kept:
        if user not in self._kept:
            raise InputError(f"session {user!r}: there is none; open it with the user's history")
        return self._kept[user]

    def _item_rows(self, item_ids: Sequence[str], user: str) -> list[int]:
        unknown = [item_id for item_id in item_ids if item_id not in self._rows]
        if unknown:
            raise InputError(
                f"session {user!r}: unknown item {unknown[0]!r}; give item ids of {self.dataset.name}"
            )
        return [self._rows[item_id] for item_id in item_ids]


class Session:
    """One user's session: :class:`Sessions` with the user's name filled in.

    Args:
        sessions: Where it is kept.
        user: Whose it is.
    """

    def __init__(self, sessions: Sessions, user: str) -> None:
        self._sessions, self.user = sessions, user

    @property
    def _kept(self) -> Kept:
        return self._sessions._found(self.user)

    def append(self, item: str) -> None:
        """Add an item. It is encoded with the next call that asks for scores, with others that were added since.

        Raises:
            InputError: If it is unknown.
        """
        self._sessions.append({self.user: [item]})

    def recommend(self, k: int = 10, *, repeats: bool = False) -> pd.DataFrame:
        """Return the k items that suit best, as :meth:`Recommender.recommend` does."""
        return self._sessions.recommend([self.user], k=k, repeats=repeats)[0]

    def scores(self) -> np.ndarray:
        """Return float32 [n_items], the score of every item."""
        scores: np.ndarray = self._sessions.scores([self.user])[0]
        return scores

    @property
    def history(self) -> tuple[str, ...]:
        """Item ids, the most recent last."""
        return tuple(self._sessions.dataset.items["item_id"].iloc[self._kept.history])

    @property
    def encoding(self) -> Encoding | None:
        """How what was asked for last was encoded, and whether the window slid; ``None`` before the first time."""
        return self._kept.encoding

    @property
    def slid(self) -> int:
        """How often the window slid, so that all of it was encoded anew."""
        return self._kept.slid

    @property
    def evicted(self) -> int:
        """How often its keys and values were dropped to keep to ``max_bytes``."""
        return self._kept.evicted

    @property
    def bytes(self) -> int:
        """Bytes of its keys and values, the room to grow included."""
        return self._kept.bytes


def _is_current(kept: Kept) -> bool:
    return kept.read is not None and kept.encoded == len(kept.history)
