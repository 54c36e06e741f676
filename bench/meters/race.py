"""Paths that do the same work, timed in turns on the same model, users and draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bench.frames.throughput import COMPILED, ENGINE, LLAMA_CPP, PADDING_FREE, SORTED, TWO_PASS
from bench.meters.llama_cpp_path import LlamaCpp, gguf_file
from bench.meters.peer_paths import PaddingFree, SortedTwoPass
from bench.meters.plain_paths import PlainTrainer, ReleasedStyle, TwoPass
from bench.meters.time_and_memory import Timer, clean_memory
from bench.store.cell import Outcome
from illmrec.data.splits import Split
from illmrec.model.compilation import compiled
from illmrec.model.cost import forward_flops, training_flops
from illmrec.model.illmrec import ILLMRec
from illmrec.model.trunks import Trunks
from illmrec.ranking import target_ranks
from illmrec.training import Trainer, TrainingOptions
from illmrec.training.windows import Windows

SLOW_SECONDS = 20.0
"""A first run that takes longer is counted, unless it compiles: what a start costs is lost in it."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a phase asks for, whichever path does it.

    Attributes:
        samples: Targets in training, users in inference.
        tokens: Of trunks and branches, each once: what the engine puts through the LLM.
        gflops: Useful GFLOP, or ``None`` where they cannot be known.
    """

    samples: int
    tokens: int
    gflops: float | None


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One path, ready to be timed in a phase.

    Attributes:
        path: Its name.
        call: Does the work and returns a number that is equal for all paths up to rounding: the mean training loss of
            a step, or the mean rank of the targets among their candidates. ``None`` of a path that has neither.
        reset: Makes every call the same work.
        tokens: Returns how many tokens went through the LLM so far, or ``None`` for those of the work.
    """

    path: str
    call: Callable[[], float | None]
    reset: Callable[[], None]
    tokens: Callable[[], int] | None = None


