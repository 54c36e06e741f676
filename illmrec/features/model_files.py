"""The files of a model of others: damage that is seen before they are loaded."""

from __future__ import annotations

import logging
import re
import zipfile
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
AGAIN = "fetch it again"
_NAMES = {
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", "modules.json", f"{SAFE}.index.json", f"{PICKLED}.index.json",
}  # fmt: skip
_TOKENIZER = {
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "tekken.json",
}  # fmt: skip
_VOCABULARY = {".model", ".spm", ".tiktoken"}
_SUFFIXES = _VOCABULARY | {".jinja"}
_SMALL = 1 << 20
QUANTISED_NAME = re.compile(r"\.(qweight|qzeros|scales|absmax|quant_map|weight_scale(_inv)?|weight_packed)$")
QUANTISED = "quantised weights, which are not read; give the unquantised model"
# What libraries loop over before they look at the weights, and more of it than any model has.
_LOOPED = ((re.compile(r"layers?$|blocks?$|depths?$"), 1_000), (re.compile(r"experts$|labels$"), 100_000))


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
                raise InputError(f"{subject}: {said}, and no model has more than {most:,}; {AGAIN}")


def read_json(path: Path, *, subject: str) -> Any:
    """Return a JSON file's value.

    Raises:
        InputError: If it is not JSON.
    """
    try:
        return parsed_json(path.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise InputError(
            f"{subject}: {path.name} is not valid JSON ({first_line(error)}); {AGAIN}"
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


def check_tokenizer(folder: Path, *, subject: str) -> None:
    """Check that a folder holds a tokenizer, of whichever form; where there is none, libraries say something else.

    Raises:
        InputError: If there is none.
    """
    if not any(path.name in _TOKENIZER or path.suffix in _VOCABULARY for path in folder.iterdir()):
        raise InputError(
            f"{subject}: it holds no tokenizer.json or tokenizer_config.json; put the files of the model's tokenizer "
            "beside its weights"
        )


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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, with what a colon announces, cut to a readable length.

    It is the error's type where there is no message.
    """
    line, *others = (str(error).strip() or type(error).__name__).splitlines()
    if line.endswith(":") and others:
        line = f"{line} {others[0].strip()}"
    return line if len(line) <= 200 else f"{line[:197]}..."


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
        raise InputError(f"{subject}: {index.name} has no 'weight_map'; {AGAIN}")
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
        raise InputError(f"{subject}: {path.name} is a link to a file that is not there; {AGAIN}")
    with path.open("rb") as file:
        start = file.read(256)
    if not start:
        raise InputError(f"{subject}: {path.name} is empty; {AGAIN}")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{subject}: {path.name} is a Git LFS pointer, not the file itself; run 'git lfs pull' in the folder"
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"{subject}: {path.name} is a web page, not the file itself; {AGAIN}")


def _check_safetensors(path: Path, subject: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{subject}: {path.name} is damaged or no safetensors file ({first_line(error)}); {AGAIN}"
        ) from error
    if not types:
        raise InputError(f"{subject}: {path.name} holds no weights; save the model again or {AGAIN}")
    for name, kind in types.items():
        packed = kind.startswith(("F8", "F6", "F4")) or (kind[0] in "IU" and name.endswith(".weight"))
        if packed or QUANTISED_NAME.search(name):
            raise InputError(f"{subject}: {path.name}: {name} ({kind}): {QUANTISED}")


def _check_pickled(path: Path, subject: str) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK" and not zipfile.is_zipfile(path):
        raise InputError(f"{subject}: {path.name} is cut short; {AGAIN}")
    logger.warning(
        "%s: %s is PyTorch's pickle format; it is read without running code in it, but %s is the safe format",
        subject,
        path.name,
        SAFE,
    )
