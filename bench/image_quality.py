"""Table 9 and E.9 of the paper: accuracy with pictures of low quality."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Literal

from bench.changes.changed_images import (
    Degradation,
    DegradedImages,
    LowResolutionImages,
    images_of,
    with_images,
)
from bench.frames.image_quality import ABOUT, FEATURE_SETS, KIND, LOW_RESOLUTION, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench, sampled_means
from bench.harness.methods import check_llm_methods
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from illmrec.command_line import run
from illmrec.data.dataset import ImageSource
from illmrec.errors import InputError

logger = logging.getLogger(__name__)

FeatureSet = Literal["image", "all"]


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = ("illmrec",),
    resolutions: tuple[int, ...] = (16, 32, 64, 128),
    jpeg_qualities: tuple[int, ...] = (5, 20, 50),
    blurs: tuple[float, ...] = (2.0, 4.0, 8.0),
    feature_sets: tuple[FeatureSet, ...] = ("image", "all"),
) -> int:
    """Train and evaluate methods on worse pictures (Table 9): the source's own small ones, thumbnails, JPEG, blur.

    Pictures are degraded when they are read, the same way each time; the encoder then prepares them as any other.
    Training and evaluation see the same quality, as in the paper. The paper's low-resolution pictures are the source's
    own: a data set's folder has them in images-low or images-low.zip, named as in images; without them this part is
    left out. Writes tables/image_quality.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods to train at each quality.
        resolutions: Longer sides of the thumbnails in pixels; a smaller picture stays as it is. Empty, as the next
            two may be, leaves them out.
        jpeg_qualities: JPEG qualities, 1 to 95.
        blurs: Radii of a Gaussian blur, in pixels of a picture whose longer side is 224.
        feature_sets: image scores items by image features alone, all by image, CF and text features.
    """
    chosen = check_llm_methods(methods, why="learn from image features", by_features=True)
    levels = check_levels(resolutions=resolutions, jpeg_qualities=jpeg_qualities, blurs=blurs)
    if not feature_sets:
        raise InputError(f"--feature-sets: give at least one of {', '.join(FEATURE_SETS)}")
    bench = Bench(ABOUT, settings)
    workspace = bench.workspace
    places = [workspace, *own_low_resolution(workspace), *degraded_workspaces(workspace, levels)]
    if len(places) == 1:
        raise InputError(
            f"{workspace.dataset.name} has no low-resolution pictures of its own (images-low or images-low.zip), and "
            "--resolutions, --jpeg-qualities and --blurs are all empty: give at least one"
        )
    records = bench.accuracy(
        (place, accuracy_cell(place, method, seed=seed, features=FEATURE_SETS[name]))
        for seed in bench.settings.seeds
        for place in places
        for method in chosen
        for name in dict.fromkeys(feature_sets)
    )
    table = frame(records, bench.store)
    bench.write(table)
    bench.show(
        sampled_means(
            table,
            ["method", "features", "degradation", "amount"],
            ["hit@5", "ndcg@5", "hit@10", "ndcg@10"],
        ),
        f"Image quality on {workspace.dataset.name} (paper: Table 9, Sport)",
    )
    return bench.finish()


def check_levels(
    *, resolutions: Sequence[int], jpeg_qualities: Sequence[int], blurs: Sequence[float]
) -> list[tuple[Degradation, float]]:
    """Return kind and amount of every degradation, each once.

    Raises:
        InputError: If an amount is out of its range.
    """
    if min(resolutions, default=1) < 1:
        raise InputError(f"--resolutions {min(resolutions)}: the longer side is at least 1 pixel")
    for quality in jpeg_qualities:
        if not 1 <= quality <= 95:
            raise InputError(f"--jpeg-qualities {quality}: must be 1 to 95")
    if not all(0 < blur < float("inf") for blur in blurs):
        raise InputError("--blurs: radii are above 0; the pictures as they are belong to every run")
    levels: list[tuple[Degradation, float]] = [
        *(("resolution", float(amount)) for amount in resolutions),
        *(("jpeg", float(amount)) for amount in jpeg_qualities),
        *(("blur", float(amount)) for amount in blurs),
    ]
    return list(dict.fromkeys(levels))


def own_low_resolution(workspace: Workspace) -> list[Workspace]:
    """Return a workspace with the source's own low-resolution pictures, or none where it has none, which is logged.

    Raises:
        InputError: If no item has an image.
    """
    dataset, low = workspace.dataset, workspace.dataset.low_resolution
    images = images_of(dataset, experiment="image_quality")
    if low is None or not (low.available & images.available).any():
        logger.info(
            "%s has no low-resolution pictures of its own (images-low or images-low.zip, named as in images): "
            "that part of Table 9 is left out",
            dataset.name,
        )
        return []
    smaller = LowResolutionImages(source=images, low=low)
    logger.info(
        "%s: %d of %d pictures have a low-resolution one; the others stay as they are",
        dataset.name,
        smaller.replaced.sum(),
        images.available.sum(),
    )
    return [_derived(workspace, LOW_RESOLUTION, None, smaller)]


def degraded_workspaces(workspace: Workspace, levels: Sequence[tuple[Degradation, float]]) -> list[Workspace]:
    """Return a workspace with worse pictures for each kind and amount of degradation.

    Raises:
        InputError: If no item has an image.
    """
    images = images_of(workspace.dataset, experiment="image_quality")
    return [
        _derived(workspace, kind, amount, DegradedImages(source=images, kind=kind, amount=amount))
        for kind, amount in levels
    ]


def _derived(workspace: Workspace, degradation: str, amount: float | None, images: ImageSource) -> Workspace:
    return workspace.derive(
        variant={
            "kind": KIND,
            "of": workspace.dataset.fingerprint,
            "degradation": degradation,
            "amount": amount,
        },
        dataset=with_images(workspace.dataset, images),
    )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.image_quality"))