class Race:
    """Paths over the same model, users and draws.

    Args:
        model: The model.
        split: The users to measure with and nobody else.
        lengths: Items of history of each user at inference.
        negatives: Int [users, n], sampled candidates.
        options: Training options; ``targets`` is the phase's.
        folder: Where :func:`~bench.meters.plain_paths.write_item_files` wrote.
    """

    def __init__(
        self,
        *,
        model: ILLMRec,
        split: Split,
        lengths: Sequence[int],
        negatives: np.ndarray,
        options: TrainingOptions,
        folder: Path,
    ) -> None:
        self.model, self.split, self.lengths = model, split, lengths
        self.negatives, self.options, self.folder = negatives, options, folder

    def contenders(self, phase: str, paths: Sequence[str]) -> tuple[list[Contender], Work]:
        """Return the paths of a phase in the order of their names given, and the work that each of them does."""
        if phase == "inference":
            return [self._when_compiled(self._inference(path)) for path in paths], self._inference_work()
        arguments: dict[str, Any] = {
            "split": self.split,
            "options": replace(self.options, targets="one" if phase == "train-one" else "all"),
            "seed": 0,
            "negatives": self.negatives,
            "progress": False,
        }
        count = WorkCount(model=self.model, **arguments)
        for _ in range(count.steps_per_epoch):
            count._train_step()
        work = Work(samples=count.targets, tokens=count.tokens, gflops=count.gflops)
        return [self._when_compiled(self._training(path, arguments)) for path in paths], work

    def _when_compiled(self, contender: Contender) -> Contender:
        if contender.path != COMPILED:
            return contender
        backbone = self.model.engine.backbone

        def call() -> float | None:
            with compiled(backbone.blocks, backbone.device):
                return contender.call()

        return replace(contender, call=call)

    def _plain(self, path: str) -> TwoPass | ReleasedStyle | None:
        if path in (ENGINE, COMPILED):
            return None
        size, budget = self.options.batch_size, self.options.token_budget
        if path == TWO_PASS:
            return TwoPass(self.model, batch_size=size)
        if path == SORTED:
            return SortedTwoPass(self.model, batch_size=size)
        if path == PADDING_FREE:
            return PaddingFree(self.model, batch_size=size, token_budget=budget)
        return ReleasedStyle(self.model, folder=self.folder)

    def _training(self, path: str, arguments: dict[str, Any]) -> Contender:
        plain = self._plain(path)
        trainer = (
            Trainer(model=self.model, **arguments) if plain is None else PlainTrainer(plain, **arguments)
        )
        initial = {name: value.clone() for name, value in self.model.state_dict().items()}

        def reset() -> None:
            self.model.load_state_dict(initial)
            trainer.optimiser.state.clear()
            trainer.trunks = Trunks()  # of a first epoch, in which every history is new
            trainer.step, trainer._sums = 0, {}

        def call() -> float:
            for _ in range(trainer.steps_per_epoch):
                trainer._train_step()
            return sum(trainer._sums.values()) / trainer.steps_per_epoch

        return Contender(
            path=path, call=call, reset=reset, tokens=None if plain is None else lambda: plain.tokens
        )

    def _histories(self) -> list[np.ndarray]:
        return [self.split.history(user, "test")[-length:] for user, length in enumerate(self.lengths)]

    def _prefill(self) -> Contender:
        histories = self._histories()
        prompts, backbone = self.model.prompts, self.model.engine.backbone
        fitted = [prompts.fit(history, max_items=self.model.history_length) for history in histories]
        longest = int(prompts.token_counts(fitted).max())
        path = LlamaCpp(self.model, file=gguf_file(backbone), longest=longest)
        return Contender(
            path=LLAMA_CPP,
            call=lambda: path.prefill(histories),
            reset=lambda: None,
            tokens=lambda: path.tokens,
        )

    def _inference(self, path: str) -> Contender:
        if path == LLAMA_CPP:
            return self._prefill()
        histories = self._histories()
        candidates = np.concatenate([self.split.targets("test")[:, None], self.negatives], axis=1)
        catalogue = self.model.catalogue()
        plain = self._plain(path)

        def score() -> np.ndarray:
            if isinstance(plain, TwoPass):
                return plain.score(histories, candidates, catalogue=catalogue)
            if isinstance(plain, ReleasedStyle):
                return plain.score(histories, candidates)
            scores = self.model.score(histories, catalogue=catalogue)
            return np.take_along_axis(scores, candidates, axis=1)

        def call() -> float:
            scores = score()
            every = np.tile(np.arange(scores.shape[1]), (len(scores), 1))
            return float(target_ranks(scores, np.zeros(len(scores), dtype=int), candidates=every).mean())

        return Contender(
            path=path,
            call=call,
            reset=lambda: None,
            tokens=None if plain is None else lambda: plain.tokens,
        )

    def scoring_seconds(self, users: int) -> float:
        """Return how long it takes to score candidates once users are encoded: projections and one matrix product.

        Args:
            users: Users to score, 100 candidates each; the states are those of the measured users over and over.
        """
        model = self.model
        with torch.inference_mode():
            states = model.encode(self._histories())
            states = states.repeat(-(-users // len(states)), 1)[:users]
            candidates = torch.from_numpy(np.resize(self.negatives, (users, self.negatives.shape[1])))
            candidates = candidates.to(states.device, torch.int64)
            catalogue = model.catalogue()
            with Timer(states.device) as timer:
                (model.project_users(states).flatten(1) @ catalogue.T).gather(1, candidates)
        return timer.seconds

    def _inference_work(self) -> Work:
        model = self.model
        fitted = [model.prompts.fit(history, max_items=model.history_length) for history in self._histories()]
        packed = model.prompts.pack(fitted)
        return Work(
            samples=len(fitted),
            tokens=packed.tokens,
            gflops=_giga(forward_flops(model.engine.backbone, packed)),
        )


class WorkCount(Trainer):
    """Goes through the steps of a training, packs their prompts and counts; nothing is computed or learnt."""

    tokens = 0
    gflops: float | None = 0.0

    def _losses(self, windows: Windows, generator: np.random.Generator) -> dict[str, float]:
        examples = self.draw(windows, generator)
        packed = examples.pack(self.model.prompts)
        self.targets += examples.n_targets
        self.tokens += packed.tokens
        read = np.arange(len(packed.lengths)) if self.model.constant_trunks else None
        gflops = _giga(training_flops(self.model.engine.backbone, packed, read=read))
        self.gflops = None if gflops is None or self.gflops is None else self.gflops + gflops
        return {}


def _giga(flops: float | None) -> float | None:
    return None if flops is None else flops / 1e9


def measure(
    contenders: Sequence[Contender],
    work: Work,
    *,
    phase: str,
    users: int,
    repeats: int,
    path_seconds: float,
    model: ILLMRec,
    peak_gflops: float,
    progress: bool,
) -> dict[str, Outcome]:
    """Time the paths of a phase in turns; which one begins changes with the repeat.

    A path's first run is not counted unless it takes longer than ``SLOW_SECONDS``. A path is done after ``repeats``
    counted runs, or once these took ``path_seconds``.

    Returns:
        Each path's results and, as a frame, its timings.
    """
    device, dtype = model.engine.backbone.device, model.engine.backbone.dtype
    timings: list[dict[str, Any]] = []
    tokens, checks = {}, {}
    seconds: dict[str, list[float]] = {contender.path: [] for contender in contenders}
    with tqdm(desc=phase, unit="run", leave=False, disable=not progress) as bar:
        for repeat in range(-1, repeats):
            first = max(0, repeat) % len(contenders)
            for contender in (*contenders[first:], *contenders[:first]):
                path = contender.path
                if len(seconds[path]) == repeats or sum(seconds[path]) >= path_seconds:
                    continue
                bar.set_postfix_str(path)
                contender.reset()
                with clean_memory(device) as memory, Timer(device) as timer:
                    check = contender.call()
                bar.update()
                if repeat < 0:
                    checks[path] = check
                    tokens[path] = work.tokens if contender.tokens is None else contender.tokens()
                    if timer.seconds < SLOW_SECONDS or path == COMPILED:
                        continue
                seconds[path].append(timer.seconds)
                timings.append(
                    {
                        "path": path,
                        "repeat": len(seconds[path]) - 1,
                        "seconds": timer.seconds,
                        "peak_mb": memory.peak_mb,
                        "above_start_mb": memory.above_start_mb,
                    }
                )
    for contender in contenders:
        contender.reset()
    timed = pd.DataFrame(timings)
    medians = timed.groupby("path")["seconds"].median()
    outcomes = {}
    for path in seconds:
        own = timed[timed["path"] == path].drop(columns="path").reset_index(drop=True)
        median = float(medians[path])
        outcomes[path] = Outcome(
            results={
                "path": path,
                "phase": phase,
                "device": device.type,
                "dtype": str(dtype).removeprefix("torch."),
                "users": users,
                "repeats": len(own),
                "samples": work.samples,
                "tokens": tokens[path],
                "useful_tokens": work.tokens,
                "useful_gflops": work.gflops,
                "seconds_median": median,
                "samples_per_second": work.samples / median,
                "tokens_per_second": tokens[path] / median,
                "peak_memory_mb": float(own["peak_mb"].max()),
                "above_start_mb": float(own["above_start_mb"].max()),
                "peak_gflops": peak_gflops,
                "utilisation": None if work.gflops is None else work.gflops / median / peak_gflops,
                "speedup_vs_two_pass": float(medians[TWO_PASS]) / median if TWO_PASS in medians else None,
                "loss" if phase != "inference" else "mean_rank": checks[path],
            },
            frames={"timings": own},
        )
    return outcomes
