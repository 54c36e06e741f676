"""Appendix E.5 of the paper: the time to extract features and to write summaries, and when it has paid."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import torch

from bench.frames.preparation import (
    ABOUT,
    BREAK_EVEN,
    EXPERIMENT,
    KINDS,
    VERSION,
    break_even,
    preparation_frame,
)
from bench.frames.selection import latest
from bench.harness.bench import Bench
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome
from bench.store.provenance import machine
from illmrec.command_line import run
from illmrec.errors import InputError, UnsupportedError, nearest
from illmrec.features.sources import local_folder
from illmrec.features.text import text_features
from illmrec.features.vision import image_features

logger = logging.getLogger(__name__)


def main(settings: Settings, *, kinds: tuple[str, ...] = KINDS) -> int:
    """Tell how long image, text and CF features and summaries took to make, an item and in all (Appendix E.5).

    What is in the cache keeps the time that it took there, interrupted runs included, with device, threads and date;
    the rest is made now. Loading encoders and LLM is not part of it. Where bench.efficiency has timed this LLM on this
    data, it also says from how many requests on I-LLMRec, extraction of images and inference together, takes less time
    than each other method, writing of summaries and inference together; with --price-per-hour or --instance also from
    how many users on it costs less. Writes tables/preparation.csv and tables/break_even.csv under --out.

    Args:
        settings: Data, encoders and LLM.
        kinds: Some of image, text, cf, summary.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"--kinds {kind}: {nearest(kind, KINDS)}")
    if not kinds:
        raise InputError(f"--kinds: give at least one of {', '.join(KINDS)}")
    bench = Bench(ABOUT, settings)
    workspace = bench.workspace
    records = bench.run(
        [preparation_cell(workspace, kind) for kind in KINDS if kind in kinds],
        compute_preparation(workspace),
        work=lambda cell: Work(summaries=cell.method == "summary"),
    )
    table = preparation_frame(records)
    bench.write(table)
    shown = table.drop(columns=["dataset", "fingerprint"])
    bench.show(shown, f"Preparation of {workspace.dataset.name}, in seconds")
    here = [
        record
        for record in latest(bench.store.records("efficiency"), "efficiency")
        if record.config["dataset"]["fingerprint"] == workspace.dataset.fingerprint
        and record.config["llm"] == workspace.backbone.describe()
        and record.config["device"] == workspace.device
        and record.config["machine"] == machine()
    ]
    pricing = bench.settings.pricing()
    paid = break_even(table, sorted(here, key=lambda record: record.created), pricing=pricing)
    bench.write(paid, "break_even")
    if paid.empty:
        logger.info("no timings of I-LLMRec and another method to compare with: run bench.efficiency first")
    else:
        shown = paid if pricing.hourly is not None else paid[list(BREAK_EVEN[:9])]
        bench.show(shown, "Requests from which on I-LLMRec takes less time in all, and more")
    return bench.finish()


def preparation_cell(workspace: Workspace, kind: str) -> Cell:
    """Return the cell of a kind of preparation: everything that its time depends on."""
    dataset = workspace.dataset
    config: dict[str, Any] = {
        "method": kind,
        "seed": 0,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "device": workspace.device,
        "machine": machine(),
        "threads": torch.get_num_threads(),
    }
    if kind == "cf":
        config["cf"] = workspace.described_recbole("sasrec")
    elif kind == "summary":
        config["summarizer"] = workspace.summarizer
    else:
        config["encoder"] = workspace.encoder_identities((kind,))[kind]
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config=config,
        method=kind,
        seed=0,
        dataset=dataset.statistics(),
        label=f"preparation of {kind}",
    )


def compute_preparation(workspace: Workspace) -> Callable[[Cell], Outcome]:
    """Return the function that finds, or measures, how long a kind of preparation takes."""

    def compute(cell: Cell) -> Outcome:
        kind = cell.method
        made = _summaries(workspace) if kind == "summary" else _features(workspace, kind)
        return Outcome(results={"kind": kind, **made})

    return compute


def _features(workspace: Workspace, kind: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"device": workspace.device, "progress": workspace.settings.progress}
    if kind == "cf":
        table = workspace.features(("cf",), seed=0)[0]["cf"]
    else:
        # The table itself: one in which substitutes stand for missing pictures has no time of its own.
        make = image_features if kind == "image" else text_features
        table = make(workspace.dataset, encoder=workspace.encoders[kind], **arguments)
    items, meta = int(table.present.sum()), table.meta
    if "seconds" not in meta:
        raise UnsupportedError(f"{kind} features: whoever made them did not note how long it took")
    seconds = float(meta["seconds"])  # type: ignore[arg-type]
    return {
        "encoder": _shown(str(meta["encoder"])),
        "items": items,
        "seconds": seconds,
        "seconds_per_item": seconds / items if items else 0.0,
        **{name: meta.get(name) for name in ("device", "threads", "finished")},
    }


def _summaries(workspace: Workspace) -> dict[str, Any]:
    report = workspace.summary_report
    # Who wrote those that came with the data did not say how long it took.
    items = report.items - report.given
    if not items:
        raise UnsupportedError("all summaries came with the data, so that there is no time to tell")
    return {
        "encoder": report.summarizer or _shown(workspace.settings.llm),
        "items": items,
        "seconds": report.seconds,
        "seconds_per_item": report.seconds / items,
    }


def _shown(name: str) -> str:
    """Return an encoder's name as readers see it: of a folder its own name alone."""
    folder = local_folder(name)
    return name if folder is None else folder.resolve().name


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.preparation"))
