"""The language model of a vision-language model as an LLM of the toolkit, and the check that both compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor

from illmrec.errors import InputError
from illmrec.features import checkpoint
from illmrec.features.mllm import VisionLanguageModel
from illmrec.features.sources import quiet
from illmrec.prompts.templates import INSTRUCTION, TASK

MLLM = "mllm:"
"""Before a vision-language model's name: its language model is the LLM, and the method ``mllm`` reads its pictures."""
_TOLERANCE = {torch.float32: 1e-3}
_HALF_TOLERANCE = 0.1
"""How far logits may lie from the whole model's, as a share of how much these spread."""


def load_language_model(name: str, *, dtype: torch.dtype) -> tuple[Any, Any, int]:
    """Load a vision-language model and return its language model as a causal LM.

    The vision side is used for a check and then dropped; features of pictures come from
    :func:`illmrec.features.mllm.mllm_features`.

    Args:
        name: Hub id or local folder.
        dtype: Of the weights in memory.

    Returns:
        The causal LM, on the CPU; its tokenizer; and how many tokens a picture takes.

    Raises:
        InputError: If it cannot be loaded, or its language model, given input embeddings of a picture, computes
            something else than the whole model computes from pixels.
    """
    subject = f"--llm {MLLM}{name}"
    whole = VisionLanguageModel(name, dtype=dtype, subject=subject)
    with checkpoint.loading(subject=subject, folder=None), quiet():
        causal = _causal(whole.model, subject)
        checkpoint.check_vocabulary(
            whole.tokenizer, len(causal.get_input_embeddings().weight), subject=subject
        )
        with torch.inference_mode():
            own, found = _logits(whole, causal)
    allowed = _TOLERANCE.get(dtype, _HALF_TOLERANCE) * float(own.std())
    distance = float((own - found).abs().max())
    if not distance <= allowed:
        raise InputError(
            f"{subject}: its language model reads a picture otherwise than as a run of tokens (logits {distance:.2g} "
            f"apart, {allowed:.2g} allowed), by positions or attention of its own; such models are not supported"
        )
    return causal, whole.tokenizer, len(whole.tokens.ids)


def _causal(model: Any, subject: str) -> Any:
    """Return a causal LM made of a whole model's language model and its head; no weight is copied."""
    with torch.device("meta"):
        causal: Any = transformers.AutoModelForCausalLM.from_config(model.config.get_text_config())
    prefix = causal.base_model_prefix
    kind = type(getattr(causal, prefix))
    trunk = next((part for part in model.modules() if type(part) is kind), None)
    if trunk is None:
        raise InputError(f"{subject}: no {kind.__name__} is found in it, which config.json says it has")
    setattr(causal, prefix, trunk)
    causal.set_output_embeddings(model.get_output_embeddings())
    if any(parameter.is_meta for parameter in causal.parameters()):
        raise InputError(
            f"{subject}: its language model has parts that are no causal LM's; it is not supported"
        )
    return causal.eval()


def _logits(whole: VisionLanguageModel, causal: Any) -> tuple[Tensor, Tensor]:
    """Return the logits of the whole model from pixels and text, and of its language model from embeddings, float32."""
    gradient = Image.linear_gradient("L").convert("RGB")
    pictures = [whole.load(picture) for picture in (gradient, Image.new("RGB", gradient.size, "red"))]
    before, after = (
        whole.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (TASK, INSTRUCTION)
    )
    ids = [*before]
    for _ in pictures:
        ids += [*whole.tokens.ids, *after]
    # Models take the pictures of a prompt one after the other, or of one prompt beside each other.
    inputs = {
        key: np.concatenate([picture[key] for picture in pictures], axis=1 if value.ndim > _rank(key) else 0)
        for key, value in pictures[0].items()
    }
    tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
    row = torch.tensor([ids])
    own = whole.model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False, **tensors).logits
    embedded = causal.get_input_embeddings()(row)[0]
    vectors = torch.from_numpy(whole.encode(pictures)).view(len(pictures), -1, whole.width)
    start = len(before)
    for picture in vectors.to(embedded.dtype):
        embedded[start : start + len(picture)] = picture
        start += len(picture) + len(after)
    found = causal(inputs_embeds=embedded[None], use_cache=False).logits
    return own.float(), found.float()


def _rank(key: str) -> int:
    """Return the dimensions of one array of pictures where each is a row: others have a row of pictures a prompt."""
    return 3 if "mask" in key else 4
