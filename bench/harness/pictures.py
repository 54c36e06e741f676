"""What methods need of pictures: that there are any, several vectors of each, or an LLM that reads them itself."""

from __future__ import annotations

from collections.abc import Sequence

from illmrec.data.dataset import Dataset
from illmrec.errors import UnsupportedError
from illmrec.features.grids import MLLM, image_vectors, of_pictures
from illmrec.features.identity import encoder_identity
from illmrec.model.backbone import Backbone
from illmrec.model.vision_language import MLLM as PREFIX


def has_pictures(dataset: Dataset) -> bool:
    """Return whether any item has a picture."""
    return dataset.images is not None and bool(dataset.images.available.any())


def check_pictured(
    dataset: Dataset, *, method: str, shown: Sequence[str] = (), scoring: Sequence[str]
) -> None:
    """Check that items have pictures where a method needs some.

    Args:
        dataset: The items.
        method: Its name.
        shown: Features that fill its slots.
        scoring: Feature types by which it scores items, as --features names them.

    Raises:
        UnsupportedError: If no item has one and the method shows pictures, or scores items by them.
    """
    if has_pictures(dataset):
        return
    if any(of_pictures(name) for name in shown):
        raise UnsupportedError(
            f"{dataset.name}: no item has an image, which {method} shows the LLM; add images or leave it out"
        )
    if "image" in scoring:
        others = ",".join(name for name in scoring if name != "image") or "text"
        raise UnsupportedError(
            f"{dataset.name}: no item has an image, by which {method} scores items; add images or give "
            f"--features {others} (bench.comparison)"
        )


def of_parts(names: Sequence[str]) -> list[str]:
    """Return those of some feature types in which a picture has several vectors, each once."""
    return list(dict.fromkeys(name for name in names if name == MLLM or image_vectors(name) > 1))


def check_not_exchanged(parts: Sequence[str]) -> None:
    """Check that no parts of pictures are wanted where features of pictures were exchanged.

    Raises:
        UnsupportedError: If some are.
    """
    if parts:
        raise UnsupportedError(
            f"'{parts[0]}' features: here the features of some pictures are exchanged, which have one vector each; "
            "leave out methods with more than one image token"
        )


def reader(llm: str) -> dict[str, str]:
    """Return ``{"mllm": NAME}`` of the vision-language model that an LLM, as --llm names it, is part of; or nothing."""
    return {MLLM: llm.removeprefix(PREFIX)} if llm.startswith(PREFIX) else {}


def reader_identity(llm: str) -> str | None:
    """Return what stands for that model in a cell's configuration, its vision tower included; None where it is none."""
    named = reader(llm)
    return encoder_identity(named[MLLM], kind="vision") if named else None


def check_reads_pictures(backbone: Backbone) -> None:
    """Check that an LLM itself reads pictures.

    Raises:
        UnsupportedError: If it does not.
    """
    if not backbone.picture_tokens:
        raise UnsupportedError(
            f"method mllm: the LLM itself reads the pictures, and --llm {backbone.name} reads none; give a "
            f"vision-language model, --llm {PREFIX}NAME, whose language model all LLM methods then share"
        )
