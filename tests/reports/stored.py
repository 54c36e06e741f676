"""Cells as the experiments write them, made without running them, and what a report says of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from bench.frames import backbones
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


def trained(filler, ndcg: float, *, seeds=(0, 1, 2, 3, 4), variant=None, **changes: Any) -> list[Record]:
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
    """Return the claims of the first section by name: comparisons among sampled candidates, or without any."""
    data = claims_exhibit(section_of(filler)).tables[0].data.set_index("claim")
    return data[data["candidates"] != "full"]


def table(filler, name: str) -> pd.DataFrame:
    """Return the data of a table that a report has written."""
    return pd.read_csv(filler.store.out / "tables" / f"{name}.csv")


def similarities(**scores: float) -> pd.DataFrame:
    """Return cosines of fifty items; the own description is mostly the closer one."""
    random = np.random.default_rng(5)
    pairs = {"matched": random.normal(0.5, 0.1, 50), "shuffled": random.normal(0.1, 0.1, 50)}
    return pd.DataFrame({"item": range(50), **pairs, "same_category": True, **scores})


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


def grid(filler) -> dict[tuple[str, str], list[Record]]:
    """Store four places of the grid of LLMs and vision encoders."""
    places = {
        ("small", "efficientnet-lite0"): (SMALL, 0.30, 1.0e7),
        ("large", "efficientnet-lite0"): (LARGE, 0.36, 1.3e8),
        ("large", "google/siglip-x"): (LARGE, 0.40, 1.3e8),
        ("large", "openai/clip-y"): (LARGE, 0.37, 1.3e8),
    }
    stored = {}
    for (size, vision), (llm, ndcg, parameters) in places.items():
        encoders = {"image": vision, "text": "wordvec"}
        own = (llm, vision) == (LARGE, "efficientnet-lite0")
        variant = None if own else {"kind": "backbones", "llm": llm["layers"], "vision": vision}
        stored[size, vision] = trained(filler, ndcg, llm=llm, encoders=encoders, variant=variant)
        costs = dict.fromkeys(backbones.COSTS, 1.0)
        costs |= {"llm_parameters": parameters, "latency_ms_median": 1e-7 * parameters}
        config = {"method": "illmrec", "llm": llm, "encoders": encoders}
        filler.write("backbones", config, costs)
    return stored


def noisy_and_clean(
    filler, reach: str
) -> tuple[dict[str, list[Record]], dict[tuple[str, float], list[Record]]]:
    """Store methods on clean descriptions, and the full description on noisy ones."""
    clean = {
        method: trained(filler, 0.4, method=method) for method in ("illmrec", "full-description", "tallrec")
    }
    noisy = {
        (kind, level): noise(filler, "full-description", 0.4 - 0.15 * level, kind, level, reach)
        for kind in ("html", "boilerplate")
        for level in (0.5, 1.0)
    }
    if reach == "everything":
        for kind in ("html", "boilerplate"):
            noise(filler, "illmrec", 0.39, kind, 1.0, reach)
    return clean, noisy


def low_resolution(filler) -> dict[str, tuple[list[Record], ...]]:
    """Store two feature sets on pictures as they are, of low resolution and as thumbnails."""
    sets = {"image": ["image"], "all": ["image", "cf", "text"]}
    stored = {
        name: (
            trained(filler, high, features=features),
            quality(filler, low, "low-resolution", None, features),
            quality(filler, 0.1, "resolution", 16.0, features),
        )
        for (name, features), high, low in zip(sets.items(), (0.36, 0.40), (0.28, 0.40), strict=True)
    }
    return stored


def cosines(filler) -> pd.DataFrame:
    """Store similarities with SigLIP's scores."""
    trained(filler, 0.4)
    random = np.random.default_rng(5)
    pairs = pd.DataFrame(
        {
            "item": range(200),
            "matched": random.normal(0.3, 0.05, 200),
            "shuffled": random.normal(0.1, 0.05, 200),
            "same_category": np.arange(200) % 10 > 0,
            "matched_score": random.uniform(0.8, 1, 200),
            "shuffled_score": random.uniform(0, 0.2, 200),
        }
    )
    results = {"items": 200, "matched_above_shuffled": 0.9, "median_matched_score": 0.9} | {
        name: pairs[name].mean() for name in ("matched", "shuffled", "matched_score", "shuffled_score")
    }
    results |= dict.fromkeys(("stderr_matched", "stderr_shuffled", "stderr_shuffled_any"), 0.01)
    results |= {"same_category": int(pairs["same_category"].sum()), "shuffled_any": 0.05}
    config = {"overlap": None, "family": None, "measured_by": "text tower"}
    filler.write("overlap", {"method": "google/siglip", **config}, results, {"similarities": pairs})
    return pairs


def _serving(filler, ndcg: float, trained_items: int, served_items: int) -> None:
    for seed in range(5):
        ranks = filler.ranks(ndcg, seed).assign(target_is_new=np.arange(400) % 4 == 0)
        costs = dict.fromkeys(
            ("index_seconds", "peak_memory_mb", "projected_bytes_per_item", "model_bytes"), 1.0
        )
        results = {
            "users": 400, "users_per_second": 20.0, "feature_bytes_per_item": 3400, **costs,
            "sampled": metrics.summarise(ranks["rank_sampled"].to_numpy()),
        }  # fmt: skip
        places = {
            role: {"share": items / 1000, "items": items, "fingerprint": f"{items}"}
            for role, items in (("trained", trained_items), ("served", served_items))
        }
        config = {"method": "illmrec", "seed": seed, "llm": LARGE, "features": ["image", "text"], **places}
        filler.write("catalogue_growth", config, results, {"ranks": ranks})


def growing(filler) -> None:
    """Store models of three sizes that serve catalogues of three sizes."""
    trained(filler, 0.4)
    for sizes, ndcg in {
        (500, 500): 0.4, (750, 750): 0.42, (1000, 1000): 0.44,
        (500, 750): 0.38, (500, 1000): 0.2, (750, 1000): 0.40,
    }.items():  # fmt: skip
        _serving(filler, ndcg, *sizes)
