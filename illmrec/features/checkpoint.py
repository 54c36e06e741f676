"""Model files of others: damage that is seen before they are loaded, and weights that did not arrive."""

from __future__ import annotations

import contextlib
import logging
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from illmrec.errors import InputError
from illmrec.files import parsed_json

logger = logging.getLogger(__name__)

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
ADAPTER = "adapter_config.json"
IS_ADAPTER = (
    "it holds an adapter (adapter_config.json), which is not a whole model; load it with peft, merge_and_unload() it "
    "into its base and give the saved result"
)
_AGAIN = "fetch it again"
_NAMES = {
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", "modules.json", f"{SAFE}.index.json", f"{PICKLED}.index.json",
}  # fmt: skip
_SUFFIXES = {".model", ".spm", ".jinja", ".tiktoken"}
_SMALL = 1 << 20
_PROBE = "a red mug, \u2603 \u6f22 \U0010fffd"  # with characters that only a tokenizer of bytes knows
_QUANTISED_NAME = re.compile(r"\.(qweight|qzeros|scales|absmax|quant_map|weight_scale(_inv)?|weight_packed)$")
# Buffers of older releases, which are computed today.
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids)$")
_QUANTISED = "quantised weights, which are not read; give the unquantised model"
# What libraries loop over before they look at the weights, and more of it than any model has.
_LOOPED = ((re.compile(r"layers?$|blocks?$|depths?$"), 1_000), (re.compile(r"experts$|labels$"), 100_000))
_OTHER_HEAD = re.compile(r"^(score|classifier|v_head|value_head|reward_head|rm_head)\.")
_HINTS = (
    (re.compile(r"_orig_mod\."), "saved from a compiled model: save model._orig_mod instead"),
    (re.compile(r"base_model\.model\.|\.lora_[AB]\."), "an adapter: save model.merge_and_unload() instead"),
    (re.compile(r"^module\."), "saved from a parallel wrapper: save model.module instead"),
    (_QUANTISED_NAME, _QUANTISED),
)  # fmt: skip


def check_descriptions(folder: Path, *, subject: str, whole: bool = False) -> None:
    """Check the small files of a model: configuration and tokenizer.

    Args:
        folder: Where they are.
        subject: The beginning of the message, which says what the user asked for: ``--llm NAME``.
        whole: Whether to parse large JSON files, too, which takes seconds.

    Raises:
        InputError: If one is a Git LFS pointer, a web page, a link to nothing, or not JSON, or if config.json counts
            more of something than any model has.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.name in _NAMES or path.suffix in _SUFFIXES)
        for path in paths:
            _check_start(path, subject)
            if path.suffix == ".json" and (whole or path.stat().st_size < _SMALL):
                value = read_json(path, subject=subject)
                if path.name == "config.json":
                    _check_counts(value, subject)
    except OSError as error:
        raise InputError(
            f"{subject}: {folder} cannot be read ({error.strerror}); check its rights"
        ) from error


def _check_counts(config: Any, subject: str) -> None:
    parts = [config]
    for part in parts:  # and what is added meanwhile
        for key, value in part.items() if isinstance(part, dict) else ():
            parts.append(value)
            most = next((most for pattern, most in _LOOPED if pattern.search(key)), None)
            counts = value if isinstance(value, list) else [value]
            if most and any(isinstance(count, int) and count > most for count in counts):
                said = f"config.json says {key} {first_line(ValueError(value))}"
                raise InputError(f"{subject}: {said}, and no model has more than {most:,}; {_AGAIN}")


def read_json(path: Path, *, subject: str) -> Any:
    """Return a JSON file's value.

    Raises:
        InputError: If it is not JSON.
    """
    try:
        return parsed_json(path.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise InputError(
            f"{subject}: {path.name} is not valid JSON ({first_line(error)}); {_AGAIN}"
        ) from error


def check_model(folder: Path, *, subject: str, wanted: str) -> None:
    """Check the files of a local model: descriptions, configuration and weights.

    Args:
        folder: Its folder.
        subject: What error messages call it.
        wanted: What the folder should hold.

    Raises:
        InputError: If it is an adapter, has no configuration, or its files are not what their names say.
    """
    check_descriptions(folder, subject=subject)
    if (folder / ADAPTER).exists():
        raise InputError(f"{subject}: {IS_ADAPTER}")
    if not (folder / "config.json").exists():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        hint = f"; did you mean its folder '{inside[0]}'?" if inside else ""
        if any(folder.glob("*.gguf")):
            check_weights(folder, subject=subject)
        raise InputError(f"{subject}: it holds no config.json{hint}; give a folder that holds {wanted}")
    if not isinstance(read_json(folder / "config.json", subject=subject), dict):
        raise InputError(f"{subject}: config.json holds no object; fetch it again")
    check_weights(folder, subject=subject)


def check_weights(folder: Path, *, subject: str) -> None:
    """Check the files that hold a model's weights, without reading the weights.

    Raises:
        InputError: If there are none, two sets, or shards that the index names and the folder lacks; or if one is a
            Git LFS pointer, a web page, cut short or quantised.
    """
    try:
        for path in _weight_files(folder, subject):
            _check_start(path, subject)
            if path.suffix == ".safetensors":
                _check_safetensors(path, subject)
            else:
                _check_pickled(path, subject)
    except OSError as error:
        raise InputError(
            f"{subject}: {folder} cannot be read ({error.strerror}); check its rights"
        ) from error


def holds_weights(folder: Path) -> bool:
    """Return whether a folder has weights under names that transformers reads, whole or in shards."""
    return any(
        re.fullmatch(r"(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)", path.name)
        for path in (folder.iterdir() if folder.is_dir() else ())
    )


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
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of a library in Rust
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
            raise InputError(f"{subject}: {name} is of type {weight.dtype}: {_QUANTISED}")
        if not weight.numel():
            continue
        low, high = (float(value) for value in torch.aminmax(weight.detach()))
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise InputError(
                f"{subject}: {name} is not finite: the file is damaged or the numbers do not fit "
                f"{str(weight.dtype).removeprefix('torch.')}; {_AGAIN}, or try --dtype float32"
            )
        trained = name.endswith(".weight") or ".experts." in name
        if trained and weight.ndim > 1 and weight.numel() > 1 and low == high:
            raise InputError(f"{subject}: {name} is {low or 0:g} everywhere: the file is damaged; {_AGAIN}")


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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, with what a colon announces, cut to a readable length.

    It is the error's type where there is no message.
    """
    line, *others = (str(error).strip() or type(error).__name__).splitlines()
    if line.endswith(":") and others:
        line = f"{line} {others[0].strip()}"
    return line if len(line) <= 200 else f"{line[:197]}..."


