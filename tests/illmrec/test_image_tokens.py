"""Several image tokens an item: vectors of parts of a picture, from the encoder to the LLM's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from test_features_vision import Pictures, fake_dataset
from training_models import N_ITEMS, made_dataset
from vision_models import save_model

from illmrec.assembly import ModelConfig, build_model
from illmrec.data.splits import split_of
from illmrec.errors import InputError, UnsupportedError
from illmrec.features.grids import grid, image_vectors
from illmrec.features.missing import mean_filled
from illmrec.features.patches import cell_means, patch_maps
from illmrec.features.table import FeatureTable
from illmrec.features.vision import image_features, load_image_encoder
from illmrec.model.backbone import load_backbone
from illmrec.prompts.image_tokens import ImageTokens4
from illmrec.prompts.segments import ImageRepresentation, Slot
from illmrec.recommender import content_features
from illmrec.training.adaptor_start import start_from_text

WIDTH = 6
FOUR = "illmrec.prompts.image_tokens:ImageTokens4"


class ShowsThree(ImageTokens4):
    """A mistake: three slots of a feature with four vectors."""

    def render(self, item, available):
        return [part for part in super().render(item, available)][:-2]


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), dtype="float32")


def made(backbone, *, representation: str = FOUR, has_image=None, **config):
    """Return a model whose slots have four vectors, and its tables."""
    generator = np.random.default_rng(3)
    everywhere = np.ones(N_ITEMS, dtype=bool)
    tables = {
        name: FeatureTable(
            values=generator.normal(2, 1, (N_ITEMS, width)).astype(np.float32),
            present=everywhere,
            key=name,
            meta=meta,
        )
        for name, width, meta in (("image", 5, {}), ("image-4", 4 * WIDTH, {"vectors": 4}))
    }
    model = build_model(
        ModelConfig(representation=representation, heads=("image",), hidden=8, shared=4, **config),
        dataset=made_dataset(),
        backbone=backbone,
        features=tables,
        has_image=everywhere if has_image is None else has_image,
    )
    return model, tables


def test_names_say_how_many_vectors_a_picture_has():
    names = (
        "image",
        "image-2",
        "image-64",
        "image-1",
        "image-65",
        "image-04",
        "image-",
        "text",
        "my-image-2",
    )
    assert [image_vectors(name) for name in names] == [1, 2, 64, 0, 0, 0, 0, 0, 0]
    assert [grid(count) for count in (1, 2, 3, 4, 8, 12, 16)] == [
        (1, 1), (2, 1), (3, 1), (2, 2), (4, 2), (4, 3), (4, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(7, 7), (4, 6), (5, 3)])
@pytest.mark.parametrize("cells", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_means_over_cells_by_hand(shape, cells):
    height, width = shape
    rows, columns = cells
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, height, width)))
    if columns > width:
        return
    found = cell_means(maps, rows=rows, columns=columns, subject="x")
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * height // rows, -(-(row + 1) * height // rows)
            left, right = column * width // columns, -(-(column + 1) * width // columns)
            expected = maps[:, :, top:bottom, left:right].mean(dim=(2, 3))
            np.testing.assert_allclose(found[:, row * columns + column], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_vectors_are_means_of_the_models_own_patches(kind, tmp_path):
    folder = save_model(tmp_path / kind, kind)
    pictures = Pictures(missing=(3,))
    arguments = {"encoder": str(folder), "cache": tmp_path, "batch_size": 4, "progress": False}
    table = image_features(fake_dataset(pictures), vectors=4, **arguments)
    assert table.vectors == 4 and table.width == 4 * 16 and not table.values[3].any()
    model = transformers.AutoModel.from_pretrained(folder).eval()
    encoder = load_image_encoder(str(folder))
    for item in (0, 7):
        pixels = torch.from_numpy(encoder.load(Image.fromarray(pictures.pictures[item])))[None]
        with torch.no_grad():
            patches = model.vision_model(pixel_values=pixels).last_hidden_state[0]
        patches = patches[-16:].reshape(4, 4, 16)  # of CLIP a class token comes first
        quarters = [patches[a : a + 2, b : b + 2].mean(dim=(0, 1)) for a in (0, 2) for b in (0, 2)]
        np.testing.assert_allclose(table.values[item], torch.cat(quarters), atol=1e-5)
    # The pooled feature is another table, found again under its own key.
    pooled = image_features(fake_dataset(pictures), **arguments)
    assert pooled.vectors == 1 and pooled.key != table.key
    # Eighths were encoded, and all coarser parts are theirs: nothing is read again.
    pictures.reads.clear()
    assert image_features(fake_dataset(pictures), vectors=4, **arguments).key == table.key
    halves = image_features(fake_dataset(pictures), vectors=2, **arguments)
    assert not pictures.reads and halves.key not in (table.key, pooled.key)
    quarters = table.values.reshape(10, 2, 2, 16)
    np.testing.assert_allclose(halves.values.reshape(10, 2, 16), quarters.mean(axis=2), atol=1e-6)


def test_encoders_without_enough_patches_are_refused_in_one_line(tmp_path):
    folder = save_model(tmp_path / "clip", "clip")
    with pytest.raises(UnsupportedError, match="4 by 4 patches, too few for 8 by 8 cells") as caught:
        image_features(
            fake_dataset(Pictures()), encoder=str(folder), vectors=64, cache=tmp_path, progress=False
        )
    assert "\n" not in str(caught.value)
    pooled_alone = [torch.zeros(2, 7, 5), torch.zeros(2, 5), None, torch.zeros(2, 5, 4, 4)]
    for states in pooled_alone:
        with pytest.raises(UnsupportedError, match="one vector of a picture and no patches"):
            patch_maps(states, (32, 32), patch_size=8, subject="encoder x")
    with pytest.raises(UnsupportedError, match="no patches"):
        patch_maps(torch.zeros(2, 16, 5), (32, 32), patch_size=None, subject="encoder x")


def test_missing_pictures_have_the_mean_of_the_others(tmp_path):
    folder = save_model(tmp_path / "siglip", "siglip")
    dataset = fake_dataset(Pictures(missing=(2, 6)))
    tables, has_image = content_features(
        ["image-2"], dataset=dataset, encoders={"image": str(folder)}, cache=tmp_path, progress=False
    )
    values = tables["image-2"].values
    assert has_image.tolist() == [row not in (2, 6) for row in range(10)]
    np.testing.assert_allclose(values[2], values[has_image].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(values[2], values[6])
    whole = FeatureTable(values=values, present=np.ones(10, dtype=bool), key="k", meta={})
    assert mean_filled(whole) is whole


def test_slots_hold_an_items_vectors_in_turn(backbone):
    """Against rows put together by hand and run through the LLM one by one."""
    has_image = np.ones(N_ITEMS, dtype=bool)
    has_image[5] = False
    model, tables = made(backbone, has_image=has_image)
    histories = [np.array([3]), np.array([1, 5, 2]), np.array([7, 7, 0, 9])]
    values = tables["image-4"].values.reshape(N_ITEMS, 4, WIDTH)
    centred = values - values.mean(axis=0)
    shown = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True))
    states = model.encode(histories)
    for history, state in zip(histories, states, strict=True):
        texts = [model.prompts.task]
        vectors = []
        for item in history:
            ids = model.prompts.items.ids[model.prompts.items.offsets[item] :][
                : model.prompts.items.lengths[item]
            ]
            assert (ids < 0).sum() == (4 if has_image[item] else 0)
            texts.append(ids)
            vectors += list(shown[item]) if has_image[item] else []
        ids = np.concatenate([*texts, model.prompts.instruction, [-2]])
        embedded = backbone.embeddings(torch.from_numpy(np.maximum(ids, 0).astype(np.int64))).clone()
        embedded[np.flatnonzero(ids == -1)] = model.adaptors["image-4"](
            torch.tensor(np.array(vectors), dtype=torch.float32)
        )
        embedded[-1] = model.rec
        backbone.model.set_attn_implementation("eager")
        with torch.no_grad():
            plain = backbone.trunk(inputs_embeds=embedded[None], use_cache=False).last_hidden_state[0, -1]
        torch.testing.assert_close(state, plain, atol=2e-5, rtol=1e-4)


def test_tokens_are_counted_and_slots_survive_a_cut(backbone):
    model, _ = made(backbone)
    one, _ = made(backbone, representation="illmrec.prompts.segments:ImageRepresentation")
    np.testing.assert_array_equal(model.prompts.items.lengths, one.prompts.items.lengths + 3)
    history = np.array([4, 8])
    cut = model.prompts.with_context(model.prompts.fixed_tokens + 6)
    fitted = cut.fit(history)
    assert fitted.items.tolist() == [8] and fitted.dropped_items == 1
    packed = cut.pack([fitted])
    assert len(packed.prefix) + packed.tokens == model.prompts.fixed_tokens + 6
    assert packed.slot_items["image-4"].tolist() == [8] * 4
    assert (np.diff(packed.slot_positions["image-4"]) == 1).all()
    with pytest.raises(InputError, match="too few for one item"):
        model.prompts.with_context(model.prompts.fixed_tokens + 3).fit(history)


def test_a_representation_that_shows_some_of_the_vectors_is_refused(backbone):
    with pytest.raises(InputError, match=r"3 times Slot\('image-4'\) for item row 0.*4 vectors"):
        made(backbone, representation="test_image_tokens:ShowsThree")


def test_without_a_picture_the_item_is_that_of_one_token():
    item = {"title": "Mug", "description": "A red mug."}
    assert ImageTokens4().render(item, frozenset()) == ImageRepresentation().render(item, frozenset())
    shown = ImageTokens4().render(item, frozenset({"image-4"}))
    assert [part for part in shown if not isinstance(part, Slot)] == [
        part
        for part in ImageRepresentation().render(item, frozenset({"image"}))
        if not isinstance(part, Slot)
    ]
    assert shown.count(Slot("image-4")) == 4


def test_an_adaptor_of_several_vectors_starts_from_words(backbone):
    model, _ = made(backbone)
    split = split_of(made_dataset())
    before = model.adaptors["image-4"][-1].weight.clone()
    assert set(start_from_text(model, split)) == {"image-4"}
    rows = torch.from_numpy(np.unique(split.train_items()))
    table = model.slot_table("image-4").view(N_ITEMS, 4, WIDTH)[rows]
    with torch.no_grad():
        spoken = model.adaptors["image-4"](table).flatten(0, 1)
    assert not torch.equal(model.adaptors["image-4"][-1].weight, before)
    # Centred over all vectors of all items, and at the scale of the LLM's words.
    torch.testing.assert_close(spoken.mean(dim=0), torch.zeros(backbone.width), atol=1e-5, rtol=0)
    assert spoken.square().mean().sqrt() == pytest.approx(backbone.embedding_scale, rel=1e-3)


@pytest.mark.slow
def test_cells_of_the_embedded_encoder_average_to_its_pooled_feature(tmp_path: Path):
    pytest.importorskip("efficientnet_lite_pytorch")
    encoder = load_image_encoder("efficientnet-lite0")
    pixels = np.stack([encoder.load(Image.fromarray(picture)) for picture in Pictures(n=2).pictures])
    pooled = encoder.encode(pixels)
    np.testing.assert_allclose(encoder.encode_cells(pixels, rows=1, columns=1)[:, 0], pooled, atol=1e-5)
    rows = encoder.encode_cells(pixels, rows=7, columns=1)
    np.testing.assert_allclose(rows.mean(axis=1), pooled, atol=1e-5)
    assert np.ptp(rows, axis=1).max() > 0.1
