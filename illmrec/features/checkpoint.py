"""Models of others as they are loaded: errors of libraries in one line, and weights that did not arrive."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from illmrec.errors import InputError
from illmrec.features.model_files import AGAIN, QUANTISED, QUANTISED_NAME, check_descriptions, first_line

_PROBE = "a red mug, \u2603 \u6f22 \U0010fffd"  # with characters that only a tokenizer of bytes knows
# Buffers of older releases, which are computed today.
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids)$")
_OTHER_HEAD = re.compile(r"^(score|classifier|v_head|value_head|reward_head|rm_head)\.")
_HINTS = (
    (re.compile(r"_orig_mod\."), "saved from a compiled model: save model._orig_mod instead"),
    (re.compile(r"base_model\.model\.|\.lora_[AB]\."), "an adapter: save model.merge_and_unload() instead"),
    (re.compile(r"^module\."), "saved from a parallel wrapper: save model.module instead"),
    (QUANTISED_NAME, QUANTISED),
)  # fmt: skip


@contextlib.contextmanager
def loading(*, subject: str, folder: Path | None) -> Iterator[None]:
    """Turn whatever a library raises on files that make no model into one line.

    The libraries raise anything here: ``SafetensorError`` and the errors of tokenizers derive from ``Exception``
    alone, absent packages give ``ImportError``, foreign configurations ``KeyError``, ``TypeError`` and others.

    Args:
        subject: The beginning of the message.
        folder: The local folder, whose damaged file is then looked for; None for a hub model.

    Raises:
        InputError: In place of the error.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if (
            not isinstance(error, Exception) and type(error).__name__ != "PanicException"
        ):  # of a library in Rust
            raise
        if folder is not None:
            check_descriptions(folder, subject=subject, whole=True)
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{subject}: it needs code of its own, which is never run; give a model whose architecture is in "
                "transformers itself"
            ) from error
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise InputError(
            f"{subject}: {kind}{first_line(error)}; give another, or a folder with a whole model that the installed "
            "transformers knows"
        ) from error


def check_loaded(
    model: Any,
    loaded: Mapping[str, Any],
    *,
    subject: str,
    unused: re.Pattern[str] | None = None,
    with_head: bool = False,
) -> None:
    """Check that all weights of a model came from its files.

    Args:
        model: The model, one of transformers.
        loaded: The loading info of ``from_pretrained``, with sizes that do not fit ignored.
        subject: The beginning of the message.
        unused: Names of weights that are not used, so that they may be missing.
        with_head: Whether the model's own head counts, so that the head of a classifier or reward model does not do.

    Raises:
        InputError: If weights are missing or have another shape, or the files have more for the same blocks.
    """
    missing = sorted(key for key in loaded["missing_keys"] if unused is None or not unused.search(key))
    unexpected = sorted(key for key in loaded["unexpected_keys"] if not _COMPUTED.search(key))
    hints = [*_HINTS, (_OTHER_HEAD, "a classifier or reward model")] if with_head else _HINTS
    hint = next((f" ({hint})" for pattern, hint in hints for key in unexpected if pattern.search(key)), "")
    if missing:
        instead = f"; the files have {unexpected[0]} instead{hint}" if unexpected else ""
        raise InputError(
            f"{subject}: {len(missing)} weights are missing: {missing[0]} is not in the files{instead}; "
            "save the whole model again or fetch it whole"
        )
    if loaded["mismatched_keys"]:
        name, stored, wanted = sorted(loaded["mismatched_keys"])[0]
        raise InputError(
            f"{subject}: {name} has shape {tuple(stored)} in the files and {tuple(wanted)} by config.json; "
            "give the config.json that belongs to these weights"
        )
    blocks = {prefix for name, _ in model.named_parameters() if (prefix := _block_prefix(name))}
    surplus = [key for key in unexpected if hint or _block_prefix(key) in blocks]
    if surplus:
        raise InputError(
            f"{subject}: the files hold {surplus[0]}, for which {type(model).__name__} has no place{hint}; "
            "give the config.json that belongs to these weights"
        )


def check_values(model: Any, *, subject: str) -> None:
    """Check that weights are numbers and that no matrix of a layer is constant, as files filled with zeros give.

    Reads every weight once. Parameters under names of their own may be constant: some begin as zeros.

    Raises:
        InputError: With the name of the first weight that is not.
    """
    import torch

    for name, weight in model.named_parameters():
        if not weight.is_floating_point():
            raise InputError(f"{subject}: {name} is of type {weight.dtype}: {QUANTISED}")
        if not weight.numel():
            continue
        low, high = (float(value) for value in torch.aminmax(weight.detach()))
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise InputError(
                f"{subject}: {name} is not finite: the file is damaged or the numbers do not fit "
                f"{str(weight.dtype).removeprefix('torch.')}; {AGAIN}, or try --dtype float32"
            )
        trained = name.endswith(".weight") or ".experts." in name
        if trained and weight.ndim > 1 and weight.numel() > 1 and low == high:
            raise InputError(f"{subject}: {name} is {low or 0:g} everywhere: the file is damaged; {AGAIN}")


def check_vocabulary(tokenizer: Any, rows: int, *, subject: str, padded: bool = False) -> None:
    """Check that every token that a text can give has a row in the embedding table.

    Special tokens without a row are allowed where no text gives them: texts are read without them.

    Args:
        tokenizer: A tokenizer of transformers or of tokenizers.
        rows: Length of the table.
        subject: The beginning of the message.
        padded: Whether the padding token is looked up, too.

    Raises:
        InputError: With the first token that has none.
    """
    if hasattr(tokenizer, "added_tokens_decoder"):
        added, given = tokenizer.added_tokens_decoder, set(tokenizer(_PROBE)["input_ids"])
        given |= {tokenizer.pad_token_id} if padded else set()
    else:
        added, given = tokenizer.get_added_tokens_decoder(), set(tokenizer.encode(_PROBE).ids)
    outside = sorted(
        (number, token)
        for token, number in tokenizer.get_vocab().items()
        if number >= rows and (number in given or not (number in added and added[number].special))
    )
    if outside:
        number, token = outside[0]
        raise InputError(
            f"{subject}: the tokenizer's token {token!r} has id {number}, the model has rows 0 to {rows - 1}; give the "
            "model's own tokenizer, or resize_token_embeddings, train and save"
        )


def _block_prefix(name: str) -> str:
    """Return a weight's name up to the first number, which counts blocks; empty where there is none."""
    found = re.match(r"(.*?\.)?\d+\.", name)
    return (found[1] or ".") if found else ""
