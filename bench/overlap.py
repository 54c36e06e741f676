"""Figures 1(c), 8, 9 and Table 5 of the paper: how far pictures say what descriptions say, and what that is worth."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.changes.changed_images import images_of
from bench.changes.similarity import FOLDS, TOWER, measured_by, pair_similarities
from bench.frames.overlap import ABOUT, EXPERIMENT, SCORES, accuracy_frame, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench, sampled_means
from bench.harness.methods import check_llm_methods
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome
from illmrec.command_line import run
from illmrec.data.toyshop import DEFAULT_OVERLAP
from illmrec.errors import InputError
from illmrec.features.identity import encoder_identity
from illmrec.features.sources import check_name, encoder_version
from illmrec.features.vision import EMBEDDED

logger = logging.getLogger(__name__)

VERSION = 3


def main(
    settings: Settings,
    *,
    encoders: tuple[str, ...] = (),
    overlaps: tuple[float, ...] = (0.0, 0.5, 1.0),
    methods: tuple[str, ...] = ("illmrec", "illmrec+", "tallrec", "trsr", "full-description"),
) -> int:
    """Measure how alike items' pictures and descriptions are, and on toyshop what that is worth in accuracy.

    The cosine of each item's picture with its own description is put beside that with the description of another item
    of its category (Figures 1(c) and 8, Table 5), for each vision encoder, and beside that with any other item's; where
    no other item has the category, any other item's stands for both. SigLIP's sigmoid score of the pairs is added
    (Figure 9). On toyshop the overlap of pictures and descriptions is a knob: methods are trained and evaluated at each
    value. Writes tables/overlap.csv and, on toyshop, tables/overlap_accuracy.csv.

    Args:
        settings: Data, model and training.
        encoders: Vision encoders; that of --vision by default. CLIP and SigLIP embed descriptions themselves; for
            an encoder without a text tower a ridge map is evaluated on items held out of its fit.
        overlaps: toyshop only: values of the knob, 0 to 1; empty measures cosines alone.
        methods: LLM methods to train at each value.
    """
    names = check_llm_methods(methods, why="show items, by picture or by text")
    chosen = list(dict.fromkeys(encoders or (settings.vision,)))
    for encoder in chosen:
        check_name(encoder, embedded=EMBEDDED, kind="vision")
    if not all(0 <= overlap <= 1 for overlap in overlaps):
        raise InputError("--overlaps: give numbers from 0 (nothing seen) to 1 (everything seen)")
    bench = Bench(ABOUT, settings)
    places = workspaces(bench, overlaps)
    for place in places:
        images_of(place.dataset, experiment=EXPERIMENT)
    pairs = {
        cell.key: (place, encoder, cell)
        for seed in bench.settings.seeds
        for place in places
        for encoder in chosen
        for cell in [similarity_cell(place, encoder, seed=seed)]
    }
    # Cosines take moments: they are there before anything is trained.
    records = bench.run(
        [cell for *_, cell in pairs.values()],
        lambda cell: compute_similarity(*pairs[cell.key]),
        place_of=lambda cell: pairs[cell.key][0],
        work=lambda cell: Work(pictures=pairs[cell.key][0].dataset.n_items),
    )
    knob = settings.dataset == "toyshop" and bool(overlaps)
    if knob:
        for place in places[1:]:
            place.backbone = places[0].backbone  # one LLM for all: it does not depend on the data
        records += bench.accuracy(
            (place, accuracy_cell(place, name, seed=seed))
            for seed in bench.settings.seeds
            for place in places
            for name in names
        )
    cosines = frame(records, bench.store)
    bench.write(cosines)
    described = ["dataset", "encoder", "measured_by", "seed", "items"]
    scores = [name for name in SCORES if cosines[name].notna().any()]
    bench.show(
        cosines[[*described, "matched", "shuffled", "matched_above_shuffled", "shuffled_any", *scores]],
        "Cosine of pictures and descriptions (paper: Figures 1(c), 8 and 9, Table 5)",
    )
    if knob:
        accuracy = accuracy_frame(records, bench.store)
        bench.write(accuracy, "overlap_accuracy")
        means = sampled_means(accuracy, ["method", "overlap"], ["prompt_tokens", "hit@10", "ndcg@10"])
        bench.show(means, "Accuracy by overlap of pictures and descriptions, toyshop")
    return bench.finish()


def workspaces(bench: Bench, overlaps: Sequence[float]) -> list[Workspace]:
    """Return a workspace for each value of toyshop's knob, or one for other data.

    Args:
        bench: The run.
        overlaps: Values of the knob; none leaves the data as the settings have them.
    """
    settings = bench.settings
    if settings.dataset != "toyshop" and overlaps:
        logger.info("%s has no overlap knob, only toyshop has: cosines alone are measured", settings.dataset)
    if settings.dataset != "toyshop" or not overlaps:
        return [bench.workspace]
    return [bench.load(replace(settings, overlap=overlap)) for overlap in sorted(set(overlaps))]


def similarity_cell(workspace: Workspace, encoder: str, *, seed: int) -> Cell:
    """Return the cell of the cosines of a data set under a vision encoder."""
    settings, dataset = workspace.settings, workspace.dataset
    by = measured_by(encoder)
    toyshop = settings.dataset == "toyshop"
    given = settings.overlap
    family = {name: getattr(settings, name) for name in ("max_users", "min_interactions", "users", "items")}
    # Not a path: a folder is a family of its own, wherever it is.
    family["name"] = settings.dataset if toyshop else dataset.fingerprint
    identity = encoder_identity(encoder, kind="vision")
    config: dict[str, Any] = {
        "method": identity,
        "seed": seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "version": encoder_version(encoder, EMBEDDED),
        "measured_by": by,
        "text": None
        if by == TOWER
        else {
            "encoder": encoder_identity(settings.text, kind="text"),
            "folds": FOLDS,
        },
        "overlap": (DEFAULT_OVERLAP if given is None else given) if toyshop else None,
        "family": family,
    }
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config=config,
        method=identity,
        seed=seed,
        dataset=dataset.statistics(),
        label=f"{dataset.name} {encoder} seed {seed}",
    )


def compute_similarity(workspace: Workspace, encoder: str, cell: Cell) -> Outcome:
    """Measure the cosines of a cell under a vision encoder."""
    found = pair_similarities(
        workspace.dataset,
        encoder=encoder,
        text_encoder=workspace.settings.text,
        seed=cell.seed,
        device=workspace.device,
        progress=workspace.settings.progress,
    )
    results: dict[str, Any] = {"items": len(found), "same_category": found["same_category"].sum()}
    for name in ("matched", "shuffled", "shuffled_any"):
        values = found[name].to_numpy()
        results |= {name: values.mean(), f"stderr_{name}": values.std(ddof=1) / np.sqrt(len(values))}
    results["matched_above_shuffled"] = (found["matched"] > found["shuffled"]).mean()
    if SCORES[0] in found:
        results |= {name: found[name].mean() for name in SCORES}
        results["median_matched_score"] = found[SCORES[0]].median()
    logger.info(
        "%s: cosine %.3f, with another description of the category %.3f",
        cell.label,
        results["matched"],
        results["shuffled"],
    )
    return Outcome(results=results, frames={"similarities": found})


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.overlap"))
