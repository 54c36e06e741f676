"""``python -m bench.meters.generation``: beams over shared trunks beside transformers' own constrained ``generate``.

The same LLM, codes, users and beams, in turns on one machine. Codes, histories and vectors are drawn: cost does not
depend on what was learnt. With the LLM in float32 the lists must be the same, and the table says which share is.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from baselines.generative.beam_search import BeamResult, beam_search
from baselines.generative.lcrec import LCRec
from bench.meters.drawn_codes import LEVELS, drawn_codes
from bench.meters.generate_path import GeneratePath
from bench.meters.time_and_memory import Timer
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.cost import pass_flops

logger = logging.getLogger(__name__)

SHARED, GENERATE, GENERATE_CODES = "shared-trunks", "generate", "generate-codes"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the work is.

    Attributes:
        users: Users whose items are searched for, all together.
        items: Of the catalogue.
        history: Items of a history; users have half as many to that many.
        beams: Of the search.
        codebook: Codes of a level.
    """

    users: int = 8
    items: int = 5000
    history: int = 10
    beams: int = 20
    codebook: int = 256

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is out of range, or the codes are too few for the items.
        """
        for name in ("users", "items", "history", "beams"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: give at least 1")
        if self.codebook < 2 or self.codebook**LEVELS < self.items:
            raise InputError(
                f"--codebook {self.codebook}: too few codes for --items {self.items}; give more of them"
            )


def drawn_model(backbone: Backbone, scale: Scale, *, seed: int = 0) -> tuple[LCRec, list[np.ndarray]]:
    """Return a model with drawn codes, and histories."""
    generator = np.random.default_rng(seed)
    codes = drawn_codes(scale.items, scale.codebook, seed=seed)
    model = LCRec(
        backbone=backbone,
        codes=codes,
        codebook=scale.codebook,
        history_length=scale.history,
        beams=scale.beams,
        seed=seed,
    )
    lengths = generator.integers((scale.history + 1) // 2, scale.history + 1, size=scale.users)
    return model, [generator.integers(len(codes), size=length) for length in lengths]


class SharedPath:
    """Our beams.

    Args:
        model: The model.

    Attributes:
        tokens: Tokens put through the LLM so far.
    """

    def __init__(self, model: LCRec) -> None:
        self._model, self.tokens = model, 0
        trunk = model.engine.backbone.trunk
        trunk.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.tokens += keywords["inputs_embeds"].shape[0] * keywords["inputs_embeds"].shape[1]

    @torch.inference_mode()
    def search(self, histories: list[np.ndarray]) -> BeamResult:
        """Return as many items of each user as there are beams."""
        model = self._model
        return beam_search(model.writer(histories), model.trie, users=len(histories), beams=model.beams)


def race(
    paths: dict[str, Callable[[], Any]], *, repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Return seconds of each path's runs, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(repeats):
        for name, search in paths.items():
            with Timer(device) as timer:
                search()
            seconds[name].append(timer.seconds)
    return seconds


def main(
    scale: Scale,
    *,
    llm: str = "smollm2-135m",
    layers: int | None = None,
    dtype: str = "auto",
    device: str = "cpu",
    repeats: int = 3,
) -> int:
    """Time beam search over shared trunks and transformers' constrained generate in turns, and compare their lists.

    shared-trunks is ours: each user's trunk once, one token a beam and step. generate is transformers' own, with the
    LLM's words and the codes in its vocabulary; generate-codes has the codes alone. Columns: users a second (median
    over repeats), times as fast as generate-codes, tokens put through the LLM by one run, GFLOP of its matrices for
    them, and the share of lists equal to ours.

    Args:
        scale: How large the work is.
        llm: A causal LLM.
        layers: Keep its first so many blocks; "none" keeps all.
        dtype: auto, float32, bfloat16 or float16.
        device: A torch device.
        repeats: Timed runs of each path.
    """
    if repeats < 1:
        raise InputError(f"--repeats {repeats}: give at least 1")
    backbone = load_backbone(llm, layers=layers, dtype=dtype, device=device)
    table = compared(backbone, scale, repeats=repeats)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    return 0


def compared(backbone: Backbone, scale: Scale, *, repeats: int) -> pd.DataFrame:
    """Return one row for each path: users_per_second, speed_up over generate-codes, tokens, gflop, same_lists.

    Args:
        backbone: The LLM.
        scale: How large the work is.
        repeats: Timed runs of each path.
    """
    model, histories = drawn_model(backbone, scale)
    # What counts our tokens hangs on the LLM itself, so that copies of it are made before.
    theirs = {name: GeneratePath(model, words=name == GENERATE) for name in (GENERATE, GENERATE_CODES)}
    searches: dict[str, Any] = {SHARED: SharedPath(model), **theirs}
    searches[SHARED].search(histories[:1])  # what users share is run once
    searches[SHARED].tokens = 0
    # Not timed: libraries prepare for lengths that they have not seen.
    found = {name: path.search(histories) for name, path in searches.items()}
    tokens = {name: path.tokens for name, path in searches.items()}
    seconds = race(
        {name: partial(path.search, histories) for name, path in searches.items()},
        repeats=repeats,
        device=backbone.device,
    )
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    flops = pass_flops(backbone)
    ours = found[SHARED].items
    return pd.DataFrame(
        [
            {
                "path": name,
                "users_per_second": len(histories) / medians[name],
                "speed_up": medians[GENERATE_CODES] / medians[name],
                "tokens": tokens[name],
                "gflop": None if flops is None else tokens[name] * flops.token / 1e9,
                "same_lists": float((np.sort(found[name].items) == np.sort(ours)).all(axis=1).mean()),
            }
            for name in searches
        ]
    )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.meters.generation", interrupted=""))
