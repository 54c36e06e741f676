"""Experiments on changed items: missing and degraded pictures, and how alike pictures and descriptions are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from vision_models import save_model

from baselines.image_prompts import ImageOrTitle
from bench import image_quality, missing_images, overlap
from bench.changes.changed_images import DegradedImages, with_images
from bench.changes.similarity import (
    cosines,
    derangement,
    folds,
    held_out,
    others_of_category,
    others_of_fold,
    pair_similarities,
)
from bench.frames import image_quality as quality_frame
from bench.frames import missing_images as missing_frame
from bench.frames import overlap as overlap_frame
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.missing_images import masked, removed_items, zero_filled
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.data import load_dataset
from illmrec.data.images import KeptImages
from illmrec.features.table import FeatureTable
from illmrec.model.heads import unit_mean_square
from illmrec.prompts.segments import ImageRepresentation, Slot

SMALL = ["--preset", "smoke", "--max-steps", "2", "--no-progress", "--no-report"]


@pytest.fixture(scope="module")
def toyshop():
    return load_dataset("toyshop", users=40, items=40)


def detail(image: Image.Image) -> float:
    """Mean square of the differences of neighbouring pixels, of the picture at 224 pixels."""
    pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float64)
    return float((np.diff(pixels, axis=0) ** 2).mean() + (np.diff(pixels, axis=1) ** 2).mean())


@pytest.mark.parametrize("seed", [0, 7])
def test_removal_is_nested_deterministic_and_of_images_only(seed):
    available = np.random.default_rng(1).random(200) < 0.7
    before = np.zeros(200, dtype=bool)
    for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
        removed = removed_items(available, fraction=fraction, seed=seed)
        assert removed.sum() == round(fraction * available.sum())
        assert not (removed & ~available).any() and not (before & ~removed).any()
        np.testing.assert_array_equal(removed, removed_items(available, fraction=fraction, seed=seed))
        before = removed
    other = removed_items(available, fraction=0.5, seed=seed + 1)
    assert (other != removed_items(available, fraction=0.5, seed=seed)).any()


def test_masking_keeps_rows_and_zeros_stay_finite_in_the_model():
    values = np.random.default_rng(0).normal(3, 1, size=(12, 5)).astype(np.float32)
    table = FeatureTable(values=values, present=np.arange(12) != 4, key="a" * 16, meta={})
    kept = np.arange(12) % 3 > 0
    left = masked(table, kept)
    np.testing.assert_array_equal(left.present, kept & (np.arange(12) != 4))
    np.testing.assert_array_equal(left.values[left.present], values[left.present])
    filled = zero_filled(left)
    assert filled.present.all() and (filled.values[~left.present] == 0).all()
    assert len({table.key, left.key, filled.key}) == 3
    assert masked(table, ~kept).key != left.key
    tensor = torch.from_numpy(filled.values)
    seen = unit_mean_square(tensor, tensor.mean(dim=0))
    torch.testing.assert_close((seen**2).mean(dim=1), torch.ones(12))
    absent = seen[torch.from_numpy(~left.present)]
    torch.testing.assert_close(absent, absent[:1].expand_as(absent))
    nothing = zero_filled(masked(table, np.zeros(12, dtype=bool)))
    tensor = torch.from_numpy(nothing.values)
    assert (unit_mean_square(tensor, tensor.mean(dim=0)) == 0).all()


def test_a_dropped_slot_leaves_neither_slot_nor_description():
    item = {"title": "Red mug", "description": "A long story"}
    without = ImageOrTitle().render(item, frozenset())
    assert not any(isinstance(segment, Slot) for segment in without)
    assert "story" not in "".join(segment.text for segment in without)
    with_image = frozenset({"image"})
    assert ImageOrTitle().render(item, with_image) == ImageRepresentation().render(item, with_image)


def test_removed_pictures_are_gone_and_change_the_fingerprint(toyshop):
    kept = np.arange(toyshop.n_items) >= 3
    changed = with_images(toyshop, KeptImages(source=toyshop.images, kept=kept))
    assert changed.statistics()["images"] == pytest.approx(1 - 3 / toyshop.n_items, abs=1e-4)
    assert changed.fingerprint != toyshop.fingerprint and changed.sequence_items is toyshop.sequence_items
    assert changed.images.read(3).tobytes() == toyshop.images.read(3).tobytes()
    with pytest.raises(missing_images.InputError, match="item row 2 has no image"):
        changed.images.read(2)


@pytest.mark.parametrize(
    ("kind", "worse", "better"), [("resolution", 16, 64), ("jpeg", 2, 60), ("blur", 8, 2)]
)
def test_degraded_pictures_lose_detail_and_are_the_same_each_time(toyshop, kind, worse, better):
    source = toyshop.images
    low = DegradedImages(source=source, kind=kind, amount=worse)
    high = DegradedImages(source=source, kind=kind, amount=better)
    assert len({source.fingerprint, low.fingerprint, high.fingerprint}) == 3
    assert low.fingerprint == DegradedImages(source=source, kind=kind, amount=worse).fingerprint
    np.testing.assert_array_equal(low.available, source.available)
    for item in range(4):
        original, bad, good = (images.read(item) for images in (source, low, high))
        assert bad.mode == "RGB" and bad.tobytes() == low.read(item).tobytes()
        assert max(bad.size) == (worse if kind == "resolution" else max(original.size))

        def error(image: Image.Image, original: Image.Image = original) -> float:
            resized = np.asarray(image.resize(original.size, Image.Resampling.BICUBIC), dtype=np.float64)
            return float(((resized - np.asarray(original, dtype=np.float64)) ** 2).mean())

        assert error(bad) > error(good) > 0
        if kind != "jpeg":  # blocks have edges of their own
            assert detail(bad) < detail(good) < detail(original)


def test_thumbnails_keep_the_aspect_and_are_never_enlarged():
    class Wide:
        available, fingerprint = np.ones(1, dtype=bool), "0" * 16

        def read(self, item: int) -> Image.Image:
            return Image.new("RGB", (120, 60), "red")

    assert DegradedImages(source=Wide(), kind="resolution", amount=40).read(0).size == (40, 20)
    assert DegradedImages(source=Wide(), kind="resolution", amount=400).read(0).size == (120, 60)
    for kind, amount in (("jpeg", 0), ("jpeg", 96), ("blur", 0), ("resolution", 1.5), ("noise", 1)):
        with pytest.raises(ValueError, match=kind):
            DegradedImages(source=Wide(), kind=kind, amount=amount)


def test_cosines_equal_brute_force_and_shuffled_pairs_never_match():
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 9, 6)).astype(np.float32)
    one[4] = 0
    expected = [
        0 if i == 4 else float(a @ b / np.sqrt((a @ a) * (b @ b)))
        for i, (a, b) in enumerate(zip(one.astype(float), other.astype(float), strict=True))
    ]
    np.testing.assert_allclose(cosines(one, other), expected, atol=1e-12)
    for n in (2, 3, 50):
        shuffled = derangement(n, seed=1)
        assert sorted(shuffled) == list(range(n)) and (shuffled != np.arange(n)).all()


@pytest.mark.parametrize("seed", [0, 7])
def test_other_descriptions_are_of_the_same_category_where_there_is_another(seed):
    names = np.array(["mug", "lamp ", "lone", "", "mug", "lamp", "", "mug", "chair", " chair"])
    other, same, together = others_of_category(names.tolist(), seed=seed)
    assert same.tolist() == [True, True, False, False, True, True, False, True, True, True]
    assert (other != np.arange(10)).all() and (together[other] == together).all()
    kinds = np.where(same, np.char.strip(names), "")
    assert (kinds[other] == kinds).all()
    for kind in ("mug", "lamp", "chair", ""):  # each is once the other of its category, or of those without
        members = np.flatnonzero(kinds == kind)
        assert sorted(other[members]) == members.tolist() and len(set(together[members])) == 1
    large = np.random.default_rng(1).integers(0, 40, 3001).astype(str)
    drawn = [others_of_category(large.tolist(), seed=s) for s in (0, 1)]
    for found, of_category, groups in drawn:
        assert of_category.all() and (large[found] == large).all() and (found != np.arange(3001)).all()
        assert set(np.bincount(groups)) == {2, 3} and (groups[found] == groups).all()
    assert (drawn[0][0] != drawn[1][0]).mean() > 0.9
    # One alone goes with an item that has others, and is held out with it.
    other, same, together = others_of_category(["mug", "mug", "lone"], seed=seed)
    assert same.tolist() == [True, True, False] and other[:2].tolist() == [1, 0]
    assert other[2] in (0, 1) and together.tolist() == [0, 0, 0]
    other, same, _ = others_of_category([""] * 5, seed=seed)
    assert not same.any() and sorted(other) == list(range(5)) and (other != np.arange(5)).all()


def test_others_of_any_category_are_held_out_together():
    fold = folds(np.arange(50) // 2, seed=3)
    other = others_of_fold(fold, seed=3)
    assert sorted(other) == list(range(50)) and (fold[other] == fold).all() and (other != np.arange(50)).all()


def test_a_map_that_knows_the_category_alone_makes_no_difference_within_it():
    rng = np.random.default_rng(2)
    kinds = rng.integers(0, 30, 300)
    texts = np.eye(30)[kinds] + 0.1 * rng.normal(size=(300, 30))
    images = rng.normal(size=(30, 20))[kinds] + rng.normal(size=(300, 20))
    other, same, together = others_of_category(kinds.astype(str).tolist(), seed=0)
    assert same.all()
    fold = folds(together, seed=0)
    seen, mapped = held_out(images, texts, fold=fold)
    matched, shuffled = (cosines(seen, mapped[rows]) for rows in (np.arange(300), other))
    of_any = cosines(seen, mapped[others_of_fold(fold, seed=0)])
    assert abs((matched - shuffled).mean()) < 0.02 and (matched - of_any).mean() > 0.3


def test_held_out_maps_find_a_signal_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(200, 8)).astype(np.float32)
    images = texts @ rng.normal(size=(8, 30)) + 5
    fold = folds(np.arange(200) // 2, seed=0)
    assert (fold[::2] == fold[1::2]).all() and np.bincount(fold).tolist() == [40] * 5
    matched = cosines(*held_out(images, texts, fold=fold))
    assert matched.min() > 0.99
    noise = cosines(*held_out(rng.normal(size=(200, 30)) + 5, texts, fold=fold))
    assert abs(noise.mean()) < 0.1  # fitted on the items themselves it would be far above


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_only_siglip_scores_pairs(kind, toyshop, tmp_path):
    folder = save_model(tmp_path / kind, kind)
    options = {"encoder": str(folder), "text_encoder": "unused", "seed": 3, "progress": False}
    pairs = pair_similarities(toyshop, **options)
    assert len(pairs) == toyshop.n_items
    categories = toyshop.items["category"].to_numpy()[pairs["item"]]
    alone = [(categories == category).sum() == 1 for category in categories]
    np.testing.assert_array_equal(pairs["same_category"], np.logical_not(alone))
    settings = Settings(users=40, items=40, vision=str(folder), out=tmp_path, progress=False).resolved()
    place = Workspace(settings)
    cell = overlap.similarity_cell(place, str(folder), seed=3)
    outcome = overlap.compute_similarity(place, str(folder), cell)
    record = Store(tmp_path).write(cell, outcome.results, outcome.frames, seconds=1.0)
    row = overlap_frame.frame([record], Store(tmp_path)).iloc[0]
    assert row["same_category"] == pairs["same_category"].sum()
    assert row["shuffled_any"] == pytest.approx(pairs["shuffled_any"].mean())
    if kind == "clip":
        assert "matched_score" not in pairs and np.isnan(row["matched_score"])
        return
    # By hand, from the scale and the bias that the model was saved with.
    for name in ("matched", "shuffled"):
        expected = 1 / (1 + np.exp(-(np.exp(2.3) * pairs[name] - 1.5)))
        np.testing.assert_allclose(pairs[f"{name}_score"], expected, rtol=1e-5)
        assert row[f"{name}_score"] == pytest.approx(expected.mean(), rel=1e-5)
    assert row["median_matched_score"] == pytest.approx(pairs["matched_score"].median())


def with_small_pictures(folder: Path) -> list[str]:
    """Write a data set with small pictures of all but two items; one of the small ones has no large one."""
    arguments = without_pictures(folder)
    ids = pd.read_csv(folder / "items.csv")["item_id"]
    for name, kept, colour, side in (("images", ids[1:], "red", 64), ("images-low", ids[:-1], "blue", 16)):
        (folder / name).mkdir()
        for item_id in kept:
            Image.new("RGB", (side, side), colour).save(folder / name / f"{item_id}.png")
    return arguments


def test_the_sources_own_small_pictures_stand_in_where_there_are_some(tmp_path, caplog):
    _, name = with_small_pictures(tmp_path)
    settings = Settings(dataset=name, min_interactions=1, vision="efficientnet-lite0", out=tmp_path / "out")
    place = Workspace(settings.resolved())
    with caplog.at_level("INFO"):
        (low,) = image_quality.own_low_resolution(place)
    n = place.dataset.n_items
    assert f"{n - 2} of {n - 1} pictures have a low-resolution one" in caplog.text
    images = low.dataset.images
    assert low.dataset.fingerprint != place.dataset.fingerprint
    ids = place.dataset.items["item_id"].tolist()
    first, last = "toy-00000", max(ids)
    assert images.available.sum() == n - 1 and not images.available[ids.index(first)]
    sizes = [images.read(item).size for item in np.flatnonzero(images.available)]
    assert sorted(sizes) == [(16, 16)] * (n - 2) + [(64, 64)]
    assert images.read(ids.index(last)).size == (64, 64)
    assert low.variant["degradation"] == "low-resolution" and low.variant["amount"] is None


def without_pictures(tmp_path: Path) -> list[str]:
    toyshop = load_dataset("toyshop", users=40, items=40)
    users = np.repeat(toyshop.user_ids, toyshop.lengths)
    toyshop.items[["item_id", "title", "description"]].to_csv(tmp_path / "items.csv", index=False)
    pd.DataFrame(
        {
            "user_id": users,
            "item_id": toyshop.items["item_id"].to_numpy()[toyshop.sequence_items],
            "timestamp": np.arange(len(users)),
        }
    ).to_csv(tmp_path / "interactions.csv", index=False)
    return ["--dataset", f"folder:{tmp_path}"]


@pytest.mark.parametrize("experiment", [missing_images, image_quality, overlap])
def test_data_without_images_are_one_line(experiment, tmp_path, capsys):
    arguments = [*SMALL, "--out", str(tmp_path / "out"), *without_pictures(tmp_path)]
    assert run(experiment.main, prog="bench", args=arguments) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and "no item has an image" in error[0] and "still run" in error[0]


@pytest.mark.parametrize(
    ("experiment", "arguments", "expected"),
    [
        (missing_images, ["--fractions", "0,1.5"], "--fractions"),
        (missing_images, ["--substitutes", "nothing"], "--substitutes"),
        (missing_images, ["--methods", "tallrec,trsr"], "none shows an image that could be missing"),
        (missing_images, ["--methods", ""], "give at least one LLM method"),
        (image_quality, ["--methods", "sasrec"], "--methods sasrec"),
        (image_quality, ["--resolutions", "0"], "--resolutions 0"),
        (image_quality, ["--jpeg-qualities", "99"], "--jpeg-qualities 99"),
        (image_quality, ["--blurs", "-1"], "--blurs"),
        (
            image_quality,
            ["--resolutions", "", "--jpeg-qualities", "", "--blurs", ""],
            "no low-resolution pictures of its own",
        ),
        (overlap, ["--overlaps", "2"], "--overlaps"),
        (overlap, ["--encoders", "efficientnet-lite1"], "did you mean 'efficientnet-lite0'"),
        (overlap, ["--methods", "sasrec"], "--methods sasrec"),
    ],
)
def test_bad_options_are_one_line(experiment, arguments, expected, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(experiment.main, prog="bench", args=[*SMALL, "--out", str(out), *arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_experiments_end_to_end_and_a_second_run_recomputes_nothing(tmp_path, tiny_llm, tiny_encoders):
    pytest.importorskip("recbole", reason="CF features")
    limits = (
        f"--llm {tiny_llm} --layers 1 --history-length 3 --eval-users 8 --validation-users 0 --batch-size 4"
    )
    # Their own text tower would stand in for pictures in place of the ridge map.
    text = tiny_encoders[tiny_encoders.index("--text") :]
    common = [*SMALL, *text, "--out", str(tmp_path), *limits.split()]
    commands = [
        (missing_images.main, ["--fractions", "0,0.5,1", "--substitutes", "description,drop"]),
        (
            image_quality.main,
            ["--resolutions", "16", "--jpeg-qualities", "", "--blurs", "", "--feature-sets", "image"],
        ),
        (overlap.main, ["--overlaps", "0.8,1", "--methods", "illmrec"]),
    ]
    for main, arguments in commands:
        assert run(main, prog="bench", args=[*common, *arguments]) == 0
    store = Store(tmp_path)
    records = store.records()
    missing = pd.read_csv(tmp_path / "tables" / "missing_images.csv", keep_default_na=False)
    sampled = missing[missing["candidates"] == "sampled"].set_index(["method", "substitutes", "fraction"])
    # A ridge map cannot be fitted without any image: descriptions end at a half.
    assert list(sampled.index) == [
        ("illmrec", "description", 0.0),
        ("illmrec", "description", 0.5),
        ("illmrec", "drop", 0.0),
        ("illmrec", "drop", 0.5),
        ("illmrec", "drop", 1.0),
        ("tallrec", "", 0.0),
        ("trsr", "", 0.0),
    ]
    tokens = sampled["prompt_tokens"].loc["illmrec"]
    assert tokens["description", 0.5] > tokens["description", 0.0] > tokens["drop", 0.5] > tokens["drop", 1.0]
    quality = pd.read_csv(tmp_path / "tables" / "image_quality.csv")
    assert quality["degradation"].tolist() == ["original", "original", "resolution", "resolution"]
    cosine = pd.read_csv(tmp_path / "tables" / "overlap.csv")
    assert cosine["overlap"].tolist() == [0.8, 1] and cosine["measured_by"].str.contains("held out").all()
    assert cosine["matched"].iloc[1] > cosine["shuffled"].iloc[1]
    for record in store.records("overlap"):
        pairs = store.read_frame(record, "similarities")
        assert record.results["matched"] == pytest.approx(pairs["matched"].mean())
    assert pd.read_csv(tmp_path / "tables" / "overlap_accuracy.csv")["overlap"].tolist() == [0.8, 1] * 2
    # The frames find their cells among those of all experiments.
    found = missing_frame.frame(records, store)
    assert (
        found[["substitutes", "fraction"]].values.tolist()
        == missing[["substitutes", "fraction"]].values.tolist()
    )
    found = quality_frame.frame(records, store)
    assert found[found["features"] == "image"]["degradation"].tolist() == quality["degradation"].tolist()
    assert len(overlap_frame.frame(records, store)) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "cells").rglob("cell.json")}
    for main, arguments in commands:
        assert run(main, prog="bench", args=[*common, "--overwrite", "only-missing", *arguments]) == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "cells").rglob("cell.json")}
    assert after == before
