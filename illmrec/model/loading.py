"""Loading a causal language model and its tokenizer: what is refused before, and what is checked after."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download

from illmrec.errors import InputError
from illmrec.features import checkpoint, commits, model_files
from illmrec.features.commits import split_name
from illmrec.features.sources import local_folder, quiet, refuse_missing_folder
from illmrec.model.embedded import EMBEDDED, embedded_folder
from illmrec.prompts.templates import TASK

logger = logging.getLogger(__name__)

RANDOM = "random:"
"""Before a model's name: the same architecture and tokenizer with weights drawn anew, a control for what is learnt."""
_RANDOM_SEED = 1
# Families whose models were trained with a begin token before every text and are lost without it.
_NEEDS_BOS = re.compile(r"gemma")
_OTHER_HEAD = re.compile(
    r"For(MaskedLM|PreTraining|\w*Classification|QuestionAnswering|MultipleChoice|NextSentencePrediction)$|Reward"
)


def load_model(name: str, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load a causal LM and its tokenizer, and check that they are whole and belong together.

    Code that comes with a model is never run, and neither is code in pickled weights. The weights themselves are
    checked by :func:`illmrec.features.checkpoint.check_values` once it is known which are kept.

    Args:
        name: ``smollm2-135m``, a hub id (``OWNER/MODEL`` or ``OWNER/MODEL@REVISION``) or a local folder; after
            ``random:``, its weights are drawn anew.
        dtype: Of the weights in memory.

    Returns:
        The model, on the CPU, and its tokenizer.

    Raises:
        InputError: One line that names the file and the remedy, for everything that is not a whole causal LM.
    """
    if name.startswith(RANDOM):
        model, tokenizer = load_model(name.removeprefix(RANDOM), dtype=dtype)
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(_RANDOM_SEED)
            return transformers.AutoModelForCausalLM.from_config(model.config, dtype=dtype), tokenizer
    subject = f"--llm {name}"
    folder = embedded_folder() if name == EMBEDDED else _folder(name, subject)
    source, revision = split_name(name) if folder is None else (str(folder), None)
    if folder is not None:
        model_files.check_model(folder, subject=subject, wanted="a model")
        model_files.check_tokenizer(folder, subject=subject)
    with checkpoint.loading(subject=subject, folder=folder), quiet():
        if folder is None:
            try:
                described = Path(hf_hub_download(source, "config.json", revision=revision))
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{subject}: there is no such folder, and the model hub gives no config.json "
                    f"({model_files.first_line(error)}); check the name and the connection"
                ) from error
            revision = described.parent.name  # whatever is fetched is of the same commit
            commits.note(name, revision)
        _check_config(
            transformers.AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False),
            subject,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False
        )
        found: Any = transformers.AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # the check below names the weight, the library's error does not
            output_loading_info=True,
        )
    model, loaded = found
    if getattr(model, "_hf_peft_config_loaded", False):
        raise InputError(f"{subject}: {model_files.IS_ADAPTER}")
    checkpoint.check_loaded(model, loaded, subject=subject, with_head=True)
    with checkpoint.loading(subject=subject, folder=folder):
        rows = len(model.get_input_embeddings().weight)
        checkpoint.check_vocabulary(tokenizer, rows, subject=subject)
    if (
        tokenizer.pad_token_id is not None
        and tokenizer.pad_token_id >= rows
        and tokenizer.eos_token_id is not None
    ):
        tokenizer.pad_token = tokenizer.eos_token  # padding is never looked at, but must have a row
    _check_words(tokenizer, subject)
    if _NEEDS_BOS.search(model.config.get_text_config().model_type):
        _add_bos(tokenizer, subject)
    return model, tokenizer


def _folder(name: str, subject: str) -> Path | None:
    """Return the local folder, or None for a hub id."""
    folder = local_folder(name)
    if folder is not None:
        return folder
    if os.path.isfile(Path(name).expanduser()):  # Path.is_file raises for a name that is too long
        if name.lower().endswith(".gguf"):
            raise InputError(
                f"{subject}: GGUF files are not read; give a folder with the model in safetensors "
                "(transformers: from_pretrained(..., gguf_file=...), then save_pretrained)"
            )
        raise InputError(f"{subject} is a file; give the folder that holds the model")
    refuse_missing_folder(name, subject=subject)
    return None


def _check_config(config: Any, subject: str) -> None:
    """Refuse models that are not causal, and quantised ones, whose packed weights nothing here can count or train."""
    text = config.get_text_config()
    quantised = getattr(config, "quantization_config", None) or getattr(text, "quantization_config", None)
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        raise InputError(
            f"{subject}: config.json says that its weights are quantised ({method}), which is not supported; "
            "give the unquantised model, or dequantise and save it"
        )
    kind = ""
    if getattr(config, "is_encoder_decoder", False):
        kind = f"an encoder and a decoder ({config.model_type})"
    elif (
        getattr(config, "is_decoder", None) is False
        and type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    ):
        kind = f"an encoder ({config.model_type})"
    elif getattr(text, "use_bidirectional_attention", None) in (True, "all") or (
        getattr(text, "is_causal", None) is False
    ):
        kind = "a model that attends in both directions"
    else:
        heads = [name for name in config.architectures or () if _OTHER_HEAD.search(name)]
        kind = heads[0] if heads else ""
    if kind:
        raise InputError(f"{subject}: config.json describes {kind}, not a causal language model; give one")


def _check_words(tokenizer: Any, subject: str) -> None:
    """Refuse a tokenizer that knows no word of the prompts."""
    ids = set(tokenizer(TASK, add_special_tokens=False)["input_ids"])
    if not ids - {tokenizer.unk_token_id}:
        raise InputError(
            f"{subject}: the tokenizer reads {TASK[:30]!r}... as unknown; give the model's own tokenizer files"
        )


def _add_bos(tokenizer: Any, subject: str) -> None:
    """Let a tokenizer add the begin token, if it does not, and say so."""
    bos = tokenizer.bos_token_id
    if bos is not None and tokenizer(TASK)["input_ids"][0] == bos:
        return
    if bos is not None:
        tokenizer.add_bos_token = True
    added = bos is not None and tokenizer(TASK)["input_ids"][0] == bos
    logger.warning(
        "%s: models of this family need a begin token before every text and the tokenizer adds none; %s set bos_token "
        "and add_bos_token in tokenizer_config.json",
        subject,
        "it is added here; to say so yourself," if added else "results will be poor;",
    )
