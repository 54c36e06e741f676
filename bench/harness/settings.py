"""The options that experiments share, and the presets that give those left open."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from baselines.summarizer.options import Endpoint, SummaryOptions
from bench.cluster.options import check_cluster, parse_resources
from bench.frames.pricing import Pricing
from bench.harness.runner import Overwrite
from bench.trackers.names import TrackerName
from illmrec.data.dataset import TestTargets
from illmrec.data.splits import SplitKind
from illmrec.errors import InputError
from illmrec.model import backbone, processes
from illmrec.model.heads import AdaptorForm, Affinity, Form, Inputs, ProjectorForm
from illmrec.model.readout import Readout
from illmrec.model.tuning import Strategy
from illmrec.states.table import StateDtype
from illmrec.training.options import JointStrategy, TrainingOptions, preset_options

Preset = Literal["smoke", "small", "paper", "released-code"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of a run. What is left open comes from the preset.

    Attributes:
        dataset: Data set: toyshop, which is generated, folder:PATH, your own, or a name of python -m illmrec.data list.
        preset: smoke (seconds, for tests), small (for a CPU), paper (the paper's settings) or released-code (where the
            authors' code departs from the paper, it follows the code).
        llm: smollm2-135m, which is embedded, a hub id or a folder with a causal LM; random:NAME has the weights of one
            drawn anew, a control for what the LLM has learnt; mllm:NAME is the language model of a vision-language
            model, which the method mllm needs.
        layers: Keep the first so many transformer blocks of the LLM; "none" keeps all. With 0 what a token may see is
            averaged: a control, what the blocks are worth.
        dtype: Data type of the LLM: auto, float32, bfloat16 or float16.
        device: Where the LLM runs: auto, cpu, cuda, cuda:1, mps.
        vision: Image encoder: efficientnet-lite0, which is embedded, or a CLIP or SigLIP model.
        text: Text encoder: minilm, which is embedded, or a sentence-transformers model.
        seeds: Seeds; each is a run of its own.
        seeds_of: What a seed draws: everything (candidates, CF features, initial parameters, training), or with
            --strategy cached projectors alone, all else being that of the first seed, so that states are stored once.
        users: toyshop only: number of users.
        items: toyshop only: number of items.
        overlap: toyshop only: share of what descriptions say that pictures show, 0 to 1.
        max_users: Cut the data to so many users, drawn at random: bounds training and evaluation.
        eval_users: Evaluate on so many of them, drawn at random; "none" takes all.
        min_interactions: k of the k-core on users and items.
        split: leave-one-out tests each user's last item (the paper); global-time tests the first item after one moment,
            and trains on nothing that came after an earlier one.
        test_targets: With --split global-time: next tests the first item after the moment, day every item of the day
            (UTC) of that one, each ranked by itself without the others; a user's value is the mean over them.
        duplicates: What becomes of rows equal in user, item and time: drop all but one, or keep them.
        ties: The order of a user's interactions at the same time, or on the same day where times tell no more: that of
            the table, or drawn by lot.
        time_resolution: What times tell: exact moments, or the day alone; auto finds out (docs/data-sets.md).
        broken_images: stop says which pictures cannot be decoded; with missing their items count as having none.
        negatives: Sampled candidates of each user, beside the target.
        history_length: L, items of a history that an LLM method reads.
        context: Context budget in tokens; the oldest items that do not fit are dropped.
        instruction: Where the retrieval instruction stands: after the history (the paper) or before it, which makes
            training with targets=all cheaper.
        readout: What of a history is projected: last, its last [REC] state (the paper); last+mean, it and the mean of
            those after every item; features, no state but its items' features, their mean and those of the last item
            (the control no-llm); or last+features, both.
        adaptor: Form of adaptors: relu, a 2-layer MLP (the paper), norm-gelu (the authors' code), or linear.
        projector: Where the layer norm of projectors stands: norm-first, or norm-inside (the authors' code).
        inputs: What adaptors and projectors read: features and [REC] states standardised, or raw (the authors' code).
        affinity: The dot product of two projections: scaled by the root of their width, or dot, as it is.
        alignment: What aligns a-llmrec's CF and text embeddings: full (the paper), one of its losses left out
            (no-matching, no-reconstruction, no-recommendation), or none, which shows SASRec's embedding as it is.
        hidden: Hidden width of projectors; "none" is 512, and 1024 in released-code.
        shared: Width of the recommendation space; "none" is 256, and 512 in released-code.
        strategy: How LLM methods are trained: frozen (the paper), lora, embeddings, end-to-end or two-stage; cached
            stores the states of all training positions once and trains projectors on them until they converge. "none"
            is frozen, and embeddings in released-code.
        warm_up: Targets, about, that adaptors and [REC] are trained on before states are stored, by RISA and RERI.
        alternations: Times that joint steps follow on converged projectors and states are stored anew.
        alternation_targets: Targets, about, of the joint steps of each alternation; "none" takes 16,384.
        joint: What is trained jointly, before states are stored or between: frozen no part of the LLM, lora low-rank
            matrices in it as well; "none" takes frozen.
        last_targets: Store the states of so many of each user's training targets; "none" of all.
        state_dtype: Data type of stored states; "none" is float16, off by .0002 to .0007 of their spread; bfloat16
            holds what exceeds float16, float32 takes twice the space.
        tuned: Take the hyper-parameters that bench.tune has chosen for each method on these data; LLM methods are then
            trained on stored states.
        targets: Training targets of a user and epoch: one (the paper) or all positions of a window.
        loss: bce with one negative (the paper) or ce over the catalogue.
        reduction: L_RERI is the sum of the feature types' losses (the paper) or their mean.
        negatives_from: Items that bce draws negatives from: outside the history, or the catalogue, history and all.
        windows: Histories in training: full, of up to L items, or short, of 2 to 4 or 2 to L - 1 drawn anew.
        learning_rate: Learning rate of LLM methods.
        schedule: What becomes of it: constant (the paper), linear or cosine down to zero.
        clip: Cut longer gradients of LLM methods to this norm.
        adaptor_start: Adaptors start as drawn (the paper), or from text: fitted, in a second and without a pass of the
            LLM, so that an item's slot holds what its words would.
        epochs: Training epochs of LLM methods.
        max_steps: Stop training an LLM method after so many optimiser steps.
        batch_size: Users in an optimiser step.
        validation_users: Users whose validation items choose the epoch of an LLM method; 0 keeps the last epoch.
        cf_epochs: Training epochs of SASRec and the other collaborative models at most; "none" suits them to the size
            of the data.
        token_budget: Tokens of one forward pass in training; lower it if memory runs out, raise it to keep a GPU busy
            (16384 for a small LLM).
        checkpointing: Keep less for the backward pass and run the LLM's blocks again there: less memory, more time.
        compile: Compile the LLM's norms and MLPs: faster after a start of some seconds. Needs a C++ compiler on a CPU.
        plain: Every fast path of LLM methods off, to check the others by: each prompt run by itself with its whole
            history, plain attention, losses by autograd, float32, no stored states, one process. Many times slower.
        summarizer: Who writes the summaries that the data lack: the address of a server that speaks OpenAI's protocol,
            such as http://127.0.0.1:8000/v1, its key in the environment variable SUMMARIZER_API_KEY; "none" is the LLM.
        summarizer_model: Name of the model that the server is asked for.
        summarizer_context: Tokens that the summariser reads and writes at once; longer texts are read in chunks. "none"
            is the LLM's limit, of a server 8192.
        summarizer_timeout: Seconds that one request to the server may take.
        summarizer_requests: Requests to the server at a time.
        summary_words: Longest summary in words, 120 are about the paper's 160 tokens; a description within it is kept.
        summary_tokens: Longest answer of the summariser in tokens; "none" is five for three words.
        price_per_hour: Price of an hour of this machine, for tables of what it costs; in no cell, so that another price
            needs no new run.
        currency: Currency of --price-per-hour, three letters such as EUR.
        instance: Instead of a price, an instance of the price table (docs/costs.md), such as g5.xlarge.
        prices: CSV file that replaces the price table.
        watts: Power that this machine draws at work, in W, for energy that no counter has measured; "none" estimates it
            from cores and GPU.
        out: Folder for results, tables and figures.
        workers: Compute cells in so many processes of this machine (extra cluster); 0 in this one. What measures a
            machine stays in this one.
        scheduler: Compute cells on the workers of a dask scheduler, such as tcp://127.0.0.1:8786 (extra cluster).
        resources: What a cell that runs an encoder or an LLM asks for of its worker, such as GPU=1; workers say what
            they have: dask worker --resources GPU=1.
        store: Share results with other machines by a URL of fsspec, such as s3://bucket/folder: what is there is taken,
            what is computed is given to it.
        overwrite: only-missing computes what is not stored; always everything; never refuses if anything is
            stored; only-cache computes nothing.
        report: Build the report (figures, tables, page) at the end.
        track: Log each cell to a tracker as well, metrics, parameters and figures: mlflow, tensorboard, trackio or
            wandb (extras of these names), below --out unless the tracker's own variables say where.
        progress: Show progress bars.
    """

    dataset: str = "toyshop"
    preset: Preset = "small"
    llm: str = "smollm2-135m"
    layers: int | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    vision: str = "efficientnet-lite0"
    text: str = "minilm"
    seeds: tuple[int, ...] = (0,)
    seeds_of: Literal["everything", "projectors"] = "everything"
    users: int | None = None
    items: int | None = None
    overlap: float | None = None
    max_users: int | None = None
    eval_users: int | None = None
    min_interactions: int = 5
    split: SplitKind = "leave-one-out"
    test_targets: TestTargets = "next"
    duplicates: Literal["drop", "keep"] = "drop"
    ties: Literal["table", "drawn"] = "table"
    time_resolution: Literal["auto", "exact", "day"] = "auto"
    broken_images: Literal["stop", "missing"] = "stop"
    negatives: int = 100
    history_length: int = 10
    context: int | None = None
    instruction: Literal["after", "before"] = "after"
    readout: Readout = "last"
    adaptor: AdaptorForm | None = None
    projector: ProjectorForm | None = None
    inputs: Inputs | None = None
    affinity: Affinity | None = None
    alignment: Literal["full", "no-matching", "no-reconstruction", "no-recommendation", "none"] = "full"
    hidden: int | None = None
    shared: int | None = None
    strategy: Strategy | None = None
    warm_up: int | None = None
    alternations: int | None = None
    alternation_targets: int | None = None
    joint: JointStrategy | None = None
    last_targets: int | None = None
    state_dtype: StateDtype | None = None
    tuned: bool = False
    targets: Literal["one", "all"] | None = None
    loss: Literal["bce", "ce"] | None = None
    reduction: Literal["sum", "mean"] | None = None
    negatives_from: Literal["outside", "catalogue"] | None = None
    windows: Literal["full", "short"] | None = None
    learning_rate: float | None = None
    schedule: Literal["constant", "linear", "cosine"] | None = None
    clip: float | None = None
    adaptor_start: Literal["drawn", "text"] | None = None
    epochs: int | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    validation_users: int | None = None
    cf_epochs: int | None = None
    token_budget: int | None = None
    checkpointing: bool = False
    compile: bool = False
    plain: bool = False
    summarizer: str | None = None
    summarizer_model: str | None = None
    summarizer_context: int | None = None
    summarizer_timeout: float = 120.0
    summarizer_requests: int = 8
    summary_words: int = 120
    summary_tokens: int | None = None
    price_per_hour: float | None = None
    currency: str | None = None
    instance: str | None = None
    prices: Path | None = None
    watts: float | None = None
    out: Path = Path("reports/out")
    workers: int = 0
    scheduler: str | None = None
    resources: str | None = None
    store: str | None = None
    overwrite: Overwrite = "only-missing"
    report: bool = True
    track: TrackerName | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("--seeds: give at least one")
        for seed in self.seeds:
            if not 0 <= seed < 1 << 32:  # what NumPy's own generator takes
                raise InputError(f"--seeds {seed}: must be from 0 to {(1 << 32) - 1}")
        for name in (
            "negatives", "max_users", "eval_users", "history_length", "max_steps", "cf_epochs", "context", "hidden",
            "shared",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be at least 1")
        backbone.check_name(self.llm)
        for name in _STORED:
            if getattr(self, name) is not None and self.strategy != "cached":
                raise InputError(f"--{name.replace('_', '-')}: states are stored by --strategy cached alone")
        if self.seeds_of == "projectors" and self.strategy != "cached":
            raise InputError(
                "--seeds-of projectors: projectors have seeds of their own with --strategy cached alone"
            )
        self.training()
        self.form()
        if (self.summarizer is None) != (self.summarizer_model is None):
            raise InputError(
                "--summarizer and --summarizer-model: give both, the server's address and its model"
            )
        self.summary_options()
        self.summary_endpoint()
        self.worker_resources()
        check_cluster(self.workers, self.scheduler)
        self._check_plain()
        self.pricing()

    def _check_plain(self) -> None:
        """Refuse what is a fast path itself."""
        if not self.plain:
            return
        fast = {
            "compile": self.compile,
            "checkpointing": self.checkpointing,
            f"state-dtype {self.state_dtype}": self.state_dtype,
            f"dtype {self.dtype}": self.dtype not in ("auto", "float32"),
            f"workers {self.workers}": self.workers,
            f"scheduler {self.scheduler}": self.scheduler,
        }
        for name, given in fast.items():
            if given:
                raise InputError(
                    f"--plain: --{name} is what it is to be compared with; leave one of them out"
                )

    def worker_resources(self) -> dict[str, float]:
        """Return what cells that run an encoder or an LLM ask for of their worker."""
        return parse_resources(self.resources)

    def pricing(self) -> Pricing:
        """Return what an hour of the machine costs, and what power it draws."""
        return Pricing(**{field.name: getattr(self, field.name) for field in fields(Pricing)})

    def summary_options(self) -> SummaryOptions:
        """Return how long summaries are."""
        return SummaryOptions(
            max_words=self.summary_words,
            max_new_tokens=self.summary_tokens,
            context=self.summarizer_context,
        )

    def summary_endpoint(self) -> Endpoint | None:
        """Return the server that writes summaries, or None where the LLM does."""
        if self.summarizer is None or self.summarizer_model is None:
            return None
        return Endpoint(
            url=self.summarizer,
            model=self.summarizer_model,
            timeout=self.summarizer_timeout,
            requests=self.summarizer_requests,
        )

    def resolved(self) -> Settings:
        """Return the settings with the preset's values where the user left them open.

        Of several processes the main one alone shows progress and builds the report.
        """
        given = {} if self.dataset != "toyshop" else _TOYSHOP[self.preset]
        chosen = {
            name: value
            for name, value in {**_RUN[self.preset], **given}.items()
            if getattr(self, name) is None
        }
        if self.plain:
            chosen |= {"dtype": "float32"}
        if not processes.is_main():
            chosen |= {"progress": False, "report": False}
        return replace(self, **chosen)

    def training(self, *, risa: bool = True) -> TrainingOptions:
        """Return the training options of LLM methods."""
        return self.stored(replace(preset_options(self.preset), risa=risa, **self._given(_TRAINING)))

    def stored(self, options: TrainingOptions) -> TrainingOptions:
        """Return training options with what the user says of stored states, where there are any."""
        if options.cached is None:
            return options
        given = self._given((*_STORED, "state_dtype"))
        return replace(options, cached=replace(options.cached, **given))

    def form(self) -> dict[str, Any]:
        """Return what preset and user say of what stands around the LLM, under the names of ``ModelConfig``."""
        form = _FORM[self.preset] | self._given((*(field.name for field in fields(Form)), "hidden", "shared"))
        Form(**{field.name: form[field.name] for field in fields(Form) if field.name in form})
        return form

    def _given(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def dataset_arguments(self) -> dict[str, Any]:
        """Return the arguments of ``load_dataset``; the data do not change with the seed of a run."""
        names = (
            "max_users", "min_interactions", "users", "items", "overlap", "split", "test_targets", "duplicates", "ties",
            "time_resolution", "broken_images",
        )  # fmt: skip
        return {"name": self.dataset, **{name: getattr(self, name) for name in names}}

    def torch_device(self) -> str:
        """Return the device of this process; ``auto`` stands for cuda, mps or cpu, several processes have a GPU each.

        Raises:
            InputError: If several processes cannot share the device.
        """
        if self.device != "auto":
            return processes.own_device(self.device)
        import torch

        if torch.cuda.is_available():
            return processes.own_device("cuda")
        alone = processes.count() == 1
        return "mps" if alone and torch.backends.mps.is_available() else processes.own_device("cpu")


_STORED = ("warm_up", "alternations", "alternation_targets", "joint", "last_targets")
"""Options of stored states, under the names that ``CachedOptions`` has."""

_TRAINING = (
    "targets", "loss", "reduction", "negatives_from", "windows", "learning_rate", "schedule", "clip", "strategy",
    "epochs", "max_steps", "batch_size", "validation_users", "token_budget", "adaptor_start",
)  # fmt: skip
"""Options of training, under the names that ``TrainingOptions`` has."""

_FORM: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {},
    "paper": {},
    "released-code": {
        "adaptor": "norm-gelu",
        "projector": "norm-inside",
        "inputs": "raw",
        "affinity": "dot",
        "hidden": 1024,
        "shared": 512,
    },
}
_RUN: dict[str, dict[str, Any]] = {
    "smoke": {"layers": 2, "cf_epochs": 2, "eval_users": 64},
    "small": {"layers": 4},
    "paper": {},
    "released-code": {},
}
_TOYSHOP: dict[str, dict[str, Any]] = {
    "smoke": {"users": 150, "items": 160},
    "small": {},
    "paper": {},
    "released-code": {},
}
