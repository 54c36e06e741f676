"""A vision-language model's own reading of pictures: features, engine and model against its forward pass on pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from test_features_vision import Pictures
from training_models import N_ITEMS, made_dataset
from vision_language_models import TOKENS, save_vision_language_model
from vision_models import save_model

from illmrec.assembly import ModelConfig, build_model
from illmrec.data.dataset import Dataset
from illmrec.data.splits import split_of
from illmrec.errors import InputError, UnsupportedError
from illmrec.features import mllm as reading
from illmrec.features.mllm import VisionLanguageModel, mllm_features
from illmrec.features.table import FeatureTable
from illmrec.model import vision_language
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.illmrec import ILLMRec
from illmrec.states.encoding import encoder_key
from illmrec.training import Trainer, TrainingOptions
from illmrec.training.adaptor_start import start_from_text

MLLM = "illmrec.prompts.mllm:MLLMPictures"
MISSING = 5


@pytest.fixture(scope="module", params=["smolvlm", "llava"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vision_language_model(tmp_path_factory.mktemp("mllm") / kind, kind, tiny_llm)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(f"mllm:{folder}", dtype="float32")


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures(n=N_ITEMS, missing=(MISSING,))


@pytest.fixture(scope="module")
def dataset(pictures: Pictures) -> Dataset:
    return replace(made_dataset(), images=pictures)


@pytest.fixture(scope="module")
def table(folder: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FeatureTable:
    cache = tmp_path_factory.mktemp("cache")
    return mllm_features(dataset, name=str(folder), cache=cache, batch_size=16, progress=False)


def made(backbone: Backbone, dataset: Dataset, table: FeatureTable) -> ILLMRec:
    generator = np.random.default_rng(1)
    image = FeatureTable(
        values=generator.normal(size=(N_ITEMS, 6)).astype(np.float32),
        present=np.ones(N_ITEMS, dtype=bool),
        key="image",
        meta={},
    )
    return build_model(
        ModelConfig(representation=MLLM, heads=("image",), hidden=8, shared=4, history_length=5),
        dataset=dataset,
        backbone=backbone,
        features={"mllm": table, "image": image},
        has_image=table.present,
    )


def test_states_are_those_of_the_models_own_pass_over_pixels_and_text(
    kind, folder, backbone, dataset, pictures, table
):
    """Independent: transformers' model and processors alone, one prompt at a time, pictures as pixels."""
    model = made(backbone, dataset, table)
    whole = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prepare = transformers.models.auto.image_processing_auto.AutoImageProcessor.from_pretrained(
        folder, backend="pil"
    )
    around = (
        ("<fake_token_around_image><global-img>", "<fake_token_around_image>")
        if kind == "smolvlm"
        else ("", "")
    )
    own = around[0] + "<image>" * (4 if kind == "smolvlm" else 16) + around[1]
    histories = [np.array([2]), np.array([7, MISSING, 0]), np.array([1, 1, 9, 3])]
    found = model.encode(histories)
    # [REC] is a vector of no token: in the plain pass it takes the place of one that nothing else has.
    unused = tokenizer.convert_tokens_to_ids("</s>")
    with torch.no_grad():
        whole.get_input_embeddings().weight[unused] = model.rec
    for history, states in zip(histories, found, strict=True):
        items = dataset.items.iloc[history]
        ids = [*model.prompts.task.tolist()]
        for row, item in zip(history, items.to_dict("records"), strict=True):
            if row == MISSING:
                texts = [f" {{Title: {item['title']}, Description: {item['description']}}},"]
            else:
                texts = [f" {{Title: {item['title']}, Visual representation:", own, "},"]
            for text in texts:
                ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += [*model.prompts.instruction.tolist(), unused]
        shown = [Image.fromarray(pictures.pictures[row]) for row in history if row != MISSING]
        options = {"do_image_splitting": False} if kind == "smolvlm" else {}
        nested = [shown] if kind == "smolvlm" else shown
        inputs = prepare(images=nested, return_tensors="pt", **options)
        with torch.no_grad():
            plain = whole(input_ids=torch.tensor([ids]), output_hidden_states=True, **inputs)
        torch.testing.assert_close(states, plain.hidden_states[-1][0, -1], atol=3e-5, rtol=1e-4)


def test_items_take_the_tokens_of_their_pictures(kind, backbone, dataset, table):
    model = made(backbone, dataset, table)
    assert backbone.picture_tokens == TOKENS[kind] == table.vectors and table.embeddings
    bare = build_model(
        ModelConfig(representation="baselines.text_prompts:TitleOnly", heads=("image",)),
        dataset=dataset,
        backbone=backbone,
        features={
            "image": FeatureTable(
                values=np.eye(N_ITEMS, dtype=np.float32), present=table.present, key="", meta={}
            )
        },
        has_image=table.present,
    )
    shown = model.prompts.items
    slots = [(shown.ids[a:b] < 0).sum() for a, b in zip(shown.offsets[:-1], shown.offsets[1:], strict=True)]
    assert slots == [0 if row == MISSING else TOKENS[kind] for row in range(N_ITEMS)]
    assert (shown.lengths > bare.prompts.items.lengths).all()
    fitted = model.prompts.with_context(model.prompts.fixed_tokens + TOKENS[kind] + 1).fit(np.array([3]))
    assert (fitted.cut_ids < 0).sum() == TOKENS[kind]


