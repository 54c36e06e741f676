"""What experiments will cost on this machine: a short probe of LLM, encoder and processor, then a formula."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import torch

from baselines.summarizer.text import count_words
from bench.harness.accuracy import accuracy_cell
from bench.harness.methods import FEATURES, RECBOLE, REPRESENTATIONS, is_llm_method, trains_risa
from bench.harness.workspace import Workspace
from bench.meters.time_and_memory import Timer, matmul_peak
from bench.store.cell import Record
from bench.store.store import Store
from bench.suite.catalogue import Experiment, Model, Work
from illmrec.assembly import ModelConfig, build_model, load_representation
from illmrec.errors import InputError
from illmrec.features.table import FeatureTable
from illmrec.features.vision import load_image_encoder
from illmrec.model.backbone import load_backbone
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.tokens import tokenise_items
from illmrec.training.trainer import CALIBRATION_USERS

_USERS = 8
_RUNS = 4
_PICTURES = 8
_ITEMS = 300  # whose tokens are counted
_WIDTH = 64  # of made-up features: projecting one slot costs next to nothing
_QUESTION_TOKENS = 40  # of a RISA question with its answer, about
_HEAD_FLOPS = 2.0 * (1280 * 512 + 512 * 256)  # of projecting an item, per feature type
_SASREC_FLOPS, _SASREC_WIDTH = 6.0e5, 64  # of a training target without its scores; width of the scores
_SASREC_EPOCHS = 40  # about where early stopping ends
_USEFUL = 0.15  # share of the peak that small products and everything around them reach, about
_SUMMARY_PROMPT = 200  # tokens around what is summarised, and of title, brand and category
_TOKENS_PER_WORD = 4 / 3
_ANSWER_SECONDS = 3.0  # of a request to a server
_WRITING = 8.0  # a token written takes about as long as so many read, in batches of 32
_REFERENCE_GFLOPS = 100.0  # the machine that ``Work.seconds`` is for


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What this machine does in a second, and how long prompts are on these data.

    Attributes:
        peak_gflops: Best rate of float32 matrix products on the processor that runs the LLM.
        read: Tokens per second that the LLM, shortened as in these settings, reads.
        train: Tokens per second that it is trained on: forward, and backward to its inputs.
        depth: Blocks of the whole LLM over those it was shortened to.
        item_tokens: Mean tokens an item by method.
        fixed_tokens: Tokens of a prompt around the history, and of the retrieval branch among them.
        picture_seconds: Seconds to read and encode one picture; 0 where there are none.
        start_seconds: Seconds from the start of a program to data and LLM in memory.
    """

    peak_gflops: float
    read: float
    train: float
    depth: float
    item_tokens: Mapping[str, float]
    fixed_tokens: int
    branch_tokens: int
    picture_seconds: float
    start_seconds: float

    def __str__(self) -> str:
        llm = f"the LLM reads {self.read:,.0f} tokens a second and trains on {self.train:,.0f}"
        pictures = f", a picture takes {1e3 * self.picture_seconds:.0f} ms" if self.picture_seconds else ""
        return f"{llm}{pictures}, float32 products run at {self.peak_gflops:,.0f} GFLOP/s"


def probe(workspace: Workspace) -> Probe:
    """Measure, in some seconds, what estimates rest on; nothing is stored.

    Raises:
        InputError: If data or LLM cannot be loaded, or --layers or --context does not fit the LLM.
    """
    dataset, backbone = workspace.dataset, workspace.backbone
    start = time.time() - psutil.Process().create_time()
    settings = workspace.settings
    depth = 1.0
    if settings.layers is not None:
        whole = load_backbone(settings.llm, dtype=settings.dtype, device=workspace.device)
        depth = whole.layers / backbone.layers
    generator = np.random.default_rng(0)
    users = generator.choice(dataset.n_users, min(_USERS, dataset.n_users), replace=False)
    histories = [workspace.split.history(int(user), "test")[-settings.history_length :] for user in users]
    model, rows = _probe_model(workspace, histories)
    fitted = [model.prompts.fit(row) for row in rows]
    tokens = int(model.prompts.token_counts(fitted).sum())
    reading, training = _seconds(model, fitted)
    return Probe(
        peak_gflops=matmul_peak(torch.float32, backbone.device, seconds=0.5),
        read=tokens / reading,
        train=tokens / training,
        depth=depth,
        item_tokens=item_tokens(workspace),
        fixed_tokens=model.prompts.fixed_tokens,
        branch_tokens=len(model.prompts.instruction) + 1,
        picture_seconds=_picture_seconds(workspace),
        start_seconds=start,
    )


