"""Prompts timed in turns: all methods and lengths in one session, so that what the machine does else hits all alike."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bench.meters.energy import Energy, EnergyMeter
from bench.meters.scored_histories import ScoredHistories
from bench.meters.time_and_memory import PeakMemory, Timer, clean_memory, memory_parts
from bench.meters.written_prompts import WrittenPrompts
from bench.protocol.statistics import mean_interval
from illmrec.model.cost import forward_flops
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.packing import PromptBuilder

ALONE, BATCH = "alone", "batch"
"""Kinds of timed runs: one user, as whoever asks for a recommendation waits; several users together."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What is timed: the prompts of some users under one method.

    Attributes:
        name: How progress names it.
        model: The method's model.
        builder: Its prompt builder, for the context that is meant.
        histories: Per user, int [n] item row numbers, the most recent last.
        batch_users: The first so many of them are a batch.
    """

    name: str
    model: ILLMRec
    builder: PromptBuilder
    histories: Sequence[np.ndarray]
    batch_users: int

    @property
    def batch(self) -> range:
        """Users of the batch."""
        return range(min(self.batch_users, len(self.histories)))

    @property
    def device(self) -> torch.device:
        """Where the LLM is."""
        return self.model.engine.backbone.device

    def ready(self) -> Any:
        """Return what is computed before anyone is served: the catalogue's projections."""
        return self.model.catalogue().detach()

    def serve(self, users: range, ready: Any) -> None:
        """Score the catalogue for some users."""
        self.model.prompts = self.builder
        self.model.score([self.histories[user] for user in users], catalogue=ready)

    def counts(self) -> dict[str, float | None]:
        """Return tokens of an item and of a prompt, on average."""
        fitted = [self.builder.fit(history) for history in self.histories]
        return {
            "tokens_per_item": float(self.builder.items.lengths[np.concatenate(self.histories)].mean()),
            "prompt_tokens": float(self.builder.token_counts(fitted).mean()),
        }

    def flops(self) -> float | None:
        """Return the FLOPs of the batch in the LLM's blocks, or ``None`` where they cannot be known."""
        fitted = [self.builder.fit(self.histories[user]) for user in self.batch]
        return forward_flops(self.model.engine.backbone, self.builder.pack(fitted))

    def memory(self, peak: PeakMemory) -> dict[str, float]:
        """Return what the model takes by itself, in MB."""
        return memory_parts(self.model, peak)

    def work(self) -> tuple[Any, ...]:
        """Return what two prompts have in common where the LLM does the same work for both."""
        packed = self.builder.pack([self.builder.fit(history) for history in self.histories])
        slots = tuple(items.tobytes() for items in packed.slot_items.values())
        return (id(self.model), packed.ids.tobytes(), packed.lengths.tobytes(), slots, self.batch_users)


@dataclass(frozen=True, kw_only=True)
class UnreadPrompts(Prompts):
    """Histories of a method that projects features of their items: no prompt is read, and no LLM is needed."""

    def counts(self) -> dict[str, float | None]:
        """Return no tokens."""
        return {"tokens_per_item": None, "prompt_tokens": None}

    def flops(self) -> None:
        """Return nothing: there are no blocks of an LLM."""

    def memory(self, peak: PeakMemory) -> dict[str, float]:
        """Return what the model takes without the LLM, in MB."""
        parts = {**memory_parts(self.model, peak), "weights_mb": 0.0}
        return {**parts, "peak_memory_mb": parts["features_mb"] + parts["activations_mb"]}


AnyPrompts = Prompts | WrittenPrompts | ScoredHistories


