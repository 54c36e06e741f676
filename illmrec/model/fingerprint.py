"""What a language model *is*, whatever its name or folder: weights, configuration and tokenizer as a few digits.

Results are kept under it, so that weights trained on in the same folder, or pulled anew under the same hub name, are
another model, and a copy of a folder is the same one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from illmrec.files import hash_json

_ROW = 1024
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PROBE = (
    "The quick brown fox, 1,234.50 items\tand\n\n two  blanks; naïve café, ÆØÅ, 漢字かな, Привет, 🙂 "
    "{Title: Red mug, Brand: A&B (2nd), Category: a | b}, https://x.org/?q=1 don't CamelCase snake_case"
)
# Where it was found, what wrote it and how it happens to be run say nothing about what the model computes.
_INCIDENTAL = (
    "_name_or_path", "_model_name_or_path", "_commit_hash", "transformers_version", "dtype", "torch_dtype",
    "_attn_implementation", "attn_implementation", "use_cache",
)  # fmt: skip


def llm_fingerprint(model: Any, tokenizer: Any) -> str:
    """Return 16 hexadecimal digits that identify a causal LM and its tokenizer.

    Every weight counts: sums over rows of 1,024 as integers, which take as long as reading the memory once (0.1 s for
    135 M parameters in bfloat16). They depend on the data type that the weights were loaded in.

    Args:
        model: The causal LM as it was loaded, all blocks included.
        tokenizer: Its tokenizer.
    """
    weights = hashlib.sha256()
    for name, value in model.state_dict().items():
        weights.update(f"{name} {value.dtype} {list(value.shape)}:".encode())
        weights.update(_digest(value))
    described = {
        "weights": weights.hexdigest(),
        "config": _essential(model.config.to_diff_dict()),
        "tokenizer": tokenizer_fingerprint(tokenizer),
    }
    return hash_json(described)


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return 16 hexadecimal digits that identify how a tokenizer turns text into ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts: Any = sorted(tokenizer.get_vocab().items())
    if backend is not None:
        serialised = json.loads(backend.to_str())
        parts = [parts, {name: serialised.get(name) for name in ("model", "normalizer", "pre_tokenizer")}]
        # The vocabulary stands there already.
        (parts[1]["model"] or {}).pop("vocab", None)
    probed = tokenizer(_PROBE)["input_ids"]
    special = sorted((str(name), str(token)) for name, token in tokenizer.special_tokens_map.items())
    return hash_json([parts, list(probed), special])


def _digest(values: Tensor) -> bytes:
    """Return bytes that change with any value of a tensor, and with the order of rows."""
    flat = values.detach().contiguous().flatten()
    bits = flat.view(_INTEGERS[flat.element_size()]) if flat.element_size() in _INTEGERS else flat
    whole = len(bits) // _ROW * _ROW
    rows = bits[:whole].view(-1, _ROW)
    sums = rows.sum(dim=1, dtype=torch.int64).cpu().numpy().tobytes()
    # Sums do not see an exchange within a row: some values as they stand do.
    sample = rows[:: max(1, len(rows) // 64)][:64].cpu().numpy().tobytes()
    return sums + sample + bits[whole:].cpu().numpy().tobytes()


def _essential(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without what is incidental, as JSON values."""
    kept = {
        name: _essential(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _INCIDENTAL
    }
    # Infinity is a value of some families' configurations, and none of JSON's.
    text = json.dumps(kept, sort_keys=True, default=str)
    plain: dict[str, Any] = json.loads(text, parse_constant=str)
    return plain
