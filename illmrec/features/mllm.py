"""Pictures as a vision-language model reads them: the rows that its vision tower hands to its language model.

An item's row is the whole run of input embeddings for its picture, the tokens around it included. So the language
model, given these rows in their place, computes what the whole model computes from pixels and text.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError, UnsupportedError
from illmrec.features import checkpoint, model_files
from illmrec.features.pixels import ProcessedTile
from illmrec.features.sources import model_folder, quiet, stored_version
from illmrec.features.table import FeatureTable
from illmrec.features.vision import picture_content, picture_table
from illmrec.files import cache_dir, hash_json

logger = logging.getLogger(__name__)

_FRAMES = {
    "idefics3": (("<fake_token_around_image>", "<global-img>"), ("<fake_token_around_image>",)),
    "smolvlm": (("<fake_token_around_image>", "<global-img>"), ("<fake_token_around_image>",)),
    "internvl": (("<img>",), ("</img>",)),
}
"""Tokens before and after those of a picture, by the model's type; other models have none."""
_PREPROCESSING = (
    "the model's own image processor (Pillow), a picture as one tile; input embeddings of all its tokens"
)
_PROBES = ((48, 32), (32, 64))
"""Width and height of pictures that tell how many tokens a picture takes."""


@dataclass(frozen=True, kw_only=True)
class PictureTokens:
    """Token ids of a picture in a prompt.

    Attributes:
        before: Ids of the tokens before it.
        image: Id of the placeholder that stands for each of its own tokens.
        own: How many own tokens it has.
        after: Ids of the tokens after it.
    """

    before: tuple[int, ...]
    image: int
    own: int
    after: tuple[int, ...]

    @property
    def ids(self) -> list[int]:
        """All of them in order, as the model's own prompt has them."""
        return [*self.before, *[self.image] * self.own, *self.after]


