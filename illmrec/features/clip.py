"""CLIP and SigLIP through transformers: one model, an image tower and a text tower in the same space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from illmrec.features.sources import load_error, model_folder, quiet


class _Tower:
    """The model and what prepares its input, loaded quietly and checked."""

    def __init__(self, name: str, *, prepared_by: Any, device: str, **options: str) -> None:
        folder = model_folder(name)
        with quiet():
            try:
                # Half-precision checkpoints are widened: features are computed once, in float32 everywhere.
                self.model, loaded = AutoModel.from_pretrained(
                    folder, dtype=torch.float32, output_loading_info=True
                )
                if not all(hasattr(self.model, need) for need in ("get_image_features", "get_text_features")):
                    raise ValueError(
                        f"it is a {self.model.config.model_type} model, not a CLIP or SigLIP model"
                    )
                if loaded["missing_keys"]:
                    raise ValueError(f"weights are missing: {sorted(loaded['missing_keys'])[0]}")
                self.prepare = prepared_by.from_pretrained(folder, **options)
            except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
                raise load_error(name, error) from error
        self.device = torch.device(device)
        self.model.eval().to(self.device)


class ClipImages(_Tower):
    """Image embeddings of a CLIP or SigLIP model: projected (CLIP) or pooled (SigLIP), not normalised."""

    def __init__(self, name: str, *, device: str) -> None:
        """Load a model.

        Args:
            name: Hub id or local folder.
            device: Torch device.

        Raises:
            InputError: If it cannot be loaded or is another kind of model.
        """
        # The Pillow backend, whether torchvision is installed or not: the same pixels on every machine.
        super().__init__(name, prepared_by=AutoImageProcessor, device=device, backend="pil")
        self.width = int(self.encode(self.load(Image.new("RGB", (32, 32)))[None]).shape[1])

    def load(self, image: Image.Image) -> np.ndarray:
        """Return float32 [3, height, width], as the model wants it."""
        pixels = self.prepare(
            images=np.asarray(image), input_data_format="channels_last", return_tensors="np"
        )
        return np.asarray(pixels["pixel_values"][0], dtype=np.float32)

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Encode float32 [batch, 3, height, width] into float32 [batch, width]."""
        output = self.model.get_image_features(pixel_values=torch.from_numpy(pixels).to(self.device))
        return np.asarray(output.pooler_output.float().cpu().numpy())


class ClipTexts(_Tower):
    """Text embeddings of a CLIP or SigLIP model, in the space of its image embeddings (paper E.8)."""

    def __init__(self, name: str, *, device: str) -> None:
        """Load a model; arguments and errors as for :class:`ClipImages`."""
        super().__init__(name, prepared_by=AutoTokenizer, device=device)
        self.longest = int(self.model.config.text_config.max_position_embeddings)
        # SigLIP reads the last position and was trained on padded texts without a mask.
        self.padding = "max_length" if self.model.config.model_type.startswith("siglip") else "longest"
        bias = getattr(self.model, "logit_bias", None)
        # What SigLIP was trained to put into its sigmoid; CLIP's softmax knows no score of a single pair.
        self._logit = None if bias is None else (self.model.logit_scale.exp().item(), bias.item())
        self.width = int(self.encode([""]).shape[1])

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts, each cut to the model's longest input, into float32 [batch, width]."""
        tokens = self.prepare(
            list(texts), padding=self.padding, max_length=self.longest, truncation=True, return_tensors="pt"
        )
        inputs = {"input_ids": tokens["input_ids"].to(self.device)}
        if self.padding == "longest":
            inputs["attention_mask"] = tokens["attention_mask"].to(self.device)
        output = self.model.get_text_features(**inputs)
        return np.asarray(output.pooler_output.float().cpu().numpy())

    def match_scores(self, cosines: np.ndarray) -> np.ndarray | None:
        """Return how likely SigLIP finds it that picture and text belong together (paper, Figure 9).

        Args:
            cosines: Of picture and text, float [n].

        Returns:
            The sigmoid of the cosines under the model's own scale and bias, float64 [n] in [0, 1]; None for CLIP,
            which has none.
        """
        if self._logit is None:
            return None
        scale, bias = self._logit
        logits = scale * np.asarray(cosines, dtype=np.float64) + bias
        # The form without an exponential of a large number, which would overflow.
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))
