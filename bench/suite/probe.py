"""What this machine does in a second with these data and this LLM: a probe of some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import torch

from baselines.summarizer.text import count_words
from bench.harness.methods import GENERATIVE, REPRESENTATIONS, representation_of
from bench.harness.workspace import Workspace
from bench.meters.drawn_codes import LEVELS
from bench.meters.time_and_memory import BYTES_PER_MB, Timer, clean_memory, matmul_peak
from illmrec.assembly import ModelConfig, build_model, load_representation
from illmrec.errors import InputError
from illmrec.features.grids import MLLM
from illmrec.features.mllm import VisionLanguageModel
from illmrec.features.table import FeatureTable
from illmrec.features.vision import load_image_encoder
from illmrec.model.illmrec import ILLMRec
from illmrec.model.vision_language import MLLM as VISION_LANGUAGE
from illmrec.prompts.tokens import tokenise_items

_USERS = 8
_RUNS = 4
_PICTURES = 8
_ITEMS = 300  # whose tokens are counted
_WIDTH = 64  # of made-up features: projecting one slot costs next to nothing


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What this machine does in a second, and how long prompts are on these data.

    Attributes:
        peak_gflops: Best rate of float32 matrix products on the processor that runs the LLM.
        read: Tokens per second that the LLM, shortened as in these settings, reads of several prompts at once.
        read_alone: The same of one prompt.
        train: Tokens per second that it is trained on: forward, and backward to its inputs.
        depth: Blocks of the whole LLM over those it was shortened to.
        token_bytes: Memory that a token takes in training, in bytes.
        base_bytes: Memory of this process, data and LLM included, in bytes.
        fixed_tokens: Tokens of a prompt around the history, and of the retrieval branch among them.
        picture_seconds: Seconds to read and encode one picture; 0 where there are none.
        start_seconds: Seconds from the start of a program to data and LLM in memory.
        reading_seconds: Seconds to read and encode one picture as the vision-language model of ``--llm mllm:NAME``
            does; 0 for other LLMs, which read none.
    """

    peak_gflops: float
    read: float
    read_alone: float
    train: float
    depth: float
    token_bytes: float
    base_bytes: float
    fixed_tokens: int
    branch_tokens: int
    picture_seconds: float
    start_seconds: float
    reading_seconds: float = 0.0

    def __str__(self) -> str:
        llm = f"the LLM reads {self.read:,.0f} tokens a second and trains on {self.train:,.0f}"
        pictures = f", a picture takes {1e3 * self.picture_seconds:.0f} ms" if self.picture_seconds else ""
        if self.reading_seconds:
            pictures += f" and {1e3 * self.reading_seconds:.0f} ms in the vision-language model"
        return f"{llm}{pictures}, float32 products run at {self.peak_gflops:,.0f} GFLOP/s"


def probe(workspace: Workspace) -> Probe:
    """Measure, in some seconds, what estimates rest on; nothing is stored.

    Raises:
        InputError: If data or LLM cannot be loaded, or --layers or --context does not fit the LLM.
    """
    dataset, backbone = workspace.dataset, workspace.backbone
    start = time.time() - psutil.Process().create_time()
    depth = (backbone.depth or backbone.layers) / max(1, backbone.layers)
    settings = workspace.settings
    generator = np.random.default_rng(0)
    users = generator.choice(dataset.n_users, min(_USERS, dataset.n_users), replace=False)
    histories = [workspace.split.history(int(user), "test")[-settings.history_length :] for user in users]
    model, rows = _probe_model(workspace, histories)
    fitted = [model.prompts.fit(row) for row in rows]
    counts = model.prompts.token_counts(fitted)
    reading, alone, training, memory = _measured(model, fitted)
    return Probe(
        peak_gflops=matmul_peak(torch.float32, backbone.device, seconds=0.5),
        read=counts.sum() / reading,
        read_alone=counts[0] / alone,
        train=counts.sum() / training,
        depth=depth,
        token_bytes=memory / counts.sum(),
        base_bytes=psutil.Process().memory_info().rss,
        fixed_tokens=model.prompts.fixed_tokens,
        branch_tokens=len(model.prompts.instruction) + 1,
        picture_seconds=_picture_seconds(workspace),
        start_seconds=start,
        reading_seconds=_reading_seconds(workspace),
    )


