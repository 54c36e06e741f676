"""Encoders on the model hub: what is fetched of them. The hub is a folder beside the test."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from sentence_models import as_pickle, save_sentence_model
from vision_models import save_model

from illmrec.errors import InputError
from illmrec.features import sources
from illmrec.features.identity import encoder_identity
from illmrec.features.text import encode_texts
from illmrec.features.vision import load_image_encoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = ["a red mug", "acme kitchen", "red bag", "lamp"]
OTHERS = (
    "onnx/model.onnx", "onnx/config.json", "openvino/openvino_model.bin", "tf_model.h5", "training_args.bin",
)  # fmt: skip


class Hub:
    """A repository, and a cache that gets what the patterns let through, as ``snapshot_download`` does."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository, self.folder = repository, cache / "snapshots" / COMMIT
        self.revisions: list[str | None] = []

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file())

    def download(
        self,
        name: str,
        *,
        allow_patterns: list[str] | None = None,
        ignore_patterns: list[str] | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> str:
        assert name == "owner/model"
        self.revisions.append(revision)
        paths = [p.relative_to(self.repository) for p in self.repository.rglob("*") if p.is_file()]
        for path in paths:
            allowed = allow_patterns is None or any(fnmatch(str(path), pattern) for pattern in allow_patterns)
            if not allowed or any(fnmatch(str(path), pattern) for pattern in ignore_patterns or ()):
                continue
            if not local_files_only:
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.repository / path, self.folder / path)
            elif not (self.folder / path).exists():
                raise LocalEntryNotFoundError(f"{path} is not in the cache")
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "repository", tmp_path / "hub")
    hub.repository.mkdir()
    (hub.repository / "README.md").write_text("A model")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.download)
    return hub


def expected(hub: Hub, tmp_path: Path) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(hub.repository), device="cpu").encode(TEXTS, show_progress_bar=False)


@pytest.mark.parametrize(
    ("kind", "pickled", "weights"),
    [
        ("mean", [], ["model.safetensors"]),
        ("mean", ["model.safetensors"], ["pytorch_model.bin"]),
        ("dense", [], ["2_Dense/model.safetensors", "model.safetensors"]),
        ("dense", ["2_Dense/model.safetensors"], ["2_Dense/pytorch_model.bin", "model.safetensors"]),
        ("static", [], ["0_StaticEmbedding/model.safetensors"]),
        ("static", ["0_StaticEmbedding/model.safetensors"], ["0_StaticEmbedding/pytorch_model.bin"]),
        ("clip", [], ["0_CLIPModel/model.safetensors"]),
        ("clip", ["0_CLIPModel/model.safetensors"], ["0_CLIPModel/pytorch_model.bin"]),
    ],
)
def test_parts_get_their_weights_once(
    kind: str, pickled: list[str], weights: list[str], hub: Hub, tmp_path: Path
) -> None:
    save_sentence_model(hub.repository, kind, tmp_path)
    for path in pickled:
        as_pickle(hub.repository / path)
    reference = expected(hub, tmp_path)
    # The same weights for other programs, and in PyTorch's format where they are in safetensors, too.
    for name in (*OTHERS, *(w.replace("model.safetensors", "pytorch_model.bin") for w in weights)):
        path = hub.repository / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(b"\x00" * 64)
    found = encode_texts(TEXTS, encoder="owner/model")
    np.testing.assert_allclose(found, reference, atol=1e-6)
    assert len(np.unique(reference, axis=0)) > 1
    assert [name for name in hub.files() if not name.endswith((".json", ".txt"))] == weights
    assert not any(name.startswith("onnx") for name in hub.files())
    assert set(hub.revisions[1:]) <= {COMMIT, None} and COMMIT in hub.revisions
    # A cache that lacks what is not fetched still has a version.
    assert sources.stored_version("owner/model") == COMMIT
    assert encoder_identity("owner/model", kind="text").startswith("owner/model@0123456789ab")


def test_nothing_on_disk_has_no_version(hub: Hub) -> None:
    (hub.repository / "config.json").write_text("{}")
    assert sources.stored_version("owner/model") is None


def test_vision_model_in_shards(hub: Hub) -> None:
    save_model(hub.repository, "clip")
    import transformers

    model = transformers.CLIPModel.from_pretrained(hub.repository)
    (hub.repository / "model.safetensors").unlink()
    model.save_pretrained(hub.repository, max_shard_size="20KB")
    (hub.repository / "model.fp16.safetensors").write_bytes(bytes(64))
    assert load_image_encoder("owner/model").width == 12
    weights = [name for name in hub.files() if name.endswith(".safetensors")]
    assert len(weights) > 1 and "model.fp16.safetensors" not in weights


def test_part_without_weights_is_named(hub: Hub, tmp_path: Path) -> None:
    save_sentence_model(hub.repository, "dense", tmp_path)
    (hub.repository / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights for its part 2_Dense"):
        encode_texts(TEXTS, encoder="owner/model")
    (hub.repository / "model.safetensors").unlink()
    shutil.rmtree(hub.folder)
    with pytest.raises(InputError, match="no weights for it;"):
        encode_texts(TEXTS, encoder="owner/model")


def test_module_with_code_of_its_own_is_refused_before_weights_are_fetched(hub: Hub, tmp_path: Path) -> None:
    save_sentence_model(hub.repository, "mean", tmp_path)
    modules = hub.repository / "modules.json"
    modules.write_text(
        modules.read_text().replace("sentence_transformers.base.modules.transformer", "custom_st")
    )
    (hub.repository / "custom_st.py").write_text("raise SystemExit")
    with pytest.raises(
        InputError, match=r"module custom_st.Transformer is code of its own, which is never run"
    ):
        encode_texts(TEXTS, encoder="owner/model")
    assert not any(name.endswith((".safetensors", ".py")) for name in hub.files())