def test_rows_are_computed_once_and_read_where_they_lie(folder, dataset, pictures, tmp_path, monkeypatch):
    first = mllm_features(dataset, name=str(folder), cache=tmp_path, progress=False)
    assert not first.present[MISSING] and not first.values[MISSING].any()
    pictures.reads.clear()
    monkeypatch.setattr(reading, "VisionLanguageModel", lambda *_, **__: pytest.fail("loaded"))
    again = mllm_features(dataset, name=str(folder), cache=tmp_path, progress=False)
    assert again.key == first.key and not pictures.reads
    assert isinstance(again.values, np.memmap)


def test_nothing_but_projectors_and_rec_is_trained(backbone, dataset, table):
    model = made(backbone, dataset, table)
    assert not model.adaptors and "mean_mllm" not in dict(model.named_buffers())
    before = model.embedded["mllm"]
    report = Trainer(
        model=model,
        split=split_of(dataset),
        options=TrainingOptions(max_steps=1, batch_size=4, validation_users=0),
        seed=0,
        negatives=np.zeros((dataset.n_users, 5), dtype=np.int32),
        progress=False,
    ).run()
    assert report.described()["risa_left_out"]
    assert start_from_text(model, split_of(dataset)) == {}
    assert model.embedded["mllm"] is before


def test_stored_states_are_those_of_the_pictures(backbone, dataset, table):
    model = made(backbone, dataset, table)
    key = encoder_key(model)
    assert encoder_key(made(backbone, dataset, table)) == key
    values = np.array(table.values)
    values[3, 7] += 1e-3
    other = FeatureTable(values=values, present=table.present, key=table.key, meta=table.meta)
    assert encoder_key(made(backbone, dataset, other)) != key


def test_layers_and_data_types_are_those_of_the_language_model(folder):
    short = load_backbone(f"mllm:{folder}", layers=1, dtype="bfloat16")
    assert short.layers == 1 and short.dtype == torch.bfloat16 and len(short.blocks) == 1
    described = short.describe()
    assert described["name"] == f"mllm:{folder.name}" and described["content"] == short.fingerprint


def test_models_that_read_no_pictures_are_refused(tiny_llm, tmp_path):
    with pytest.raises(InputError, match=r"--llm mllm:.*llama, which reads no pictures") as caught:
        load_backbone(f"mllm:{tiny_llm}")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="clip, which reads no pictures"):
        load_backbone(f"mllm:{save_model(tmp_path / 'clip', 'clip')}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no config\.json"):
        load_backbone(f"mllm:{tmp_path / 'empty'}")


def test_a_tokenizer_without_the_tokens_beside_pictures_is_refused(tiny_llm, tmp_path):
    folder = save_vision_language_model(tmp_path / "smolvlm", "smolvlm", tiny_llm)
    transformers.AutoTokenizer.from_pretrained(tiny_llm).save_pretrained(folder)
    with pytest.raises(InputError, match="no token <fake_token_around_image>"):
        load_backbone(f"mllm:{folder}")


def test_pictures_of_different_lengths_are_refused(tiny_llm, tmp_path, monkeypatch):
    folder = save_vision_language_model(tmp_path / "llava", "llava", tiny_llm)
    whole = VisionLanguageModel(str(folder))
    cut = lambda pictures: [row[:-1] for row in VisionLanguageModel.features(whole, pictures)]  # noqa: E731
    monkeypatch.setattr(whole, "features", cut)
    with pytest.raises(InputError, match="16 tokens and another 15"):
        whole.encode([whole.load(Image.new("RGB", (9, 9)))])


def test_a_language_model_that_reads_pictures_otherwise_is_refused(tiny_llm, tmp_path, monkeypatch):
    folder = save_vision_language_model(tmp_path / "llava", "llava", tiny_llm)
    own = vision_language._logits

    def further_on(whole, causal):
        first, second = own(whole, causal)
        return first, second.roll(1, dims=1)

    monkeypatch.setattr(vision_language, "_logits", further_on)
    with pytest.raises(InputError, match="otherwise than as a run of tokens"):
        load_backbone(f"mllm:{folder}")


def test_data_without_pictures(folder, tmp_path):
    with pytest.raises(UnsupportedError, match="has no images"):
        mllm_features(made_dataset(), name=str(folder), cache=tmp_path)
