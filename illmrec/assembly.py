"""From a configuration to a model: features, prompts and heads put together the same way for training and serving."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError, UnsupportedError
from illmrec.features.grids import of_pictures
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import Backbone
from illmrec.model.heads import ITEM_TOKEN, AdaptorForm, Affinity, Form, Inputs, ProjectorForm
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import Readout, reads_features
from illmrec.model.slot_content import SlotContent
from illmrec.model.tuning import LORA_ALPHA, LORA_RANK, Strategy, tuned_backbone
from illmrec.prompts.contract import contract_problems
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.segments import Representation
from illmrec.prompts.tokens import TokenisedItems, tokenise_items

HIDDEN, SHARED = 512, 256
"""Hidden width of projectors, as that of the adaptor (paper E.2), and width of the recommendation space."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What a model is, apart from data, LLM and how it was trained.

    Attributes:
        representation: Where the representation's class is: ``package.module:Class``.
        heads: Feature types that score items: some of ``image``, ``cf``, ``text``; or ``item-token`` alone, a token of
            its own for each item.
        context: Context budget in tokens, or ``None``.
        instruction: Whether the retrieval instruction stands ``after`` the history (the paper) or ``before`` it.
        history_length: L, items of history that are read.
        hidden: Hidden width of projectors.
        depth: Hidden layers of projectors.
        shared: Width of the recommendation space.
        adaptor: Form of adaptors; for this and the next three see :class:`~illmrec.model.heads.Form`.
        projector: Form of projectors.
        inputs: What adaptors and projectors read of features and states.
        affinity: What is made of the dot product of two projections.
        readout: What of a history is projected.
        slot_content: What fills the slots.
        seed: Of the initial parameters.
        strategy: How it is trained, as far as the LLM's weights are concerned; see :func:`tuned_backbone`.
        lora_rank: Rank of LoRA's matrices.
        lora_alpha: Their product is scaled by this over the rank.
    """

    representation: str
    heads: tuple[str, ...]
    context: int | None = None
    instruction: Literal["after", "before"] = "after"
    history_length: int = 10
    hidden: int = HIDDEN
    depth: int = 1
    shared: int = SHARED
    adaptor: AdaptorForm = "relu"
    projector: ProjectorForm = "norm-first"
    inputs: Inputs = "standardised"
    affinity: Affinity = "scaled"
    readout: Readout = "last"
    slot_content: SlotContent = "features"
    seed: int = 0
    strategy: Strategy = "frozen"
    lora_rank: int = LORA_RANK
    lora_alpha: int = LORA_ALPHA


FORM: dict[str, Any] = {
    field.name: field.default
    for field in fields(ModelConfig)
    if field.name in ("hidden", "depth", "shared", "adaptor", "projector", "inputs", "affinity")
}
"""Options of what stands around the LLM, with their defaults."""


_SHIPPED = ("illmrec", "baselines", "bench")
_LARGEST = 1 << 16  # of widths and lengths that a file may ask for
_DEEPEST = 64
_MOST_WEIGHTS = 1 << 28  # between hidden layers
_SEEDS = (1 << 63) - 1  # of a generator of PyTorch


def stored_config(values: Any) -> ModelConfig:
    """Return a configuration that was read from a file.

    Raises:
        ValueError: If a value is missing, unknown, of the wrong type or beyond all use; the message names it.
    """
    if not isinstance(values, dict):
        raise ValueError("config is no object")
    values = {**values, "heads": tuple(values["heads"])} if isinstance(values.get("heads"), list) else values
    hints = get_type_hints(ModelConfig)
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"config has an unknown {name}")
        least, most = (0, _SEEDS) if name == "seed" else (0 if name == "depth" else 1, _LARGEST)
        beyond = type(value) is int and not least <= value <= most
        if not _fits(value, hints[name]) or beyond:
            raise ValueError(f"config has {name} {value!r:.60}")
    try:
        config = ModelConfig(**values)
    except TypeError as error:  # what is missing
        raise ValueError(str(error)) from None
    if config.depth > _DEEPEST or config.depth * config.hidden**2 > _MOST_WEIGHTS:
        raise ValueError(f"config has depth {config.depth} of hidden {config.hidden}")
    return config


def _fits(value: object, hint: Any) -> bool:
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in inner if isinstance(value, str) else False
    if kind in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if kind is tuple:
        return isinstance(value, tuple) and all(isinstance(one, str) for one in value)
    return type(value) is hint


def check_shipped(representation: str) -> None:
    """Check that a representation that somebody else's file names is part of the toolkit, or imported already.

    To import a module runs it, so that a file from the hub must not choose which.

    Raises:
        InputError: If it is not.
    """
    module = representation.partition(":")[0]
    if module.partition(".")[0] not in _SHIPPED and module not in sys.modules:
        raise InputError(
            f"representation {representation!r} is no part of this toolkit; if you trust it, import {module} before "
            "the model is loaded"
        )


def import_named(path: str) -> Any:
    """Import what ``package.module:Name`` names.

    Raises:
        InputError: If the path is written otherwise, the module cannot be imported or has no such name.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise InputError(f"{path!r} names no method: write it as package.module:Class")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the user's module raises
        raise InputError(f"{path!r} cannot be loaded: {_in_one_line(error)}") from error


