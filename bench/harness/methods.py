"""The methods by name, and which of them show items to the LLM."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.harness.own_recommenders import check_own_recommender, is_own_recommender
from illmrec.assembly import load_representation
from illmrec.errors import InputError, nearest
from illmrec.features.grids import MLLM, of_pictures
from illmrec.model.readout import Readout
from illmrec.model.slot_content import SlotContent
from illmrec.model.vision_language import MLLM as VISION_LANGUAGE
from illmrec.training import TrainingOptions

logger = logging.getLogger(__name__)

FEATURES = ("image", "cf", "text")
SLOTS = (*FEATURES, "aligned")
"""What may fill a slot: features that score items as well, and A-LLMRec's joint embedding of CF and text."""

REPRESENTATIONS = {
    "illmrec": "illmrec.prompts.segments:ImageRepresentation",
    "illmrec+": "illmrec.prompts.segments:ImageDescriptionRepresentation",
    "tallrec": "baselines.text_prompts:TALLRec",
    "trsr": "baselines.text_prompts:TRSR",
    "full-description": "baselines.text_prompts:FullDescription",
    "title": "baselines.text_prompts:TitleOnly",
    "description-token": "baselines.token_prompts:DescriptionToken",
    "cf-token": "baselines.token_prompts:CFToken",
    "illmrec-2-tokens": "illmrec.prompts.image_tokens:ImageTokens2",
    "illmrec-4-tokens": "illmrec.prompts.image_tokens:ImageTokens4",
    "illmrec-8-tokens": "illmrec.prompts.image_tokens:ImageTokens8",
    "mllm": "illmrec.prompts.mllm:MLLMPictures",
    "a-llmrec": "baselines.a_llmrec:ALLMRec",
    "unimp": "baselines.unimp:UniMP",
    "e4srec": "baselines.e4srec:E4SRec",
}
"""The LLM methods: they differ in nothing but how an item is shown; ``TOKEN_SCORED`` in how it is scored as well."""