class VisionLanguageModel:
    """A vision-language model and what prepares its input, loaded quietly and checked.

    Args:
        name: Hub id or local folder.
        dtype: Of the weights.
        device: Torch device.
        subject: The beginning of error messages.

    Attributes:
        model: The whole model, in evaluation mode.
        tokenizer: Its tokenizer.
        tokens: What a picture takes in a prompt, the same number for each.
        width: Of an input embedding.

    Raises:
        InputError: If it cannot be loaded or is another kind of model, or pictures take different numbers of tokens.
    """

    def __init__(
        self, name: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu", subject: str = ""
    ) -> None:
        self.subject = subject or f"encoder mllm:{name}"
        folder = model_folder(name)
        model_files.check_model(folder, subject=self.subject, wanted="a vision-language model")
        model_files.check_tokenizer(folder, subject=self.subject)
        with checkpoint.loading(subject=self.subject, folder=folder), quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
                raise InputError(
                    f"{self.subject}: config.json describes {config.model_type}, which reads no pictures; give a "
                    "vision-language model, such as SmolVLM"
                )
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            # By its module: from the top, releases below 5.18 ask for torchvision, which backend="pil" does without.
            prepare = transformers.models.auto.image_processing_auto.AutoImageProcessor.from_pretrained(
                folder, trust_remote_code=False, backend="pil"
            )
            found: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                folder,
                dtype=dtype,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        self.model, loaded = found
        checkpoint.check_loaded(self.model, loaded, subject=self.subject)
        checkpoint.check_values(self.model, subject=self.subject)
        self.device = torch.device(device)
        self.model.eval().requires_grad_(False).to(self.device)
        self.load = ProcessedTile(prepare, inspect.signature(self.model.get_image_features).parameters)
        with checkpoint.loading(subject=self.subject, folder=None):
            self.tokens = self._tokens()
        self.width = int(self.model.get_input_embeddings().weight.shape[1])

    @torch.inference_mode()
    def features(self, pictures: Sequence[dict[str, np.ndarray]]) -> list[torch.Tensor]:
        """Return what stands for each loaded picture's own tokens, [tokens, width of an input embedding]."""
        inputs = {
            name: torch.from_numpy(np.concatenate([picture[name] for picture in pictures])).to(self.device)
            for name in pictures[0]
        }
        output = self.model.get_image_features(**inputs)
        found = getattr(output, "pooler_output", output)
        return [vectors.flatten(0, -2) for vectors in found]

    @torch.inference_mode()
    def encode(self, pictures: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
        """Return input embeddings of loaded pictures' tokens, those around them included.

        Returns:
            Float32 [batch, tokens * width of an input embedding].

        Raises:
            InputError: If a picture takes another number of tokens, or values are not finite.
        """
        embed = self.model.get_input_embeddings()
        before, after = (
            embed(torch.tensor(ids, dtype=torch.long, device=self.device))
            for ids in (self.tokens.before, self.tokens.after)
        )
        rows = []
        for own in self.features(pictures):
            if len(own) != self.tokens.own:
                raise self._uneven(self.tokens.own, len(own))
            rows.append(torch.cat([before, own.to(before.dtype), after]).flatten())
        values = np.asarray(torch.stack(rows).float().cpu().numpy())
        if not np.isfinite(values).all():
            raise InputError(
                f"{self.subject}: its features are not finite numbers; its files are damaged, fetch them again"
            )
        return values

    def _tokens(self) -> PictureTokens:
        counts = [len(self.features([self.load(Image.new("RGB", size, "red"))])[0]) for size in _PROBES]
        if len(set(counts)) > 1:
            raise self._uneven(*counts)
        placeholder = getattr(self.model.config, "image_token_id", None)
        if placeholder is None:
            raise InputError(
                f"{self.subject}: config.json names no image_token_id, which stands for a picture"
            )
        kind = self.model.config.model_type
        if kind not in _FRAMES:
            logger.info(
                "%s: a picture is its own %d tokens; nothing stands around it in models of type %s as far as is known",
                self.subject,
                counts[0],
                kind,
            )
        before, after = (self._ids(texts) for texts in _FRAMES.get(kind, ((), ())))
        return PictureTokens(before=before, image=int(placeholder), own=counts[0], after=after)

    def _ids(self, texts: Sequence[str]) -> tuple[int, ...]:
        vocabulary = self.tokenizer.get_vocab()
        absent = [text for text in texts if text not in vocabulary]
        if absent:
            raise InputError(
                f"{self.subject}: the tokenizer has no token {absent[0]}, which stands beside pictures in such models; "
                "give the model's own tokenizer files"
            )
        return tuple(vocabulary[text] for text in texts)

    def _uneven(self, one: int, other: int) -> InputError:
        return InputError(
            f"{self.subject}: one picture takes {one} tokens and another {other}, by their shapes; only models in "
            "which all take the same number are read, such as SmolVLM or LLaVA 1.5"
        )


def mllm_features(
    dataset: Dataset,
    *,
    name: str,
    cache: Path | None = None,
    batch_size: int = 8,
    device: str = "cpu",
    progress: bool = True,
) -> FeatureTable:
    """Return the input embeddings of all items' pictures; compute what is not in the cache.

    Args:
        dataset: Items and their images.
        name: The vision-language model, a hub id or a local folder.
        cache: Folder of computed tables; the user's cache by default.
        batch_size: Pictures a batch.
        device: Torch device.
        progress: Show a progress bar.

    Returns:
        A table whose rows are the vectors of all tokens of a picture side by side; items without one are absent.

    Raises:
        InputError: If the model cannot be loaded, an image is corrupt, or the cache cannot be written.
        UnsupportedError: If the data set has no images.
    """
    images = dataset.images
    if images is None or not images.available.any():
        raise UnsupportedError(f"data set {dataset.name} has no images, which the method mllm reads")
    content = picture_content(dataset)
    folder = (cache or cache_dir()) / "features"
    version = stored_version(name)
    if version is not None:
        found = FeatureTable.found(folder / hash_json(_describe(version, content)))
        if found is not None:
            return found
    model = VisionLanguageModel(name, device=device)
    meta = _describe(stored_version(name), content)
    tokens = len(model.tokens.ids)
    return picture_table(
        dataset,
        folder / hash_json(meta),
        width=tokens * model.width,
        load=model.load,
        stack=list,
        encode_batch=model.encode,
        cache=cache,
        batch_size=batch_size,
        meta={**meta, "encoder": name, "vectors": tokens, "embeddings": True},
        progress=progress,
        description=f"pictures as {name} reads them",
        device=device,
    )


def _describe(version: str | None, data: str) -> dict[str, Any]:
    return {"feature": "mllm", "version": version, "preprocessing": _PREPROCESSING, "data": data}