def item_tokens(workspace: Workspace, method: str) -> float:
    """Return the mean tokens an item, from up to 300 items; summaries to be written count as words.

    Data that cannot support the method have none: its experiments say so when they run.

    Args:
        workspace: Data and LLM.
        method: An LLM method.
    """
    if method in GENERATIVE:
        return float(LEVELS)
    dataset = workspace.dataset
    rows = np.sort(
        np.random.default_rng(0).choice(dataset.n_items, min(_ITEMS, dataset.n_items), replace=False)
    )
    items = dataset.items.iloc[rows].reset_index(drop=True)
    limit = workspace.settings.summary_words
    unwritten = items["description"].map(lambda text: "word " * min(limit, count_words(text)))
    items["summary"] = items["summary"].where(items["summary"] != "", unwritten)
    representation = load_representation(representation_of(method))
    present = {slot: np.ones(len(items), dtype=bool) for slot in representation.slots}
    try:
        found = tokenise_items(items, representation, workspace.backbone.tokenizer, present=present)
    except InputError:
        return 0.0
    return float(found.repeated({MLLM: workspace.backbone.picture_tokens}).lengths.mean())


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


def _measured(model: ILLMRec, fitted: list[Any]) -> tuple[float, float, float, float]:
    """Return seconds to read all prompts, the first one alone, and to train on all, and the bytes that training takes.

    The fastest of some runs, since others use the cores too.
    """
    device = model.engine.backbone.device
    packed, first = model.prompts.pack(fitted), model.prompts.pack(fitted[:1])
    seconds: dict[str, list[float]] = {"all": [], "alone": [], "trained": []}
    with clean_memory(device) as memory:
        for _ in range(_RUNS):
            for name, prompts in (("all", packed), ("alone", first)):
                with torch.inference_mode(), Timer(device) as timer:
                    model.hidden(prompts)
                seconds[name].append(timer.seconds)
            with Timer(device) as timer:
                states, _ = model.hidden(packed)
                model.project_users(states).square().sum().backward()
            model.zero_grad()
            seconds["trained"].append(timer.seconds)
    fastest = [min(found) for found in seconds.values()]
    return fastest[0], fastest[1], fastest[2], BYTES_PER_MB * memory.above_start_mb


def _picture_seconds(workspace: Workspace) -> float:
    if not _has_pictures(workspace):
        return 0.0
    return _encoding_seconds(
        workspace, load_image_encoder(workspace.settings.vision, device=workspace.device), np.stack
    )


def _reading_seconds(workspace: Workspace) -> float:
    """Return the seconds of a picture in the vision tower of a vision-language model, whatever ``--vision`` names."""
    if not workspace.backbone.picture_tokens or not _has_pictures(workspace):
        return 0.0
    name = workspace.settings.llm.removeprefix(VISION_LANGUAGE)
    return _encoding_seconds(workspace, VisionLanguageModel(name, device=workspace.device), list)


def _has_pictures(workspace: Workspace) -> bool:
    images = workspace.dataset.images
    return images is not None and bool(images.available.any())


def _encoding_seconds(workspace: Workspace, encoder: Any, together: Callable[[list[Any]], Any]) -> float:
    """Return the seconds of a picture, in a batch of some.

    Args:
        workspace: The data.
        encoder: Has ``load`` for one picture and ``encode`` for several.
        together: Makes of loaded pictures what it encodes.
    """
    images = workspace.dataset.images
    if images is None:
        raise ValueError("no pictures")
    rows = np.flatnonzero(images.available)[:_PICTURES]
    for _ in range(2):  # the first is a warm-up
        with Timer(workspace.device) as timer:
            encoder.encode(together([encoder.load(images.read(int(row))) for row in rows]))
    return timer.seconds / len(rows)