TOKEN_SCORED = ("unimp", "e4srec")
"""LLM methods that score items by a token of their own each, by a softmax over the catalogue, whatever the loss of the
others and the features by which those score. Such a token knows nothing of an item that is not in training.
"""
OWN_FORMS: dict[str, dict[str, Any]] = {"e4srec": {"adaptor": "linear"}}
"""What stands around the LLM in a method that has it otherwise than all others."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """An LLM method with one thing changed, which tells what that is worth.

    Attributes:
        of: The LLM method.
        readout: What of a history is projected; None as the settings say.
        slot_content: What fills the slots.
    """

    of: str
    readout: Readout | None = None
    slot_content: SlotContent = "features"


CONTROLS = {
    "no-llm": Control(of="title", readout="features"),
    "llm-and-features": Control(of="illmrec", readout="last+features"),
    "illmrec-shuffled": Control(of="illmrec", slot_content="shuffled"),
    "illmrec-noise": Control(of="illmrec", slot_content="noise"),
    "illmrec-zero": Control(of="illmrec", slot_content="zero"),
}
"""``no-llm`` projects the features of the history's items in place of the LLM's state, and its prompt is never read:
what the LLM adds is the difference to it. ``llm-and-features`` has both side by side: whether the state holds anything
that the features do not. The others have another item's picture, noise, or nothing in the slot.
"""

RECBOLE: dict[str, dict[str, Any]] = {
    "sasrec": {"model": "sasrec"},
    "gru4rec": {"model": "gru4rec"},
    "sasrec-short": {"model": "sasrec"},
    "sasrec-bce": {"model": "sasrec", "loss": "bce"},
    "sasrec-recbole": {"model": "sasrec", "targets": "one", "loss": "ce", "dropout": 0.5},
    "bert4rec": {"model": "bert4rec", "loss": "ce"},
    "esasrec": {"model": "esasrec", "loss": "sampled"},
}
"""The sequential models, and in what they differ from RecBole's networks as this toolkit trains them: cross-entropy
over the catalogue at every position. ``sasrec-short`` reads no more items than LLM methods do; ``sasrec-bce`` has the
loss of the SASRec paper, one sampled negative; ``sasrec-recbole`` is RecBole's own default, a row for each prefix.
``bert4rec`` learns masked items in place of the next one; ``esasrec`` has gated blocks and a sampled softmax.
"""
MULTIMODAL: dict[str, tuple[str, ...]] = {
    "vbpr": ("image",),
    "bm3": ("image", "text"),
    "tiger": ("text",),
}
"""Collaborative models that see items' content, and the feature types that they see. ``tiger`` sees codes of them, by
which it writes the next item.
"""
GENERATIVE = ("lc-rec",)
"""Methods that write the next item, token by token."""
TEXTUAL_IDS = ("idgenrec",)
"""Methods that write the next item in words."""
WRITERS = (*GENERATIVE, *TEXTUAL_IDS)
"""Methods by which the LLM writes the next item."""
FLOORS = ("item-knn", "sequential-rules", "content-knn", "recent-popularity", "popularity", "random")
METHODS = (*REPRESENTATIONS, *CONTROLS, *RECBOLE, *MULTIMODAL, *GENERATIVE, *TEXTUAL_IDS, *FLOORS)
PAPER = ("illmrec", "illmrec+", "tallrec", "trsr", "full-description", "title")
"""The representations of the paper: what is measured unless others are named."""
ALL = "all"
"""In place of names: every method, see :func:`every_method`."""


def every_method(llm: str) -> tuple[str, ...]:
    """Return every method that an LLM can run; the log names those that it cannot.

    Args:
        llm: As ``--llm`` names it.
    """
    pictures = [name for name in REPRESENTATIONS if "mllm" in picture_parts(name)]
    if llm.startswith(VISION_LANGUAGE):
        return METHODS
    logger.info("%s left out: give a vision-language model, --llm mllm:NAME", ", ".join(pictures))
    return tuple(name for name in METHODS if name not in pictures)


def check_method(name: str) -> str:
    """Return the name if there is such a method or it is one's own, ``package.module:Name``.

    That is a representation, or a recommender that scores the catalogue.

    Raises:
        InputError: If there is none, with the nearest valid name.
    """
    if name in METHODS:
        return name
    if is_own_recommender(name):
        check_own_recommender(name)
        return name
    if ":" in name:
        slots = load_representation(name).slots
        unknown = [slot for slot in slots if slot not in SLOTS and not of_pictures(slot)]
        if unknown:
            raise InputError(f"method {name}: slots names '{unknown[0]}': {nearest(unknown[0], SLOTS)}")
        return name
    raise InputError(f"unknown method '{name}': {nearest(name, METHODS)}, or package.module:Class")


def check_features(names: Sequence[str]) -> list[str]:
    """Return feature types in their usual order, each once.

    Raises:
        InputError: If there is none, or one is unknown, with the nearest valid name.
    """
    for name in names:
        if name not in FEATURES:
            raise InputError(f"--features {name}: {nearest(name, FEATURES)}")
    if not names:
        raise InputError(f"--features: give at least one of {', '.join(FEATURES)}")
    return [name for name in FEATURES if name in names]


def representation_of(name: str) -> str:
    """Return ``package.module:Class`` of what an LLM method, or the one that a control is of, shows to the LLM."""
    of = CONTROLS[name].of if name in CONTROLS else name
    return REPRESENTATIONS.get(of, of)


def is_llm_method(name: str) -> bool:
    """Return whether a method shows items to the LLM."""
    return name in REPRESENTATIONS or (":" in name and not is_own_recommender(name))


def is_reri_method(name: str) -> bool:
    """Return whether a method scores by projections against item features: LLM methods and their controls."""
    return is_llm_method(name) or name in CONTROLS


def check_llm_methods(
    names: Sequence[str], *, why: str, by_features: bool = False, writers: bool = False
) -> list[str]:
    """Return the names of LLM methods, each once.

    Args:
        names: As a user gave them.
        why: What only LLM methods do that the experiment needs, such as ``show items in tokens``.
        by_features: Whether the experiment is about the features that score items: such methods alone.
        writers: Whether methods by which the LLM writes the next item do it as well.

    Raises:
        InputError: If there is none, or one is unknown or no LLM method.
    """
    for name in names:
        if not is_llm_method(check_method(name)) and not (writers and name in WRITERS):
            raise InputError(f"--methods {name}: only LLM methods {why}; leave it out")
        if by_features and name in TOKEN_SCORED:
            raise InputError(
                f"--methods {name}: it scores items by tokens of their own, not by features, and the token of an item "
                "that training has not seen knows nothing of it; leave it out"
            )
    if not names:
        raise InputError("--methods: give at least one LLM method, such as illmrec")
    return list(dict.fromkeys(names))


def check_timed_methods(names: Sequence[str], *, llm: str) -> list[str]:
    """Return the names of methods whose cost can be measured, each once: not those that cost what another does.

    Args:
        names: As a user gave them; ``all`` stands for every method that the LLM can run.
        llm: As ``--llm`` names it.

    Raises:
        InputError: If there is none, one is unknown, or one is a control that differs in what its slots hold alone.
    """
    if tuple(names) == (ALL,):
        return [name for name in every_method(llm) if name not in CONTROLS or CONTROLS[name].readout]
    for name in names:
        control = CONTROLS.get(check_method(name))
        if is_own_recommender(name):
            raise InputError(
                f"--methods {name}: what a recommender of your own costs is not measured; leave it out"
            )
        if control is not None and control.readout is None:
            raise InputError(f"--methods {name}: it costs what {control.of} costs; leave it out")
    if not names:
        raise InputError("--methods: give at least one, such as illmrec")
    return list(dict.fromkeys(names))


def shows_images(name: str) -> bool:
    """Return whether an LLM method shows items to the LLM by their image, whatever else it shows."""
    return any(of_pictures(slot) for slot in load_representation(representation_of(name)).slots)


def picture_parts(name: str) -> list[str]:
    """Return the features that a method's slots need beside the pooled one: parts of pictures, an MLLM's reading."""
    slots = load_representation(representation_of(name)).slots
    return ["mllm" if slot == MLLM else "parts" for slot in slots if of_pictures(slot) and slot != "image"]


def learns_risa(method: str, options: TrainingOptions) -> bool:
    """Return whether anything learns from RISA: a frozen LLM that reads no slots of an adaptor has nothing that could.

    Nor has a model whose states are stored before anything was trained.

    Args:
        method: An LLM method.
        options: How it is trained.
    """
    if options.cached is not None and not options.cached.trains_jointly:
        return False
    return fills_slots(method) or options.tunes in ("lora", "embeddings", "end-to-end")


def fills_slots(method: str) -> bool:
    """Return whether an adaptor fills slots of an LLM method's histories: else nothing that learns is in them."""
    return not set(load_representation(representation_of(method)).slots) <= {MLLM}
