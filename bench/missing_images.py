"""Table 8 and E.8 of the paper: items whose image is missing, and what stands in for it."""

from __future__ import annotations

import hashlib
import logging
import sys
from typing import Any, Literal, get_args

import numpy as np

from bench.changes.changed_images import images_of, with_images
from bench.frames.missing_images import ABOUT, DROPPED, KIND, REFERENCES, frame
from bench.frames.selection import OURS
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench, sampled_means
from bench.harness.methods import check_llm_methods, shows_images
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell
from illmrec.command_line import run
from illmrec.data.dataset import Dataset
from illmrec.data.images import KeptImages
from illmrec.errors import InputError
from illmrec.features import fill_missing_images, image_features, text_features
from illmrec.features.table import FeatureTable
from illmrec.features.vision import has_text_tower
from illmrec.files import hash_json

logger = logging.getLogger(__name__)

Substitute = Literal["description", "zero", "drop"]


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = (OURS, *REFERENCES),
    fractions: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0),
    substitutes: tuple[Substitute, ...] = ("description", "zero", "drop"),
) -> int:
    """Train and evaluate methods that show images with some removed (Table 8), beside methods that show none.

    The items that lose their image are drawn by seed and nested: those missing at 25 percent are among those
    missing at 50 percent. Image features of the others are not computed again. Writes tables/missing_images.csv
    under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods. Those that show no image, such as tallrec, keep their prompts and are trained once.
        fractions: Shares of the images to remove, 0 to 1.
        substitutes: What stands in for a missing image. description, as in the paper: its text in the prompt, and as
            feature the text in the space of the image features; zero: a row of zeros as feature, in slot and scoring;
            drop: no slot and no description in the prompt, zeros in scoring, for I-LLMRec alone.
    """
    chosen = check_llm_methods(methods, why="show items, by picture or by text")
    swept = [name for name in chosen if shows_images(name)]
    if not swept:
        raise InputError(
            f"--methods {','.join(chosen)}: none shows an image that could be missing; add {OURS}"
        )
    if not fractions or not all(0 <= fraction <= 1 for fraction in fractions):
        raise InputError("--fractions: give shares of the images from 0 to 1, such as 0,0.5,1")
    if not substitutes:
        raise InputError(f"--substitutes: give at least one of {', '.join(get_args(Substitute))}")
    bench = Bench(ABOUT, settings)
    plan = planned(
        bench.workspace,
        methods=chosen,
        fractions=sorted(set(fractions)),
        substitutes=list(dict.fromkeys(substitutes)),
    )
    table = frame(bench.accuracy(plan), bench.store, [name for name in chosen if name not in swept])
    bench.write(table)
    bench.show(
        sampled_means(
            table,
            ["method", "substitutes", "fraction"],
            ["prompt_tokens", "hit@5", "ndcg@5", "hit@10", "ndcg@10"],
        ),
        f"Missing images on {bench.workspace.dataset.name} (paper: Table 8, half of them missing on Sport and Art)",
    )
    return bench.finish()