def _block_prefix(name: str) -> str:
    """Return a weight's name up to the first number, which counts blocks; empty where there is none."""
    found = re.match(r"(.*?\.)?\d+\.", name)
    return (found[1] or ".") if found else ""


def _weight_files(folder: Path, subject: str) -> list[Path]:
    """Return the files that transformers reads: safetensors before PyTorch's format, a single file before shards."""
    for name in (SAFE, PICKLED):
        single, index = folder / name, folder / f"{name}.index.json"
        if _there(single) and _there(index):
            raise InputError(f"{subject}: it holds both {single.name} and {index.name}; remove the stale one")
        if _there(single):
            return [single]
        if _there(index):
            return _shards(index, subject)
    found = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix
        in {".safetensors", ".bin", ".gguf", ".h5", ".pt", ".pth", ".ckpt", ".msgpack", ".onnx"}
    )
    shards = [name for name in found if re.search(r"-\d+-of-\d+\.(safetensors|bin)$", name)]
    if shards:
        raise InputError(
            f"{subject}: {shards[0]} is one of several shards, but their index is not there; fetch it"
        )
    if any(name.endswith(".gguf") for name in found):
        raise InputError(
            f"{subject}: {found[0]}: GGUF files are not read; give the model in safetensors "
            "(transformers: from_pretrained(..., gguf_file=...), then save_pretrained)"
        )
    others = f"; {found[0]} is not read" if found else ""
    raise InputError(f"{subject}: it holds no weights{others}; give a folder with {SAFE}")


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _shards(index: Path, subject: str) -> list[Path]:
    _check_start(index, subject)
    content = read_json(index, subject=subject)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named:
        raise InputError(f"{subject}: {index.name} has no 'weight_map'; {_AGAIN}")
    files = [index.parent / name for name in sorted(set(map(str, named.values())))]
    absent = [path.name for path in files if not _there(path)]
    if absent:
        raise InputError(
            f"{subject}: {absent[0]} is not there ({len(absent)} of {len(files)} files of {index.name}); fetch it"
        )
    return files


def _check_start(path: Path, subject: str) -> None:
    """Look at a file's first bytes for what is saved in place of files."""
    if not path.exists():
        raise InputError(f"{subject}: {path.name} is a link to a file that is not there; {_AGAIN}")
    with path.open("rb") as file:
        start = file.read(256)
    if not start:
        raise InputError(f"{subject}: {path.name} is empty; {_AGAIN}")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{subject}: {path.name} is a Git LFS pointer, not the file itself; run 'git lfs pull' in the folder"
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"{subject}: {path.name} is a web page, not the file itself; {_AGAIN}")


def _check_safetensors(path: Path, subject: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{subject}: {path.name} is damaged or no safetensors file ({first_line(error)}); {_AGAIN}"
        ) from error
    if not types:
        raise InputError(f"{subject}: {path.name} holds no weights; save the model again or {_AGAIN}")
    for name, kind in types.items():
        packed = kind.startswith(("F8", "F6", "F4")) or (kind[0] in "IU" and name.endswith(".weight"))
        if packed or _QUANTISED_NAME.search(name):
            raise InputError(f"{subject}: {path.name}: {name} ({kind}): {_QUANTISED}")


def _check_pickled(path: Path, subject: str) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK" and not zipfile.is_zipfile(path):
        raise InputError(f"{subject}: {path.name} is cut short; {_AGAIN}")
    logger.warning(
        "%s: %s is PyTorch's pickle format; it is read without running code in it, but %s is the safe format",
        subject,
        path.name,
        SAFE,
    )
