"""How a model is trained, and the presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from illmrec.errors import InputError
from illmrec.model.tuning import LORA_ALPHA, LORA_RANK, STRATEGIES, Strategy
from illmrec.states.table import STATE_DTYPES, StateDtype

_LLM_LEARNING_RATES = {"lora": 2e-4, "end-to-end": 2e-5}
_LATER = (
    "strategy", "lora_rank", "lora_alpha", "llm_learning_rate", "cached",
    "reduction", "negatives_from", "windows", "clip", "adaptor_start",
)  # fmt: skip
"""Options that came after results were stored: at their defaults they are left out of keys, which stay the same."""
_LATER_CACHED = ("joint", "alternations", "alternation_targets")
JointStrategy = Literal["frozen", "lora"]


@dataclass(frozen=True, kw_only=True)
class CachedOptions:
    """How projectors are trained on stored states (strategy ``cached``).

    Attributes:
        warm_up: Targets, about, that adaptors and ``[REC]`` are trained on before states are stored, by RISA and RERI
            together; 0 stores the states of adaptors and ``[REC]`` as initialised.
        alternations: Times that, once projectors have converged, they are trained jointly with adaptors and ``[REC]``
            again, states are stored anew and projectors trained on those; the round that validates best is kept.
        alternation_targets: Targets, about, of each of those joint trainings.
        joint: What is trained jointly: ``frozen`` no part of the LLM, ``lora`` low-rank matrices in it as well.
        last_targets: Store the states of so many of each user's training targets, the most recent; ``None`` of all.
        state_dtype: Data type of the stored states.
        batch_size: Targets in a step.
        epochs: Passes over the stored states at most.
        learning_rate: Of AdamW, to begin with.
        weight_decay: Of AdamW.
        warm_up_steps: Steps over which the learning rate rises.
        dropout: Share of a state's numbers that are left out in training.
        temperature: Affinities are divided by it in training.
        patience: Epochs without a better validation NDCG@10 before the learning rate falls to three tenths.
        decays: Times that it falls; then training has converged.
        together: Train the sum of affinities, by which items are ranked, beside each feature type's.
        validation_users: Users, drawn by seed, whose validation items choose the epoch.
        projector_seed: Of the projectors' initial parameters, batches and dropout; ``None`` is the run's seed.
        negatives: Uniform negatives of a step for a softmax over a sample of the catalogue; 0 takes all items, ``None``
            does so up to 50,000 items and takes 8,192 above.
    """

    warm_up: int = 0
    alternations: int = 0
    alternation_targets: int = 16_384
    joint: JointStrategy = "frozen"
    last_targets: int | None = None
    state_dtype: StateDtype = "float16"
    batch_size: int = 1024
    epochs: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warm_up_steps: int = 20
    dropout: float = 0.0
    temperature: float = 1.0
    patience: int = 3
    decays: int = 2
    together: bool = False
    validation_users: int = 10_000
    projector_seed: int | None = None
    negatives: int | None = None

    def __post_init__(self) -> None:
        if self.state_dtype not in STATE_DTYPES:
            raise InputError(f"--state-dtype {self.state_dtype}: unknown; valid: {', '.join(STATE_DTYPES)}")
        if self.joint not in get_args(JointStrategy):
            raise InputError(f"--joint {self.joint}: unknown; valid: {', '.join(get_args(JointStrategy))}")
        if self.joint != "frozen" and not self.trains_jointly:
            raise InputError(
                f"--joint {self.joint}: nothing is trained jointly; give --warm-up or --alternations as well"
            )
        least = {"alternations": 0, "alternation_targets": 1}
        least |= {"warm_up": 0, "last_targets": 1, "batch_size": 1, "epochs": 1, "patience": 1, "decays": 0}
        least |= {"warm_up_steps": 0, "validation_users": 1, "negatives": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be at least {bound}")
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} {getattr(self, name)}: must be above 0")
        if not 0 <= self.dropout < 1 or not 0 <= self.weight_decay < float("inf"):
            raise InputError("dropout must be 0 or more and below 1, weight_decay 0 or more")

    @property
    def trains_jointly(self) -> bool:
        """Whether adaptors and ``[REC]`` are trained at all, before states are stored or between."""
        return bool(self.warm_up or self.alternations)

    def described(self) -> dict[str, Any]:
        """Return the options as JSON values, those of later versions only where they are not the default."""
        return _without_defaults(self, _LATER_CACHED)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained. Part of a cell's key.

    Attributes:
        risa: Train the adaptor by questions about the next item as well (section 3.2).
        targets: ``one`` random position of each user and epoch is a target, as in the paper; ``all`` makes every
            position of a random window of L + 1 items one, in the same pass.
        loss: ``bce`` with one sampled negative for each feature type (equation 1); ``ce`` over the catalogue.
        epochs: Passes over the users; each draws one window per user.
        max_steps: Stop after that many optimiser steps in all.
        batch_size: Users in one optimiser step.
        learning_rate: Of Adam.
        schedule: ``constant`` as in the paper, ``linear`` down to zero, or ``cosine`` to zero after a short warm-up.
        answer_tokens: RISA answers are cut there.
        validation_users: Users of the validation after each epoch (drawn by seed); 0 keeps the last epoch.
        patience: Stop after that many epochs without a better validation NDCG@10; ``None`` never. Only where the
            schedule is ``constant``: others take the learning rate down over all epochs, and a run that ended before
            would not have had that. There it only tells whether the last epochs were no better.
        token_budget: Tokens in one forward pass; a step takes as many passes as it needs, with the same result.
        strategy: What is trained besides adaptors, ``[REC]`` and projectors, and when. ``frozen``: no part of the LLM,
            RISA and RERI together (the paper; "End-to-End" in its Table 10). ``lora``: low-rank matrices in the LLM as
            well (Table 3). ``embeddings``: the LLM's token embedding table as well, blocks frozen (the authors' code).
            ``end-to-end``: the whole LLM as well, which the paper leaves out for its cost (D.2).
            ``two-stage`` (E.10): half of the steps train adaptors by RISA alone; the other half, adaptors frozen,
            ``[REC]`` and projectors by RERI alone. The LLM stays frozen. ``cached``: after a warm-up of adaptors and
            ``[REC]``, the states of all training positions are stored once and projectors are trained on them until
            validation stops improving; an approximation of ``frozen`` (or of ``lora``, by ``cached.joint``).
        lora_rank: Rank of LoRA's matrices.
        lora_alpha: LoRA's products are scaled by this over the rank.
        llm_learning_rate: Of what is trained in the LLM; ``None`` is 2e-4 for ``lora``, 2e-5 for ``end-to-end`` and
            that of all else for ``embeddings``.
        cached: Options of strategy ``cached``, given as such or as JSON values; ``None`` with any other. All other
            options are those of its joint steps; its projectors are told the loss alone.
        reduction: L_RERI is the ``sum`` of the feature types' losses, as in equation 2, or their ``mean``.
        negatives_from: Sampled negatives are items ``outside`` the history or any of the ``catalogue``, never the
            target.
        windows: ``full`` histories of up to L items; ``short`` ones, of 2 to 4 items or 2 to L - 1, each in half of the
            draws, as in the authors' code. Evaluation reads L items in either.
        clip: Longest gradient: a longer one is cut to this norm; ``None`` cuts none.
        adaptor_start: Adaptors start as ``drawn`` (the paper), or fitted in closed form so that a slot holds what the
            item's words would (``text``); see :func:`~illmrec.training.adaptor_start.start_from_text`.
    """

    risa: bool = True
    targets: Literal["one", "all"] = "one"
    loss: Literal["bce", "ce"] = "bce"
    epochs: int = 10
    max_steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    answer_tokens: int = 64
    validation_users: int = 1000
    patience: int | None = 3
    token_budget: int = 4096
    strategy: Strategy = "frozen"
    lora_rank: int = LORA_RANK
    lora_alpha: int = LORA_ALPHA
    llm_learning_rate: float | None = None
    cached: CachedOptions | None = None
    reduction: Literal["sum", "mean"] = "sum"
    negatives_from: Literal["outside", "catalogue"] = "outside"
    windows: Literal["full", "short"] = "full"
    clip: float | None = None
    adaptor_start: Literal["drawn", "text"] = "drawn"

    def __post_init__(self) -> None:
        given: Any = self.cached
        if isinstance(given, dict):
            object.__setattr__(self, "cached", CachedOptions(**given))
        if self.strategy == "cached" and self.cached is None:
            object.__setattr__(self, "cached", CachedOptions())
        if self.strategy != "cached" and self.cached is not None:
            raise InputError(f"strategy {self.strategy}: only cached has options of stored states")
        for name, valid in (
            ("targets", ("one", "all")),
            ("loss", ("bce", "ce")),
            ("schedule", ("constant", "linear", "cosine")),
            ("reduction", ("sum", "mean")),
            ("negatives_from", ("outside", "catalogue")),
            ("windows", ("full", "short")),
            ("adaptor_start", ("drawn", "text")),
            ("strategy", STRATEGIES),
        ):
            if getattr(self, name) not in valid:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {getattr(self, name)}: unknown; valid: {', '.join(valid)}")
        for name in ("epochs", "batch_size", "answer_tokens", "token_budget", "lora_rank", "lora_alpha"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        for name in ("learning_rate", "llm_learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} {value}: must be above 0")
        if self.negatives_from != "outside" and self.loss != "bce":
            raise InputError(
                f"--negatives-from {self.negatives_from}: --loss {self.loss} draws none; give --loss bce"
            )
        if self.strategy == "two-stage" and not self.risa:
            raise InputError("strategy two-stage: its first stage is RISA; it cannot go without")

    def described(self) -> dict[str, Any]:
        """Return the options as JSON values, those of later versions only where they are not the default."""
        found = _without_defaults(self, _LATER)
        if self.schedule != "constant" and self.cached is None:
            del found["patience"]  # which stops nothing
        return found if self.cached is None else found | {"cached": self.cached.described()}

    @property
    def tunes(self) -> Strategy:
        """What is trained in the LLM: the strategy, or of ``cached`` that of its joint steps."""
        return self.strategy if self.cached is None else self.cached.joint

    def learning_rate_of_llm(self) -> float:
        """Return the learning rate of what is trained in the LLM.

        Raises:
            ValueError: If nothing is.
        """
        usual = {**_LLM_LEARNING_RATES, "embeddings": self.learning_rate}
        if self.tunes not in usual:
            raise ValueError(f"strategy {self.strategy} trains no part of the LLM")
        return self.llm_learning_rate or usual[self.tunes]


def _without_defaults(options: CachedOptions | TrainingOptions, later: tuple[str, ...]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(options)}
    return {
        name: value for name, value in asdict(options).items() if name not in later or value != defaults[name]
    }


def preset_options(preset: str) -> TrainingOptions:
    """Return the training options of a preset.

    ``paper``, ``released-code`` (as the authors' code where that departs from it), ``small`` (the default on a CPU) or
    ``smoke`` (tests).

    Raises:
        InputError: If there is no such preset.
    """
    paper = TrainingOptions()
    small = replace(
        paper, targets="all", loss="ce", schedule="cosine", epochs=3, batch_size=8, validation_users=400
    )
    presets = {
        "paper": paper,
        "released-code": replace(
            paper,
            learning_rate=5e-5,
            schedule="linear",
            clip=1.0,
            batch_size=8,
            epochs=8,
            validation_users=0,
            reduction="mean",
            negatives_from="catalogue",
            strategy="embeddings",
            windows="short",
        ),
        "small": small,
        "smoke": replace(small, epochs=1, max_steps=4, batch_size=8, validation_users=32, answer_tokens=12),
    }
    if preset not in presets:
        raise InputError(f"--preset {preset}: unknown; valid: {', '.join(presets)}")
    return presets[preset]