def load_representation(path: str) -> Representation:
    """Import a representation, ``package.module:Class``, and make one.

    Raises:
        InputError: If it cannot be imported, or lacks a part of the contract, with the part's name.
    """
    made = import_named(path)
    if any(hasattr(made, part) for part in ("score", "score_users")):
        raise InputError(
            f"representation {path!r} is a scorer, which shows nothing to the LLM: python -m bench.comparison takes it"
        )
    if not (inspect.isclass(made) or inspect.isfunction(made)):
        raise InputError(f"representation {path!r} is no class; write it as package.module:Class")
    try:
        loaded: Any = made()
    except Exception as error:
        raise InputError(f"representation {path!r} cannot be loaded: {_in_one_line(error)}") from error
    problems = contract_problems(loaded)
    if hasattr(loaded, "score") or hasattr(loaded, "score_users"):
        problems = [
            "scores by itself: only representations are named so here; python -m bench.comparison takes it"
        ]
    if problems:
        raise InputError(f"representation {path!r} {'; it '.join(problems)}")
    checked: Representation = loaded
    return checked


def _in_one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return (
        said
        if isinstance(error, ImportError | AttributeError | InputError)
        else f"{type(error).__name__}: {said}"
    )


def build_model(
    config: ModelConfig,
    *,
    dataset: Dataset,
    backbone: Backbone,
    features: Mapping[str, FeatureTable],
    has_image: np.ndarray,
) -> ILLMRec:
    """Assemble an untrained model.

    Args:
        config: What it is.
        dataset: Whose items it recommends.
        backbone: The frozen LLM; a model that trains it gets a copy.
        features: The tables of the representation's slots and of the heads; images already filled (paper E.8).
        has_image: Bool [n_items]: items whose picture is real; the others show their description in its place.

    Raises:
        InputError: If a feature or a column that is needed is missing, or the context exceeds the LLM's.
        UnsupportedError: If features are read out of which none scores items.
    """
    representation = load_representation(config.representation)
    if ITEM_TOKEN in config.heads and reads_features(config.readout):
        raise UnsupportedError(
            f"method {representation.name}: --readout {config.readout} reads the features by which items are scored, "
            "and it scores them by tokens of their own"
        )
    for name in (*representation.slots, *config.heads):
        if name not in features and name != ITEM_TOKEN:
            raise InputError(f"method {representation.name} needs '{name}' features; there are none")
    everywhere = np.ones(dataset.n_items, dtype=bool)
    tokenised = tokenise_items(
        dataset.items,
        representation,
        backbone.tokenizer,
        present={name: has_image if of_pictures(name) else everywhere for name in representation.slots},
    )
    vectors = {name: features[name].vectors for name in representation.slots}
    embedded = [name for name in representation.slots if features[name].embeddings]
    for name in embedded:
        if features[name].width != vectors[name] * backbone.width:
            raise InputError(
                f"method {representation.name}: '{name}' features are input embeddings of another LLM than "
                f"{backbone.name}"
            )
    tokenised = tokenised.repeated({name: vectors[name] for name in embedded})
    tokenised.check_slots(vectors, method=representation.name)
    return assemble(
        config,
        items=tokenised,
        backbone=backbone,
        features={name: table.values for name, table in features.items()},
        vectors=vectors,
        embedded=embedded,
    )


def assemble(
    config: ModelConfig,
    *,
    items: TokenisedItems,
    backbone: Backbone,
    features: Mapping[str, np.ndarray],
    vectors: Mapping[str, int],
    embedded: Sequence[str],
) -> ILLMRec:
    """Put a model together from items that are tokenised already.

    Args:
        config: What it is.
        items: The catalogue as token ids.
        backbone: The frozen LLM; a model that trains it gets a copy.
        features: Float32 [n_items, width] of the representation's slots and of the heads.
        vectors: How many vectors side by side an item's row of a slot feature has.
        embedded: Slot features that are input embeddings of this LLM.

    Raises:
        InputError: If the context exceeds the LLM's.
    """
    limit = backbone.longest_input
    context = config.context
    if limit is not None:
        if context is not None and context > limit:
            raise InputError(f"--context {context}: {backbone.name} reads at most {limit} tokens")
        context = context or limit
    model = ILLMRec(
        backbone=tuned_backbone(
            backbone,
            strategy=config.strategy,
            lora_rank=config.lora_rank,
            lora_alpha=config.lora_alpha,
            seed=config.seed,
        ),
        prompts=PromptBuilder(
            items=items,
            tokenizer=backbone.tokenizer,
            context=context,
            limit=limit,
            instruction=config.instruction,
        ),
        features=features,
        heads=config.heads,
        vectors=vectors,
        embedded=embedded,
        history_length=config.history_length,
        seed=config.seed,
        hidden=config.hidden,
        depth=config.depth,
        shared=config.shared,
        form=Form(
            adaptor=config.adaptor,
            projector=config.projector,
            inputs=config.inputs,
            affinity=config.affinity,
        ),
        readout=config.readout,
        slot_content=config.slot_content,
    )
    model.config = config
    return model


def describe_features(tables: Mapping[str, FeatureTable]) -> dict[str, Any]:
    """Return the keys of feature tables, for a model's file and a cell's key."""
    return {name: table.key for name, table in sorted(tables.items())}
