"""Cells as the experiments write them, made without running them, and what a report says of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from bench.protocol import metrics
from bench.store.cell import Record
from illmrec.files import hash_json
from reports.build import read_report
from reports.claims.claims import claims_exhibit
from reports.exhibits.exhibit import Exhibit, Gap
from reports.sections.results import read_sections, read_store
from reports.sections.section import Section

FULL = {"risa": True, "features": ("image", "cf", "text")}
SMALL = {"name": "smollm2-135m", "layers": 3}
LARGE = {"name": "smollm2-135m", "layers": 30}


def trained(filler, ndcg: float, *, seeds=(0, 1), variant=None, **changes: Any) -> list[Record]:
    """Store accuracy cells of I-LLMRec as bench.harness.accuracy writes them.

    Args:
        filler: The store.
        ndcg: NDCG@10 among sampled candidates, about.
        seeds: One cell each.
        variant: What was changed.
        changes: Other options; seconds and parameters are results of the training.
    """
    training = {
        "seconds": changes.pop("seconds", 10.0),
        "parameters": changes.pop("parameters", 100),
        "targets": 50,
    }
    config: dict[str, Any] = {
        "method": "illmrec",
        "evaluation": {"users": None, "negatives": 100, "part": "test"},
        "risa": True,
        "features": ["image", "cf", "text"],
        "llm": LARGE,
        "encoders": {"image": "efficientnet-lite0", "text": "wordvec"},
        "history_length": 10,
        "context": None,
        "training": {"epochs": 3},
        **changes,
    }
    if variant:
        variant = {"of": filler.dataset["fingerprint"], **variant}
        # Only changed items change the fingerprint.
        changed = variant["kind"] not in ("training-strategy", "backbones")
        fingerprint = hash_json(variant) if changed else variant["of"]
        config["dataset"] = {**filler.dataset, "fingerprint": fingerprint, "variant": variant}
    written = []
    for seed in seeds:
        ranks = filler.ranks(ndcg, seed)
        results = {
            "users": len(ranks),
            "training": training,
            "prompt": {"tokens": 240.0, "dropped_items": 0.0, "dropped_tokens": 0.0},
            "sampled": metrics.summarise(ranks["rank_sampled"].to_numpy()),
            "full": metrics.summarise(ranks["rank_full"].to_numpy()),
        }
        written.append(filler.write("accuracy", {**config, "seed": seed}, results, {"ranks": ranks}))
    return written


def section_of(filler) -> Section:
    """Return the first section of a store."""
    return read_sections(read_store(filler.store), filler.store)[0]


def shown(filler, title: str) -> Exhibit | Gap:
    """Return the exhibit or gap of the page whose title begins so."""
    report = read_report(filler.store, read_store(filler.store), "python -m reports")
    (found,) = [item for shelf in report.shelves for item in shelf.shown if item.title.startswith(title)]
    return found


def drawn(exhibit) -> dict[str, bytes]:
    assert isinstance(exhibit, Exhibit) and exhibit.figure is not None
    files = exhibit.figure.files(["png"])
    with Image.open(io.BytesIO(files["png"])) as picture:
        assert picture.width > 600
    return files


def mean(records: list[Record], metric: str = "ndcg@10") -> float:
    return float(np.mean([record.results["sampled"][metric] for record in records]))


def verdicts(filler) -> pd.DataFrame:
    """Return the claims of the first section with their verdicts, by name."""
    return claims_exhibit(section_of(filler)).tables[0].data.set_index("claim")


def table(filler, name: str) -> pd.DataFrame:
    """Return the data of a table that a report has written."""
    return pd.read_csv(filler.store.out / "tables" / f"{name}.csv")


def similarities(**scores: float) -> pd.DataFrame:
    """Return cosines of fifty items; the own description is mostly the closer one."""
    random = np.random.default_rng(5)
    pairs = {"matched": random.normal(0.5, 0.1, 50), "shuffled": random.normal(0.1, 0.1, 50)}
    return pd.DataFrame({"item": range(50), **pairs, **scores})


def strategies(filler) -> dict[str, list[Record]]:
    def cells(ndcg: float, strategy: str, **options: Any) -> list[Record]:
        variant = {"kind": "training-strategy", "strategy": strategy}
        return trained(filler, ndcg, variant=variant, training={"strategy": strategy, "epochs": 3}, **options)

    return {
        "frozen": trained(filler, 0.35, seconds=10.0, parameters=100),
        "lora": cells(0.40, "lora", seconds=25.0, parameters=900),
        "two-stage": cells(0.35, "two-stage", seconds=12.0, parameters=100),
    }


def noise(filler, method: str, ndcg: float, kind: str, level: float, reach: str) -> list[Record]:
    variant = {
        "kind": "noisy-descriptions", "noise": kind, "level": level, "reach": reach, "summaries": "",
        "noise_seed": 0,
    }  # fmt: skip
    return trained(filler, ndcg, method=method, variant=variant)


def quality(filler, ndcg: float, degradation: str, amount: float | None, features: list[str]) -> list[Record]:
    variant = {"kind": "image-quality", "degradation": degradation, "amount": amount}
    return trained(filler, ndcg, variant=variant, features=features)
