"""Recommend items with a stored model: ``python -m illmrec.recommend``."""

from __future__ import annotations

import sys
from pathlib import Path

from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.escaping import shortened
from illmrec.recommender import Recommender
from illmrec.stored_models import OUT, model_folder

_WIDEST = 80  # characters of a title


def main(
    *,
    model: str,
    history: tuple[str, ...] = (),
    user: str | None = None,
    top_k: int = 10,
    repeats: bool = False,
    out: Path = OUT,
    device: str = "cpu",
) -> int:
    """Print the items that a trained model recommends after a history, the best first.

    Args:
        model: Key of a trained model in the store, or its folder, such as reports/out/store/artifacts/model/KEY.
        history: Item ids, joined by commas, the most recent last.
        user: Take the history of this user of the data set instead.
        top_k: How many items.
        repeats: Items of the history may be recommended again.
        out: Folder of results, in whose store the key is looked up.
        device: Where the LLM runs.
    """
    if bool(history) == (user is not None):
        raise InputError("give either --history or --user")
    if top_k < 1:
        raise InputError(f"--top-k {top_k}: must be at least 1")
    recommender = Recommender.load(model_folder(model, out=out), device=device)
    if user is not None:
        history = recommender.history_of(user)
    found = recommender.recommend(history, k=top_k, repeats=repeats)
    titles = recommender.dataset.items.set_index("item_id")["title"]
    print(
        "history: "
        + "; ".join(
            f"{item_id} {_in_a_line(titles[item_id])}"
            for item_id in history[-recommender.model.history_length :]
        )
    )
    found.index = found.index + 1
    shown = found.map(lambda value: _in_a_line(value) if isinstance(value, str) else value)
    print(shown.to_string(float_format=lambda value: f"{value:.3f}"))
    return 0


def _in_a_line(text: str) -> str:
    return shortened(" ".join(text.split()), _WIDEST)


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m illmrec.recommend", interrupted=""))