def item_tokens(workspace: Workspace) -> dict[str, float]:
    """Return the mean tokens an item by method, from up to 300 items; summaries to be written count as words."""
    dataset = workspace.dataset
    rows = np.sort(
        np.random.default_rng(0).choice(dataset.n_items, min(_ITEMS, dataset.n_items), replace=False)
    )
    items = dataset.items.iloc[rows].reset_index(drop=True)
    limit = workspace.settings.summary_words
    unwritten = items["description"].map(lambda text: "word " * min(limit, count_words(text)))
    items["summary"] = items["summary"].where(items["summary"] != "", unwritten)
    found = {}
    for method, path in REPRESENTATIONS.items():
        representation = load_representation(path)
        present = {slot: np.ones(len(items), dtype=bool) for slot in representation.slots}
        try:
            lengths = tokenise_items(
                items, representation, workspace.backbone.tokenizer, present=present
            ).lengths
        except InputError:
            continue  # these data cannot support the method: its experiments say so when they run
        found[method] = float(lengths.mean())
    return found


def _probe_model(workspace: Workspace, histories: list[np.ndarray]) -> tuple[ILLMRec, list[np.ndarray]]:
    """Return I-LLMRec over the items of some histories with made-up features, and the histories in its rows."""
    used, at = np.unique(np.concatenate(histories), return_inverse=True)
    items = workspace.dataset.items.iloc[used].reset_index(drop=True)
    everywhere = np.ones(len(items), dtype=bool)
    values = np.random.default_rng(0).standard_normal((len(items), _WIDTH)).astype(np.float32)
    table = FeatureTable(values=values, present=everywhere, key="probe", meta={})
    config = ModelConfig(
        representation=REPRESENTATIONS["illmrec"],
        heads=("image",),
        context=workspace.settings.context,
        instruction=workspace.settings.instruction,
    )
    model = build_model(
        config,
        dataset=replace(workspace.dataset, items=items),
        backbone=workspace.backbone,
        features={"image": table},
        has_image=everywhere,
    )
    ends = np.cumsum([len(history) for history in histories])
    return model, np.split(at, ends[:-1])


def _seconds(model: ILLMRec, fitted: list[Any]) -> tuple[float, float]:
    """Return seconds of a forward pass and of one with a backward pass: the fastest, since others use cores too."""
    device = model.engine.backbone.device
    packed = model.prompts.pack(fitted)
    reading, training = [], []
    for _ in range(_RUNS):
        with torch.inference_mode(), Timer(device) as timer:
            model.hidden(packed)
        reading.append(timer.seconds)
        with Timer(device) as timer:
            states, _ = model.hidden(packed)
            model.project_users(states).square().sum().backward()
        model.zero_grad()
        training.append(timer.seconds)
    return min(reading), min(training)


def _picture_seconds(workspace: Workspace) -> float:
    images = workspace.dataset.images
    if images is None or not images.available.any():
        return 0.0
    encoder = load_image_encoder(workspace.settings.vision, device=workspace.device)
    rows = np.flatnonzero(images.available)[:_PICTURES]
    for _ in range(2):  # the first is a warm-up
        with Timer(workspace.device) as timer:
            encoder.encode(np.stack([encoder.load(images.read(int(row))) for row in rows]))
    return timer.seconds / len(rows)


