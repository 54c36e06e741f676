"""What planned cells cost on this machine: their tokens, pictures and products over the rates of a probe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from baselines.summarizer.text import count_words
from bench.harness.methods import (
    GENERATIVE,
    MULTIMODAL,
    RECBOLE,
    REPRESENTATIONS,
    TEXTUAL_IDS,
    fills_slots,
    is_reri_method,
    learns_risa,
    picture_parts,
    shows_images,
)
from bench.harness.plan import Plan, Planned, Prompts, Work
from bench.harness.timed_methods import reads_prompts
from bench.harness.training import model_folder
from bench.harness.workspace import Workspace
from bench.store.cell import Cell
from bench.store.store import Store
from bench.suite.collaborative import multimodal_flops, sequential_flops
from bench.suite.probe import Probe, item_tokens
from illmrec.features.grids import MLLM
from illmrec.states.positions import evaluation_positions, training_positions
from illmrec.training import CachedOptions, TrainingOptions
from illmrec.training.calibration import CALIBRATION_USERS

_QUESTION_TOKENS = 40  # of a RISA question with its answer, about
_HEAD_FLOPS = 2.0 * (1280 * 512 + 512 * 256)  # of projecting an item or a state, per feature type
_WIDTH = 256  # of projections
_PROJECTOR_EPOCHS = 16  # the same of projectors on stored states
_USEFUL = 0.15  # share of the peak that small products and everything around them reach, about
_WHOLE_LLM = 1.5  # a backward pass through weights as well as inputs, over one through inputs alone
_SUMMARY_PROMPT = 200  # tokens around what is summarised, and of title, brand and category
_TOKENS_PER_WORD = 4 / 3
_ANSWER_SECONDS = 3.0  # of a request to a server
_WRITING = 8.0  # a token written takes about as long as so many read, in batches of 32


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an experiment takes.

    Attributes:
        seconds: Wall-clock time.
        gigabytes: Memory at its peak.
    """

    seconds: float
    gigabytes: float