def planned(
    workspace: Workspace, *, methods: list[str], fractions: list[float], substitutes: list[Substitute]
) -> list[tuple[Workspace, Cell]]:
    """Return the cells and the workspace that computes each; what cannot be computed is left out and logged.

    Raises:
        InputError: If no item has an image.
    """
    dataset, encoder = workspace.dataset, workspace.settings.vision
    swept = [name for name in methods if shows_images(name)]
    others = [name for name in swept if name != OURS]
    if "drop" in substitutes and others:
        logger.warning("drop is left out for %s: it changes how %s shows items", ", ".join(others), OURS)
    images = images_of(dataset, experiment="missing_images")
    plan: list[tuple[Workspace, Cell]] = []
    for seed in workspace.settings.seeds:
        for fraction in fractions:
            kept = images.available & ~removed_items(images.available, fraction=fraction, seed=seed)
            changed = with_images(dataset, KeptImages(source=images, kept=kept))
            for substitute in substitutes:
                if (kept == images.available).all() and (substitute == "description" or kept.all()):
                    plan += [(workspace, accuracy_cell(workspace, name, seed=seed)) for name in swept]
                elif substitute == "description" and not kept.any() and not has_text_tower(encoder):
                    logger.warning(
                        "fraction %g with descriptions is left out: %s has no text tower, and without any image no map "
                        "from text to image features can be fitted",
                        fraction,
                        encoder,
                    )
                else:
                    place = without_images(
                        workspace, changed, substitute=substitute, fraction=fraction, seed=seed
                    )
                    shown = [DROPPED] * (OURS in swept) if substitute == "drop" else swept
                    plan += [(place, accuracy_cell(place, name, seed=seed)) for name in shown]
        references = [name for name in methods if name not in swept]
        plan += [(workspace, accuracy_cell(workspace, name, seed=seed)) for name in references]
    return plan


def removed_items(available: np.ndarray, *, fraction: float, seed: int) -> np.ndarray:
    """Draw the items that lose their image: bool [n_items], a superset of those at every smaller fraction.

    Args:
        available: bool [n_items], items with an image.
        fraction: Share of them that lose it, 0 to 1.
        seed: Of the order in which they lose it.
    """
    order = np.random.default_rng([seed, len(available)]).permutation(np.flatnonzero(available))
    removed = np.zeros(len(available), dtype=bool)
    removed[order[: round(fraction * len(order))]] = True
    return removed


def without_images(
    workspace: Workspace, changed: Dataset, *, substitute: Substitute, fraction: float, seed: int
) -> Workspace:
    """Return a workspace in which some images are missing.

    Args:
        workspace: With the images.
        changed: Its data set, of which some images were removed.
        substitute: What stands in for them.
        fraction: Share of images removed.
        seed: Of the removal.
    """
    settings = workspace.settings
    common: dict[str, Any] = {"device": workspace.device, "progress": settings.progress}

    def tables() -> tuple[FeatureTable, np.ndarray]:
        whole = image_features(workspace.dataset, encoder=settings.vision, **common)
        if changed.images is None:
            raise ValueError("the changed data set has no image source")
        left = masked(whole, changed.images.available)
        if substitute == "description":
            texts = text_features(workspace.dataset, encoder=settings.text, **common)
            filled = fill_missing_images(left, texts, workspace.dataset, encoder=settings.vision, **common)
            return filled, left.present
        return zero_filled(left), np.ones_like(left.present) if substitute == "zero" else left.present

    return workspace.derive(
        variant={
            "kind": KIND,
            "of": workspace.dataset.fingerprint,
            "fraction": fraction,
            "substitutes": substitute,
            "removal_seed": seed,
        },
        dataset=changed,
        images=tables,
    )


def masked(table: FeatureTable, kept: np.ndarray) -> FeatureTable:
    """Return a feature table without the rows that are not kept; the others are not computed again."""
    present = table.present & kept
    key = hash_json([table.key, hashlib.sha256(np.packbits(present).tobytes()).hexdigest()])
    values = np.where(present[:, None], table.values, np.float32(0))
    return FeatureTable(values=values, present=present, key=key, meta={**table.meta, "masked": table.key})


def zero_filled(table: FeatureTable) -> FeatureTable:
    """Return a feature table whose absent rows are zeros that count as features.

    The model centres features and scales each row to unit mean square, so all these items have one vector in common,
    the direction away from the mean; without any image every row is the mean, and stays zero.
    """
    values = np.where(table.present[:, None], table.values, np.float32(0))
    return FeatureTable(
        values=values,
        present=np.ones_like(table.present),
        key=hash_json([table.key, "zeros"]),
        meta={**table.meta, "substituted": int((~table.present).sum()), "by": "zeros"},
    )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.missing_images"))