class Estimate:
    """Seconds that experiments take one after the other; what one has trained or computed, the next one finds.

    Args:
        workspace: Data, LLM and settings.
        measured: What this machine does.
        store: Results that are there already cost nothing.
    """

    def __init__(self, workspace: Workspace, measured: Probe, store: Store) -> None:
        self.workspace, self.measured, self.store = workspace, measured, store
        self.settings = workspace.settings
        self.options = self.settings.training()
        self._known: set[Any] = set()
        records = store.records()
        self._stored = [
            record for record in records if workspace.dataset.fingerprint in _fingerprints(record)
        ]
        finished = [record for record in records if record in self._stored or not _fingerprints(record)]
        self._finished = {record.experiment for record in finished}
        encoders = workspace.encoder_identities(FEATURES)
        if any(record.config.get("encoders") == encoders for record in self._stored):
            self._known.add("pictures")  # they are in the cache
        written = {record.config.get("summarizer") for record in self._stored} - {None}
        if workspace.summarizer in written:
            self._known.add("summaries")

    def seconds(self, experiment: Experiment, *, preset: str) -> float:
        """Return seconds of an experiment, and count its models as trained."""
        work = experiment.work_at(preset)
        seeds = len(self.settings.seeds)
        generated = self.settings.dataset == "toyshop"
        other_data = generated and preset in experiment.toyshop
        own = {} if experiment.toyshop_only and not generated else work.own
        total = self.measured.start_seconds + self._timing(experiment.name, work)
        pictures = bool(work.models or own or work.timed)
        total += self._once("pictures", self._pictures()) if pictures else 0.0
        total += work.pictures * self._pictures()
        total += self._once("summaries", self._summaries()) if work.summaries else 0.0
        for seed in self.settings.seeds:
            for model in work.models:
                total += self._model(model, seed=seed, other_data=other_data)
            total += work.cf * self._sasrec()
        for method, models in own.items():
            done = sum(
                record.experiment == "accuracy"
                and record.method == method
                and _kind(record) == experiment.variant
                for record in self._stored
            )
            total += max(0.0, models * seeds - done) * (self._training(method) + self._evaluation(method))
        total += seeds * sum(times * self._evaluation(method) for method, times in work.reads.items())
        return total

    def _once(self, what: str, seconds: float) -> float:
        if what in self._known:
            return 0.0
        self._known.add(what)
        return seconds

    def _model(self, model: Model, *, seed: int, other_data: bool) -> float:
        """Return seconds to train and evaluate a shared model, or 0 where it is known or its result is stored."""
        method, risa, features = model
        if is_llm_method(method):
            risa = trains_risa(method, risa)
        key = ((method, risa, features), seed, other_data)
        if key in self._known:
            return 0.0
        self._known.add(key)
        if not other_data:
            cell = accuracy_cell(self.workspace, method, seed=seed, risa=risa, features=features)
            if self.store.find(cell) is not None:
                return 0.0
        cf = self._once(f"cf {seed} {other_data}", self._sasrec()) if "cf" in features else 0.0
        if method in RECBOLE:
            # The baseline SASRec is the model that CF features come from.
            return cf if method == "sasrec" else self._sasrec()
        return cf + self._training(method, risa=risa, heads=len(features)) + self._evaluation(method)

    def _tokens(self, method: str) -> float:
        tokens = self.measured.item_tokens
        return tokens.get(method, max(tokens.values(), default=0.0))

    def _read_items(self) -> float:
        lengths = self.workspace.dataset.lengths - 1
        return float(np.minimum(lengths, self.settings.history_length).mean())

    def _prompt(self, method: str) -> float:
        """Return tokens of a prompt at test time, about."""
        tokens = self.measured.fixed_tokens + self._read_items() * self._tokens(method)
        return min(tokens, self.settings.context or math.inf)

    def _training(self, method: str, *, risa: bool = True, heads: int = 3) -> float:
        options, dataset, measured = self.options, self.workspace.dataset, self.measured
        lengths = dataset.lengths - 2
        steps = options.epochs * math.ceil(dataset.n_users / options.batch_size)
        steps = min(steps, options.max_steps or steps)
        examples = min(steps * options.batch_size, options.epochs * dataset.n_users)
        if options.targets == "all":
            trunk = float(np.clip(lengths - 1, 1, self.settings.history_length + 1).mean())
            targets = trunk
        else:
            trunk = float(np.clip((lengths - 1) / 2, 1, self.settings.history_length).mean())
            targets = 1.0
        tokens = measured.fixed_tokens - measured.branch_tokens + trunk * self._tokens(method)
        tokens += targets * measured.branch_tokens + (
            0 if trains_risa(method, False) else _QUESTION_TOKENS * risa
        )
        seconds = examples * tokens / measured.train
        if options.loss == "ce":
            # Every pass projects the catalogue and scores it; the backward pass is twice the forward.
            passes = max(steps, examples * tokens / options.token_budget)
            flops = 3.0 * heads * dataset.n_items * (passes * _HEAD_FLOPS + examples * targets * 2 * 256)
            seconds += flops / (measured.peak_gflops * 1e9 * 2 * _USEFUL)
        epochs = max(1, math.ceil(steps * options.batch_size / max(1, dataset.n_users)))
        validated = epochs * min(options.validation_users, dataset.n_users)
        return (
            seconds
            + (validated + min(CALIBRATION_USERS, dataset.n_users)) * self._prompt(method) / measured.read
        )

    def _evaluation(self, method: str) -> float:
        if not is_llm_method(method):
            return 0.0
        return len(self.workspace.users(self.settings.seeds[0])) * self._prompt(method) / self.measured.read

    def _sasrec(self) -> float:
        dataset = self.workspace.dataset
        epochs = self.settings.cf_epochs or _SASREC_EPOCHS
        targets = epochs * int(np.maximum(dataset.lengths - 3, 0).sum())
        flops = _SASREC_FLOPS + 6.0 * _SASREC_WIDTH * dataset.n_items
        return targets * flops / (self.measured.peak_gflops * 1e9 * _USEFUL)

    def _pictures(self) -> float:
        return self.workspace.dataset.n_items * self.measured.picture_seconds

    def _summaries(self) -> float:
        settings, items = self.settings, self.workspace.dataset.items
        unwritten = items.loc[items["summary"] == "", "description"].tolist()
        counts = (count_words(text) for text in unwritten)
        words = [count for count in counts if count > settings.summary_words]
        if settings.summarizer is not None:
            return len(words) * _ANSWER_SECONDS / settings.summarizer_requests
        read = _SUMMARY_PROMPT * len(words) + _TOKENS_PER_WORD * sum(words)
        tokens = read + _WRITING * _TOKENS_PER_WORD * settings.summary_words * len(words)
        return tokens * self.measured.depth / self.measured.read

    def _timing(self, name: str, work: Work) -> float:
        """Return seconds of timed passes and of work without LLM; those of a finished experiment are not repeated."""
        if name in self._finished:
            return 0.0
        depth = self.measured.depth if work.whole and self.settings.preset != "smoke" else 1.0
        around = self.measured.fixed_tokens
        read = sum(times * (around + 10 * self._tokens(method)) for method, times in work.timed.items())
        trained = work.timed_training * (around + 10 * self._tokens("illmrec"))
        passes = depth * (read / self.measured.read + trained / self.measured.train)
        return passes + work.seconds * _REFERENCE_GFLOPS / self.measured.peak_gflops


def _fingerprints(record: Record) -> set[str]:
    """Return the fingerprints of a cell's data set and of the one that it is a variant of; none without data."""
    described = record.config.get("dataset") or {}
    found = (described.get("fingerprint"), (described.get("variant") or {}).get("of"))
    return {fingerprint for fingerprint in found if fingerprint}


def _kind(record: Record) -> str:
    """Return the kind of changed data that an accuracy cell is on, or nothing."""
    variant = record.config["dataset"].get("variant") or {}
    return str(variant.get("kind", ""))


def in_words(seconds: float) -> str:
    """Return a duration to two significant digits at most: ``about 40 s``, ``about 12 min``, ``about 3.5 h``."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"about {hours:.1f} h" if hours < 10 else f"about {hours:,.0f} h"