class Session:
    """Times prompts in turns.

    Every repeat is a block: it runs every user of everything alone once, and its batch once, in an order drawn by
    seed. A first block is not counted: in it, libraries prepare for every length that they have not seen (on one CPU it
    took half as long again). Prompts that are the same, such as those of two budgets in which nothing is dropped, are
    run once and have the same timings.

    Args:
        prompts: What to time, by key.
        repeats: Blocks.
        seed: Of the order.
        progress: Show a progress bar over the runs.
        energy: Reads the energy of batches, after they were timed; None where no counter can be read.
    """

    def __init__(
        self,
        prompts: Mapping[str, AnyPrompts],
        *,
        repeats: int,
        seed: int = 0,
        progress: bool = True,
        energy: EnergyMeter | None = None,
    ) -> None:
        self.id = f"s{uuid.uuid4().hex[:11]}"  # never a number: 9248567317e8 is read from a table as one
        self.started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.repeats = repeats
        self._progress = progress
        self._seed = seed
        self._meter = energy
        first: dict[tuple[Any, ...], str] = {}
        self.timed_as = {key: first.setdefault(each.work(), key) for key, each in prompts.items()}
        self.prompts = prompts
        self._distinct = [key for key, timed in self.timed_as.items() if timed == key]
        self._memory: dict[str, PeakMemory] = {}
        self._energy: dict[str, Energy | None] = {}
        self._ready: dict[int, Any] = {}
        self._timings: dict[str, pd.DataFrame] = {}

    def run(self) -> None:
        """Run everything once without counting, then measure memory, then time, then read counters of energy."""
        runs = [
            (key, kind, number)
            for key in self._distinct
            for kind, count in ((ALONE, len(self.prompts[key].histories)), (BATCH, 1))
            for number in range(count)
        ]
        generator = np.random.default_rng(self._seed)
        rows: dict[str, list[dict[str, Any]]] = {key: [] for key in self._distinct}
        total = len(self._distinct) + (1 + self.repeats) * len(runs)
        with tqdm(total=total, desc="timing in turns", unit="run", disable=not self._progress) as bar:
            for key, kind, number in runs:
                self._seconds(self.prompts[key], self._users(key, kind, number))
                bar.update()
            for key in self._distinct:
                self._memory[key] = self._peak(self.prompts[key])
                bar.update()
            for repeat in range(self.repeats):
                for order, at in enumerate(generator.permutation(len(runs))):
                    key, kind, number = runs[int(at)]
                    users = self._users(key, kind, number)
                    seconds = self._seconds(self.prompts[key], users)
                    rows[key].append(
                        {
                            "repeat": repeat,
                            "order": order,
                            "kind": kind,
                            "number": number,
                            "users": len(users),
                            "seconds": seconds,
                        }
                    )
                    bar.update()
        self._timings = {key: pd.DataFrame(found) for key, found in rows.items()}
        if self._meter is not None:
            for key in self._distinct:
                self._energy[key] = self._meter.measure(partial(self._batch, self.prompts[key]))

    def timings(self, key: str) -> pd.DataFrame:
        """Return one row per timed run: repeat, order, kind, number (of the user), users and seconds."""
        return self._timings[self.timed_as[key]]

    def results(self, key: str, *, peak_gflops: float) -> dict[str, Any]:
        """Return the costs of some prompts.

        Args:
            key: Their key.
            peak_gflops: The best rate of the device.
        """
        prompts, timed = self.prompts[key], self.timings(key)
        batch, flops = prompts.batch, prompts.flops()
        seconds = float(timed.loc[timed["kind"] == BATCH, "seconds"].median())
        memory = self._memory[self.timed_as[key]]
        return {
            "users": len(prompts.histories),
            "repeats": self.repeats,
            **prompts.counts(),
            **latency(timed[timed["kind"] == ALONE]),
            "batch_users": len(batch),
            "users_per_second": len(batch) / seconds,
            **prompts.memory(memory),
            "model_gflops": None if flops is None else flops / 1e9 / len(batch),
            "utilisation": None if flops is None else flops / 1e9 / seconds / peak_gflops,
            "peak_gflops": peak_gflops,
            **self._joules(key),
            "session": self.id,
            "session_started": self.started,
        }

    def _users(self, key: str, kind: str, number: int) -> range:
        return range(number, number + 1) if kind == ALONE else self.prompts[key].batch

    def _joules(self, key: str) -> dict[str, Any]:
        """Return the energy of a user in a batch as counters have it, and which; nothing where none was read."""
        energy = self._energy.get(self.timed_as[key])
        if energy is None:
            return {}
        return {
            "joules_per_user": energy.joules / len(self.prompts[key].batch),
            "energy_read": energy.read,
            "energy_runs": energy.runs,
        }

    def _batch(self, prompts: AnyPrompts) -> None:
        prompts.serve(prompts.batch, self._ready[id(prompts.model)])

    def _peak(self, prompts: AnyPrompts) -> PeakMemory:
        """Return the memory of the batch above what is there before it."""
        with clean_memory(prompts.device) as memory:
            self._seconds(prompts, prompts.batch)
        return memory

    def _seconds(self, prompts: AnyPrompts, users: range) -> float:
        at = id(prompts.model)
        if at not in self._ready:
            self._ready[at] = prompts.ready()
        with Timer(prompts.device) as timer:
            prompts.serve(users, self._ready[at])
        return timer.seconds


def latency(timed: pd.DataFrame) -> dict[str, float | None]:
    """Return the latency of a user who is alone, in ms.

    Args:
        timed: Columns repeat, number (of the user) and seconds; one row per user and repeat.

    Returns:
        ``latency_ms_median`` is the median over users within a repeat, the geometric mean of repeats, and ``low`` to
        ``high`` its 95 % interval (Student's t of logarithms over repeats; missing with one). ``p95_users`` is the
        95th percentile over users of each one's median over repeats, ``p95_repeats`` that over repeats of the median
        over users.
    """
    milliseconds = timed.assign(ms=1e3 * timed["seconds"])
    blocks = milliseconds.groupby("repeat")["ms"].median()
    users = milliseconds.groupby("number")["ms"].median()
    logarithms = np.log(blocks)
    low, high = mean_interval(logarithms)
    return {
        "latency_ms_median": math.exp(logarithms.mean()),
        "latency_ms_low": None if low is None else math.exp(low),
        "latency_ms_high": None if high is None else math.exp(high),
        "latency_ms_p95_users": float(users.quantile(0.95)),
        "latency_ms_p95_repeats": float(blocks.quantile(0.95)),
    }