class Estimate:
    """Costs of experiments one after the other; what one has trained or computed, the next one finds.

    Args:
        workspace: Data, LLM and settings.
        measured: What this machine does.
        store: Results that are there already cost nothing.
    """

    def __init__(self, workspace: Workspace, measured: Probe, store: Store) -> None:
        self.workspace, self.measured, self.store = workspace, measured, store
        self.settings = workspace.settings
        self._known: set[Any] = set()
        for record in store.records():
            described = record.config.get("dataset") or {}
            of = (described.get("variant") or {}).get("of") or described.get("fingerprint")
            if of != workspace.dataset.fingerprint:
                continue
            # What they read is in the cache.
            vision = (record.config.get("encoders") or {}).get("image")
            self._known |= {("pictures", of, vision), ("summaries", of, record.config.get("summarizer"))}
            if record.method in REPRESENTATIONS:
                self._known |= {("pictures", of, vision, part) for part in picture_parts(record.method)}
        self._tokens = cache(item_tokens)

    def cost(self, plan: Plan) -> Cost:
        """Return what an experiment takes, and count what it computes as done."""
        seconds = self.measured.start_seconds
        gigabytes = self.measured.base_bytes / 1e9
        for planned in plan.cells:
            if ("cell", planned.cell.key) in self._known:
                continue
            self._known.add(("cell", planned.cell.key))
            if self.settings.overwrite != "always" and self.store.find(planned.cell) is not None:
                continue
            seconds += self._cell(planned)
            gigabytes = max(gigabytes, self._memory(planned) / 1e9)
        for work in plan.besides:
            seconds += self._work(work, self.workspace)
        return Cost(seconds=seconds, gigabytes=gigabytes)

    def _cell(self, planned: Planned) -> float:
        cell, place = planned.cell, planned.place
        if planned.work is not None:
            return self._work(planned.work, place)
        if "batch_users" in cell.config:
            return self._content(cell, place) + self._timed(cell, place)
        return self._trained(cell, place) + (
            self._evaluated(cell, place) if "evaluation" in cell.config else 0
        )

    def _work(self, work: Work, place: Workspace) -> float:
        measured = self.measured
        seconds = work.seconds + work.pictures * measured.picture_seconds
        seconds += work.gflops / (measured.peak_gflops * _USEFUL)
        if work.summaries:
            seconds += self._once(("summaries", place.dataset.fingerprint, place.summarizer), place)
        if work.evaluated:
            seconds += self._read(len(place.users(self.settings.seeds[0])), work.evaluated, place)
        for prompts, rate in ((work.read, measured.read), (work.trained, measured.train)):
            seconds += sum(self._prompts(each, place) * self._depth(place) for each in prompts) / rate
        return seconds

    def _once(self, what: tuple[Any, ...], place: Workspace) -> float:
        """Return seconds of what the cache keeps, 0 where it has it."""
        if what in self._known:
            return 0.0
        self._known.add(what)
        if what[0] == "pictures":
            return self._pictures(place, *what[3:])
        return (
            self._products(sequential_flops("sasrec", place)) if what[0] == "cf" else self._summaries(place)
        )

    def _content(self, cell: Cell, place: Workspace) -> float:
        """Return seconds of features and summaries that a cell reads and no earlier one has made."""
        config, source = cell.config, place.pictured_by
        seconds = 0.0
        pictured = is_reri_method(cell.method) and shows_images(cell.method)
        if pictured or "image" in (*config.get("features", ()), *config.get("heads", ())):
            image = config["encoders"]["image"]
            seconds += self._once(("pictures", source.dataset.fingerprint, image), source)
            for part in picture_parts(cell.method) if is_reri_method(cell.method) else ():
                seconds += self._once(("pictures", source.dataset.fingerprint, image, part), source)
        if config.get("summarizer"):
            seconds += self._once(("summaries", place.dataset.fingerprint, config["summarizer"]), place)
        if "cf" in config:
            # Changed items share the array of their origin's interactions.
            seconds += self._once(("cf", id(place.dataset.sequence_items), cell.base_seed), place)
        return seconds

    def _depth(self, place: Workspace) -> float:
        """Return blocks of a workspace's LLM over those of the one that was probed."""
        # An LLM without blocks costs next to nothing; what it does cost is what was probed.
        return max(1, place.backbone.layers) / max(1, self.workspace.backbone.layers)

    def _prompts(self, prompts: Prompts, place: Workspace) -> float:
        method, items, count = prompts
        return count * (self.measured.fixed_tokens + items * self._tokens(place, method))

    def _prompt(self, method: str, place: Workspace, *, items: float, context: int | None) -> float:
        """Return tokens of a prompt at test time, about."""
        return min(self._prompts((method, items, 1.0), place), context or math.inf)

    def _read(self, users: int, method: str, place: Workspace, **limits: int | None) -> float:
        settings = self.settings
        length = limits.get("history_length") or settings.history_length
        items = float(np.minimum(place.split.history_lengths("test"), length).mean())
        context = limits.get("context") or settings.context
        tokens = users * self._prompt(method, place, items=items, context=context)
        return tokens * self._depth(place) / self.measured.read

    def _evaluated(self, cell: Cell, place: Workspace) -> float:
        if cell.method in (*GENERATIVE, *TEXTUAL_IDS):
            beams = cell.config["evaluation"]["beams"]
            return self._written(len(place.users(cell.base_seed)), cell, place, beams=beams)
        if not is_reri_method(cell.method) or "llm" not in cell.config:
            return 0.0
        limits = {name: cell.config["evaluation"].get(name) for name in ("history_length", "context")}
        options = TrainingOptions(**cell.config["training"])
        if options.strategy == "cached":  # test histories are stored as well
            key = ("tested", _states(cell, options), *limits.values())
            if key in self._known:
                return 0.0
            self._known.add(key)
            if not any(limits.values()) and self._read_before("tested", cell, options):
                return (
                    len(place.users(cell.base_seed))
                    * self._branch(cell)
                    * self._depth(place)
                    / self.measured.read
                )
        return self._read(len(place.users(cell.base_seed)), cell.method, place, **limits)

    def _trained(self, cell: Cell, place: Workspace) -> float:
        """Return seconds to train what a cell evaluates, with all that is made for it; 0 where it is there."""
        folder = model_folder(self.store, cell)
        if ("model", folder) in self._known:
            return 0.0
        self._known.add(("model", folder))
        if cell.method in RECBOLE:
            if cell.method == "sasrec":  # the model that CF features come from
                return self._once(("cf", id(place.dataset.sequence_items), cell.base_seed), place)
            return self._products(sequential_flops(cell.method, place))
        if cell.method in MULTIMODAL:
            return self._content(cell, place) + self._products(multimodal_flops(cell, place))
        if cell.method in (*GENERATIVE, *TEXTUAL_IDS):
            made = self._content(cell, place)
            return made if folder.is_dir() else made + self._learns_to_write(cell, place)
        if not is_reri_method(cell.method):
            return 0.0
        made = self._content(cell, place)
        if folder.is_dir():
            return made
        options = TrainingOptions(**cell.config["training"])
        cached = options.strategy == "cached"
        return made + (self._on_states if cached else self._joint)(cell, place, options)

    def _joint(self, cell: Cell, place: Workspace, options: TrainingOptions) -> float:
        dataset, measured = place.dataset, self.measured
        steps = options.epochs * math.ceil(dataset.n_users / options.batch_size)
        steps = min(steps, options.max_steps or steps)
        examples = min(steps * options.batch_size, options.epochs * dataset.n_users)
        item, length = self._tokens(place, cell.method), cell.config["history_length"]
        lengths = place.split.history_lengths("valid")
        if options.targets == "all":
            trunk = targets = float(np.clip(lengths - 1, 1, length + 1).mean())
        else:
            trunk, targets = float(np.clip((lengths - 1) / 2, 1, length).mean()), 1.0
        if options.windows == "short":
            trunk = float(np.clip(lengths - 1, 1, (3 + (length + 1) / 2) / 2).mean())
            targets = min(targets, trunk)
        histories, learns = trunk * item, learns_risa(cell.method, options)
        known = not learns and place.backbone.device.type == "cpu"
        if known:
            # They go forward alone, which is half of it, and those that are whole in every epoch twice in all.
            whole = (lengths - 1 <= length).mean() if options.targets == "all" else 0.0
            histories *= (1 - whole + whole * min(1.0, 2 / options.epochs)) / 2
        tokens = measured.fixed_tokens - measured.branch_tokens + histories
        tokens += targets * self._branch(cell) + _QUESTION_TOKENS * (options.risa and learns)
        rate = measured.train / (_WHOLE_LLM if options.strategy == "end-to-end" else 1.0)
        seconds = examples * tokens * self._depth(place) / rate
        if options.loss == "ce":
            # Every pass projects the catalogue and scores it; the backward pass is twice the forward.
            passes = max(steps, examples * tokens / options.token_budget)
            heads = len(cell.config["features"])
            flops = 3 * heads * dataset.n_items * (passes * _HEAD_FLOPS + examples * targets * 2 * _WIDTH)
            seconds += flops / (measured.peak_gflops * 1e9 * 2 * _USEFUL)
        epochs = max(1, math.ceil(steps * options.batch_size / max(1, dataset.n_users)))
        users = min(epochs, 2 if known else epochs) * min(options.validation_users, dataset.n_users)
        users += min(CALIBRATION_USERS, options.validation_users or CALIBRATION_USERS, dataset.n_users)
        return seconds + self._read(users, cell.method, place)

    def _learns_to_write(self, cell: Cell, place: Workspace) -> float:
        """Return seconds to train a method that writes items, and to validate it: rows of codes, and titles beside."""
        config, dataset = cell.config, place.dataset
        options, levels = TrainingOptions(**config["training"]), _identifier_tokens(config)
        steps = options.epochs * math.ceil(dataset.n_users / options.batch_size)
        steps = min(steps, options.max_steps or steps)
        examples = min(steps * options.batch_size, options.epochs * dataset.n_users)
        items = np.clip(place.split.history_lengths("valid") - 1, 1, config["history_length"] + 1).mean()
        alignments = config.get("lcrec", {"alignments": "none"})["alignments"]
        tasks = alignments.count("+") + (alignments != "none")
        tokens = levels * (1 + float(items)) + (levels + _QUESTION_TOKENS) * tasks
        rate = self.measured.train / (_WHOLE_LLM if options.strategy == "end-to-end" else 1.0)
        epochs = max(1, math.ceil(steps * options.batch_size / max(1, dataset.n_users)))
        users = epochs * min(options.validation_users, dataset.n_users)
        return examples * tokens * self._depth(place) / rate + self._written(users, cell, place, beams=0)

    def _written(self, users: int, cell: Cell, place: Workspace, *, beams: int) -> float:
        """Return seconds to read prompts and write after them: all sampled candidates, and what beams write."""
        levels, length = _identifier_tokens(cell.config), cell.config["history_length"]
        trunk = levels * float(np.minimum(place.split.history_lengths("test"), length).mean())
        written = (levels - 1) * (self.settings.negatives + 1 + beams)
        tokens = (1 + (beams > 0)) * trunk + written
        return users * tokens * self._depth(place) / self.measured.read

    def _on_states(self, cell: Cell, place: Workspace, options: TrainingOptions) -> float:
        cached, measured = options.cached, self.measured
        if cached is None:
            raise ValueError("strategy cached has options of stored states")
        item, config = self._tokens(place, cell.method), cell.config
        length, heads = config["history_length"], config["features"]
        positions = training_positions(place.split, length=length, last=cached.last_targets)
        states = _states(cell, options)
        encoded = trained = 0.0
        if "llm" in config and ("states", states) not in self._known:
            self._known.add(("states", states))
            valid = evaluation_positions(place.split, "valid", length=length)
            read_before = self._read_before("trained", cell, options)
            for part in (positions, valid):
                encoded += len(part) * self._branch(cell)
                if part is positions and read_before:
                    continue
                encoded += sum(map(len, part.trunks)) * item
                encoded += len(part.trunks) * (measured.fixed_tokens - measured.branch_tokens)
            # Each round stores states of its own.
            encoded *= 1 + cached.alternations
            trained = joint_targets(cached) * (item + self._branch(cell))
        # A feature type's projectors are trained once on the same states, whatever stands beside it.
        new = {("projectors", states, head, str(options.described())) for head in heads} - self._known
        self._known |= new
        n_items = place.dataset.n_items
        steps = math.ceil(len(positions) / cached.batch_size)
        flops = len(positions) * (_HEAD_FLOPS + 2 * _WIDTH * min(n_items, cached.negatives or n_items))
        flops = (
            3.0 * len(new) * min(cached.epochs, _PROJECTOR_EPOCHS) * (flops + steps * n_items * _HEAD_FLOPS)
        )
        read = self._depth(place) * (encoded / measured.read + trained / measured.train)
        return read + flops / (measured.peak_gflops * 1e9 * 2 * _USEFUL)

    def _read_before(self, what: str, cell: Cell, options: TrainingOptions) -> bool:
        """Return whether another seed had these histories read: of words, with nothing trained before the states."""
        if fills_slots(cell.method) or options.cached is None or options.cached.trains_jointly:
            return False
        known = len(self._known)
        self._known.add(("read", what, _states(cell, options, seeded=False)))
        return len(self._known) == known

    def _branch(self, cell: Cell) -> int:
        """Return tokens of a retrieval branch; with the instruction before the history they are ``[REC]`` alone."""
        return 1 if cell.config.get("instruction") == "before" else self.measured.branch_tokens

    def _timed(self, cell: Cell, place: Workspace) -> float:
        """Return seconds of prompts that are timed: a block that is not counted, and one a repeat."""
        config = cell.config
        if not reads_prompts(cell.method):  # milliseconds
            return 0.0
        length, context = config["history_length"], config["context"]
        whole = self._prompt(cell.method, place, items=length, context=None)
        tokens = min(whole, context or math.inf)
        key = ("timed", cell.experiment, place.backbone.layers, cell.method, length, tokens)
        if key in self._known:  # prompts of two budgets in which nothing is dropped are run once
            return 0.0
        self._known.add(key)
        blocks, users, batch = 1 + config["repeats"], config["group_users"], config["batch_users"]
        measured = self.measured
        seconds = (
            blocks * users * tokens / measured.read_alone + (blocks + 1) * batch * tokens / measured.read
        )
        return seconds * self._depth(place)

    def _products(self, flops: float) -> float:
        """Return seconds of small products."""
        return flops / (self.measured.peak_gflops * 1e9 * _USEFUL)

    def _pictures(self, place: Workspace, part: str = "") -> float:
        images, measured = place.dataset.images, self.measured
        each = measured.reading_seconds if part == MLLM else measured.picture_seconds
        return 0.0 if images is None else int(images.available.sum()) * each

    def _summaries(self, place: Workspace) -> float:
        settings, items = self.settings, place.dataset.items
        unwritten = items.loc[items["summary"] == "", "description"].tolist()
        counts = (count_words(text) for text in unwritten)
        words = [count for count in counts if count > settings.summary_words]
        if settings.summarizer is not None:
            return len(words) * _ANSWER_SECONDS / settings.summarizer_requests
        read = _SUMMARY_PROMPT * len(words) + _TOKENS_PER_WORD * sum(words)
        tokens = read + _WRITING * _TOKENS_PER_WORD * settings.summary_words * len(words)
        return tokens * self.measured.depth / self.measured.read

    def _memory(self, planned: Planned) -> float:
        """Return bytes at the peak: the process, tokens of a pass with what it keeps for the backward one, logits."""
        cell, place, measured = planned.cell, planned.place, self.measured
        if planned.work is not None:
            return measured.base_bytes
        total = measured.base_bytes + 4.0 * place.dataset.n_items * (3 * 1280 + 3 * _WIDTH)
        training = cell.config.get("training")
        if is_reri_method(cell.method) and isinstance(training, dict):
            options = TrainingOptions(**training)
            total += options.token_budget * measured.token_bytes * self._depth(place)
            if options.loss == "ce" and options.cached is None:
                # Logits of a pass's targets, their gradient and the softmax, in float32.
                targets = options.token_budget / max(1.0, self._tokens(place, cell.method))
                total += 3 * 4 * targets * place.dataset.n_items
            if options.strategy == "end-to-end":
                total += 20.0 * sum(p.numel() for p in place.backbone.model.parameters())
            if options.strategy == "embeddings":
                total += 20.0 * place.backbone.embeddings.weight.numel()
        return total


def _identifier_tokens(config: Mapping[str, Any]) -> int:
    """Return the tokens of an item's identifier, about."""
    if "lcrec" in config:
        return int(config["lcrec"]["levels"])
    return 1 + round(_TOKENS_PER_WORD * int(config["idgenrec"]["words"]))


def _states(cell: Cell, options: TrainingOptions, *, seeded: bool = True) -> str:
    """Return what stands for the states that a cell's projectors are trained on, by all seeds if they share it.

    Without a warm-up they do not depend on the heads that are trained on them.
    """
    names = ("representation", "rendered", "llm", "history_length", "context", "instruction", "readout")
    shared = [cell.config.get(name) for name in names]
    cached = options.cached
    joint = [cached.warm_up, cached.alternations, joint_targets(cached), cached.joint] if cached else [0]
    heads = (options.risa, cell.config["features"]) if any(joint[:2]) else ()
    return str([*shared, cell.base_seed if seeded else None, joint, options.adaptor_start, heads])


def joint_targets(cached: CachedOptions) -> int:
    """Return the targets that joint steps of training by stored states see, about."""
    return cached.warm_up + cached.alternations * cached.alternation_targets
