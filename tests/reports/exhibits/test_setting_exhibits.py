"""Exhibits and claims on training strategies, backbones, noise, pictures and growing catalogues."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.frames import backbones
from bench.protocol import metrics
from bench.store.cell import Record
from illmrec.files import hash_json
from reports.claims.claims import FAILS, HOLDS, UNTESTED, claims_exhibit
from reports.evidence.paired import Ranks
from reports.exhibits.curves import Source
from reports.exhibits.exhibits import Exhibit, Gap
from reports.exhibits.growth_exhibit import growth_exhibits
from reports.exhibits.picture_exhibits import figure_types_exhibit, overlap_exhibits, quality_exhibits
from reports.exhibits.robustness import robustness_exhibits
from reports.exhibits.strategy_exhibits import backbone_exhibits, strategy_exhibits
from reports.exhibits.sweeps import sweep_exhibits
from reports.sections.methods import method_styles
from reports.sections.results import read_sections, read_store

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


def source_of(filler) -> Source:
    records = read_store(filler.store)
    section = read_sections(records)[0]
    styles = method_styles(record.method for record in records)
    return Source(section=section, records=records, store=filler.store, styles=styles, suffix="")


def drawn(exhibit) -> dict[str, bytes]:
    assert isinstance(exhibit, Exhibit) and exhibit.figure is not None
    files = exhibit.figure.files(["png"])
    with Image.open(io.BytesIO(files["png"])) as picture:
        assert picture.width > 600
    return files


def mean(records: list[Record], metric: str = "ndcg@10") -> float:
    return float(np.mean([record.results["sampled"][metric] for record in records]))


def verdicts(filler) -> pd.DataFrame:
    source = source_of(filler)
    shown = claims_exhibit(source.section, source.records, source.styles, "", Ranks(filler.store))
    return shown.tables[0].data.set_index("claim")


def strategies(filler) -> dict[str, list[Record]]:
    def cells(ndcg: float, strategy: str, **options: Any) -> list[Record]:
        variant = {"kind": "training-strategy", "strategy": strategy}
        return trained(filler, ndcg, variant=variant, training={"strategy": strategy, "epochs": 3}, **options)

    return {
        "frozen": trained(filler, 0.35, seconds=10.0, parameters=100),
        "lora": cells(0.40, "lora", seconds=25.0, parameters=900),
        "two-stage": cells(0.35, "two-stage", seconds=12.0, parameters=100),
    }


def test_strategies_stand_beside_the_papers(filler) -> None:
    stored = strategies(filler)
    exhibit = strategy_exhibits(source_of(filler))[0]
    drawn(exhibit)
    points, table = (table.data for table in exhibit.tables)
    assert points.set_index("series")["cost"].to_dict() == {"frozen": 10, "lora": 25, "two-stage": 12}
    rows = table.set_index("strategy")
    assert rows.at["LoRA", "ndcg@5"] == pytest.approx(mean(stored["lora"], "ndcg@5"))
    assert rows.at["LoRA", "trained_parameters"] == 900
    # As printed: Table 3 for LoRA, Table 10 for two stages, the same run in both for the frozen LLM.
    assert rows["paper_sport_ndcg@5"].tolist() == [0.3711, 0.3772, 0.3747]
    gain = mean(stored["lora"]) - mean(stored["frozen"])
    assert f"LoRA {gain:+.4f} at 2.5 times the training time" in exhibit.reading
    table = verdicts(filler)
    assert table.at["lora-gains", "verdict"] == HOLDS
    assert table.at["lora-gains", "estimate"] == pytest.approx(gain)
    assert table.at["two-stages-gain-nothing", "verdict"] == HOLDS


def test_a_strategy_is_compared_with_a_model_that_was_trained_as_long(filler) -> None:
    strategies(filler)
    newer = trained(filler, 0.9, training={"epochs": 30})
    assert mean(newer) > 0.7
    table = verdicts(filler)
    assert table.at["lora-gains", "verdict"] == HOLDS


def test_one_strategy_is_a_gap(filler) -> None:
    trained(filler, 0.35)
    shown = strategy_exhibits(source_of(filler))[0]
    assert isinstance(shown, Gap) and "bench.training_strategy" in shown.command


def test_backbones(filler) -> None:
    grid = {
        ("small", "efficientnet-lite0"): (SMALL, 0.30, 1.0e7),
        ("large", "efficientnet-lite0"): (LARGE, 0.36, 1.3e8),
        ("large", "google/siglip-x"): (LARGE, 0.40, 1.3e8),
        ("large", "openai/clip-y"): (LARGE, 0.37, 1.3e8),
    }
    stored = {}
    for (size, vision), (llm, ndcg, parameters) in grid.items():
        encoders = {"image": vision, "text": "wordvec"}
        own = (llm, vision) == (LARGE, "efficientnet-lite0")
        variant = None if own else {"kind": "backbones", "llm": llm["layers"], "vision": vision}
        stored[size, vision] = trained(filler, ndcg, llm=llm, encoders=encoders, variant=variant)
        costs = dict.fromkeys(backbones.COSTS, 1.0)
        costs |= {"llm_parameters": parameters, "latency_ms_median": 1e-7 * parameters}
        config = {"method": "illmrec", "llm": llm, "encoders": encoders}
        filler.write("backbones", config, costs)
    source = source_of(filler)
    assert source.section.llm == "smollm2-135m (30 layers)"
    exhibit = backbone_exhibits(source, source.records)[0]
    drawn(exhibit)
    table = exhibit.tables[1].data
    assert len(table) == 4 + 4 and table["paper_art_hit@5"].notna().sum() == 4
    best = table.sort_values("ndcg@10", ascending=False).iloc[0]
    assert (best["llm"], best["vision_encoder"]) == ("smollm2-135m (30 layers)", "siglip-x")
    assert best["ndcg@10"] == pytest.approx(mean(stored["large", "google/siglip-x"]))
    claims = verdicts(filler)
    assert claims.at["larger-llm", "verdict"] == HOLDS and claims.at["siglip-over-clip", "verdict"] == HOLDS
    difference = mean(stored["large", "efficientnet-lite0"]) - mean(stored["small", "efficientnet-lite0"])
    assert claims.at["larger-llm", "estimate"] == pytest.approx(difference)


def noise(filler, method: str, ndcg: float, kind: str, level: float, reach: str) -> list[Record]:
    variant = {
        "kind": "noisy-descriptions", "noise": kind, "level": level, "reach": reach, "summaries": "",
        "noise_seed": 0,
    }  # fmt: skip
    return trained(filler, ndcg, method=method, variant=variant)


@pytest.mark.parametrize("reach", ["prompt", "everything"])
def test_noise_in_descriptions(filler, reach: str) -> None:
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
    figure5, lines = robustness_exhibits(source_of(filler))
    drawn(figure5)
    drawn(lines)
    bars = figure5.tables[0].data.set_index("method")["mean"]
    assert bars["tallrec"] == pytest.approx(mean(clean["tallrec"]))
    points = lines.tables[0].data
    described = points[points["series"] == "full-description"]
    assert described["x"].tolist() == [0, 0.5, 1] * 2
    assert described["mean"].iloc[2] == pytest.approx(mean(noisy["html", 1.0]))
    claims = verdicts(filler)
    both = claims.loc[["noise-costs-descriptions"]]
    assert set(both["verdict"]) == {HOLDS} and len(both) == 2
    assert set(claims.loc[["images-are-robust"], "verdict"]) == {HOLDS}
    loss = mean(clean["full-description"]) - mean(noisy["html", 1.0])
    assert both["estimate"].iloc[0] == pytest.approx(loss)


def test_full_descriptions_that_noise_does_not_hurt_fail_the_claim(filler) -> None:
    for method in ("illmrec", "full-description"):
        trained(filler, 0.4, method=method)
    for kind in ("html", "boilerplate"):
        noise(filler, "full-description", 0.45, kind, 1.0, "prompt")
    claims = verdicts(filler)
    assert set(claims.loc[["noise-costs-descriptions", "images-are-robust"], "verdict"]) == {FAILS}


def quality(filler, ndcg: float, degradation: str, amount: float | None, features: list[str]) -> list[Record]:
    variant = {"kind": "image-quality", "degradation": degradation, "amount": amount}
    return trained(filler, ndcg, variant=variant, features=features)


def test_low_resolution_in_the_form_of_table_9(filler) -> None:
    sets = {"image": ["image"], "all": ["image", "cf", "text"]}
    stored = {
        name: (
            trained(filler, high, features=features),
            quality(filler, low, "low-resolution", None, features),
            quality(filler, 0.1, "resolution", 16.0, features),
        )
        for (name, features), high, low in zip(sets.items(), (0.36, 0.40), (0.28, 0.40), strict=True)
    }
    exhibit = quality_exhibits(source_of(filler))[0]
    drawn(exhibit)
    table = exhibit.tables[1].data.set_index("row")
    assert table.index.tolist() == ["(a)", "(b)", "(c)", "(d)"]
    assert table["paper_sport_ndcg@5"].tolist() == [0.2936, 0.3403, 0.3597, 0.3711]
    assert table.at["(a)", "hit@5"] == pytest.approx(mean(stored["image"][1], "hit@5"))
    assert table.at["(d)", "ndcg@10"] == pytest.approx(mean(stored["all"][0]))
    claims = verdicts(filler)
    assert (
        claims.at["low-quality-alone", "verdict"]
        == claims.at["low-quality-beside-others", "verdict"]
        == HOLDS
    )
    assert "low resolution" in claims.at["low-quality-alone", "here"]


def test_low_resolution_alone_is_a_table(filler) -> None:
    trained(filler, 0.4)
    quality(filler, 0.4, "low-resolution", None, ["image", "cf", "text"])
    exhibit = quality_exhibits(source_of(filler))[0]
    assert isinstance(exhibit, Exhibit) and exhibit.figure is None
    assert exhibit.tables[0].data["seeds"].tolist() == [0, 0, 2, 2]


def test_without_own_small_pictures_the_smallest_thumbnails_are_compared(filler) -> None:
    trained(filler, 0.4, features=["image"])
    for side, ndcg in ((16.0, 0.2), (64.0, 0.45)):
        quality(filler, ndcg, "resolution", side, ["image"])
    claims = verdicts(filler)
    assert claims.at["low-quality-alone", "verdict"] == HOLDS
    assert "16 pixels" in claims.at["low-quality-alone", "here"]
    assert claims.at["low-quality-beside-others", "verdict"] == UNTESTED


def test_distributions_of_similarity(filler) -> None:
    trained(filler, 0.4)
    random = np.random.default_rng(5)
    pairs = pd.DataFrame(
        {
            "item": range(200),
            "matched": random.normal(0.3, 0.05, 200),
            "shuffled": random.normal(0.1, 0.05, 200),
            "matched_score": random.uniform(0.8, 1, 200),
            "shuffled_score": random.uniform(0, 0.2, 200),
        }
    )
    results = {"items": 200, "matched_above_shuffled": 0.9, "median_matched_score": 0.9} | {
        name: pairs[name].mean() for name in pairs.columns[1:]
    }
    results |= {"stderr_matched": 0.01, "stderr_shuffled": 0.01}
    config = {"overlap": None, "family": None, "measured_by": "text tower"}
    filler.write("overlap", {"method": "google/siglip", **config}, results, {"similarities": pairs})
    source = source_of(filler)
    (exhibit,) = overlap_exhibits(source, source.records)
    drawn(exhibit)
    counted, means = (table.data for table in exhibit.tables)
    assert set(counted["panel"]) == {"Cosine, siglip", "Sigmoid score, siglip"}
    own = counted[(counted["panel"] == "Cosine, siglip") & (counted["pair"] == "own")]
    edges = [*own["left"], own["right"].iloc[-1]]
    together = np.concatenate([pairs["matched"], pairs["shuffled"]])
    assert (edges[0], edges[-1]) == pytest.approx((together.min(), together.max()))
    np.testing.assert_allclose(own["share"] * 200, np.histogram(pairs["matched"], edges)[0], atol=1e-9)
    assert means["matched_score"].iloc[0] == pytest.approx(pairs["matched_score"].mean())
    assert "score of 0.90 or more" in exhibit.reading
    claims = verdicts(filler)
    assert claims.at["overlap", "verdict"] == HOLDS
    assert claims.at["overlap", "estimate"] == pytest.approx((pairs["matched"] - pairs["shuffled"]).mean())


def growth(filler, ndcg: float, trained_items: int, served_items: int) -> None:
    for seed in (0, 1):
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


def test_a_growing_catalogue(filler) -> None:
    trained(filler, 0.4)
    for sizes, ndcg in {
        (500, 500): 0.4, (750, 750): 0.42, (1000, 1000): 0.44,
        (500, 750): 0.38, (500, 1000): 0.2, (750, 1000): 0.40,
    }.items():  # fmt: skip
        growth(filler, ndcg, *sizes)
    exhibit = growth_exhibits(source_of(filler))[0]
    drawn(exhibit)
    points = exhibit.tables[0].data
    assert points[points["series"] == "retrained"]["x"].tolist() == [500, 750, 1000]
    assert points[points["series"] == "0.5"]["x"].tolist() == [500, 750, 1000]
    assert set(exhibit.tables[1].data["targets"]) == {"all", "old", "new"}
    assert "0.468, 0.463, 0.4701 and 0.5106" in exhibit.paper
    claims = verdicts(filler).loc[["older-models-serve"]]
    # The model of the size before, not the oldest one, is what the paper lets serve.
    assert set(claims["verdict"]) == {HOLDS} and len(claims) == 2
    assert claims["paper"].iloc[0].startswith("−20.1 % from 5K to 10K items")


def test_sheets_of_pictures_show_titles_as_text(filler) -> None:
    trained(filler, 0.4)
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(picture, "PNG")
    rows = [
        {
            "group": group, "users": 200, "place": place, "item_id": f"item-{place}",
            "title": f"<b>Mug</b> no. {place} $x_{{", "occurrences": 30, "frequency": 0.15,
            "other_frequency": 0.1, "lift": 1.5, "image": place < 3,
        }
        for group in ("hit", "missed")
        for place in (1, 2, 3)
    ]  # fmt: skip
    pictures = pd.DataFrame({"item_id": ["item-1", "item-2"], "png": [picture.getvalue()] * 2})
    config = {"method": "illmrec", "llm": LARGE, "candidates": "sampled", "cutoff": 10}
    frames = {"items": pd.DataFrame(rows), "thumbnails": pictures}
    filler.write("figure_types", config, {"hit": 200, "missed": 200}, frames)
    exhibit = figure_types_exhibit(source_of(filler))
    drawn(exhibit)
    assert len(exhibit.tables[0].data) == 6 and "3 are in both rows" in exhibit.reading
    assert "<b>Mug</b> no. 1" in exhibit.alt and exhibit.shows_items


def test_a_store_without_these_names_their_commands(filler) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), risa=True, features=("image", "cf", "text"))
    source = source_of(filler)
    shown = sweep_exhibits(source.section, source.records, source.styles, "", filler.store)
    commands = " ".join(gap.command for gap in shown if isinstance(gap, Gap))
    for name in ("robustness", "training_strategy", "backbones", "figure_types", "catalogue_growth"):
        assert f"bench.{name} " in commands


def test_the_front_at_each_length_of_history(filler) -> None:
    # By the fixture's latencies the image is faster than attributes, attributes than the summary.
    filler.efficiency(["illmrec", "tallrec", "trsr"], [5, 10])
    for method, ndcg in {"illmrec": 0.3, "tallrec": 0.25, "trsr": 0.4}.items():
        trained(filler, ndcg, method=method)
    source = source_of(filler)
    shown = sweep_exhibits(source.section, source.records, source.styles, "", filler.store)
    exhibit = next(entry for entry in shown if entry.title == "Figure 1(b) at each length of history")
    table = exhibit.tables[0].data.set_index(["method", "history_length"])["on_front"]
    assert table.to_dict() == {
        (method, length): method != "tallrec"
        for method in ("tallrec", "trsr", "illmrec")
        for length in (5, 10)
    }
    assert "I-LLMRec at every length" in exhibit.reading and "TALLRec" not in exhibit.reading
