"""CLIP and SigLIP through transformers: one model, an image tower and a text tower in the same space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer

# By its module: from the top, releases below 5.18 ask for torchvision, which backend="pil" does without.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from illmrec.errors import InputError
from illmrec.features import checkpoint, model_files
from illmrec.features.patches import cell_means, patch_maps
from illmrec.features.pixels import ProcessedPicture
from illmrec.features.sources import model_folder, quiet


class _Tower:
    """The model and what prepares its input, loaded quietly and checked."""

    def __init__(self, name: str, *, prepared_by: Any, device: str, **options: str) -> None:
        self.name = name
        self.subject = f"encoder {name} could not be loaded"
        folder = model_folder(name)
        model_files.check_model(folder, subject=self.subject, wanted="a CLIP or SigLIP model")
        with checkpoint.loading(subject=self.subject, folder=folder), quiet():
            # Half-precision checkpoints are widened: features are computed once, in float32 everywhere.
            self.model, loaded = AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            if not all(hasattr(self.model, need) for need in ("get_image_features", "get_text_features")):
                raise ValueError(f"it is a {self.model.config.model_type} model, not a CLIP or SigLIP model")
            self.prepare = prepared_by.from_pretrained(folder, trust_remote_code=False, **options)
        checkpoint.check_loaded(self.model, loaded, subject=self.subject)
        checkpoint.check_values(self.model, subject=self.subject)
        self.device = torch.device(device)
        self.model.eval().to(self.device)

    def _finite(self, features: torch.Tensor) -> np.ndarray:
        values = np.asarray(features.float().cpu().numpy())
        if not np.isfinite(values).all():
            raise InputError(
                f"{self.subject}: its features are not finite numbers; its files are damaged, fetch them again"
            )
        return values


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
        self.load = ProcessedPicture(self.prepare)
        probes = [Image.new("RGB", (32, 32)), Image.linear_gradient("L").convert("RGB")]
        with checkpoint.loading(subject=self.subject, folder=None):
            features = self.encode(np.stack([self.load(probe) for probe in probes]))
        if (features[0] == features[1]).all():
            raise InputError(
                f"{self.subject}: a black picture and a gradient have the same features; give the model's own "
                "preprocessor_config.json"
            )
        self.width = features.shape[1]

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Encode float32 [batch, 3, height, width] into float32 [batch, width]."""
        output = self.model.get_image_features(pixel_values=torch.from_numpy(pixels).to(self.device))
        return self._finite(output.pooler_output)

    @torch.inference_mode()
    def encode_cells(self, pixels: np.ndarray, *, rows: int, columns: int) -> np.ndarray:
        """Encode float32 [batch, 3, height, width] into float32 [batch, rows * columns, width of the image tower].

        They are means over the last layer's patches, which for CLIP are not in the space of the projected embeddings.

        Raises:
            UnsupportedError: If the model gives no patches that lie in a grid, or fewer than there are cells.
        """
        output = self.model.get_image_features(pixel_values=torch.from_numpy(pixels).to(self.device))
        subject = f"encoder {self.name}"
        patch = getattr(self.model.config.vision_config, "patch_size", None)
        maps = patch_maps(output.last_hidden_state, pixels.shape[-2:], patch_size=patch, subject=subject)
        means = cell_means(maps, rows=rows, columns=columns, subject=subject)
        return self._finite(torch.from_numpy(means))


class ClipTexts(_Tower):
    """Text embeddings of a CLIP or SigLIP model, in the space of its image embeddings (paper E.8)."""

    def __init__(self, name: str, *, device: str) -> None:
        """Load a model; arguments and errors as for :class:`ClipImages`."""
        super().__init__(name, prepared_by=AutoTokenizer, device=device)
        rows = len(self.model.text_model.get_input_embeddings().weight)
        checkpoint.check_vocabulary(self.prepare, rows, subject=self.subject, padded=True)
        self.longest = int(self.model.config.text_config.max_position_embeddings)
        # SigLIP reads the last position and was trained on padded texts without a mask.
        self.padding = "max_length" if self.model.config.model_type.startswith("siglip") else "longest"
        bias = getattr(self.model, "logit_bias", None)
        # What SigLIP was trained to put into its sigmoid; CLIP's softmax knows no score of a single pair.
        self._logit = None if bias is None else (self.model.logit_scale.exp().item(), bias.item())
        with checkpoint.loading(subject=self.subject, folder=None):
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
        return self._finite(output.pooler_output)

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
