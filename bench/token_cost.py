"""Figure 1(a) of the paper: how many tokens an item and a prompt take in each representation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from bench.frames.token_cost import ABOUT, UNITS, distribution, frame
from bench.harness.bench import Bench
from bench.harness.methods import PAPER, check_llm_methods, representation_of
from bench.harness.pictures import check_reads_pictures
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome
from illmrec.assembly import load_representation
from illmrec.command_line import run
from illmrec.features.grids import MLLM, of_pictures
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.tokens import tokenise_items

VERSION = 1


def main(settings: Settings, *, methods: tuple[str, ...] = PAPER) -> int:
    """Count the tokens of items and prompts in each representation (Figure 1(a)): the distribution, not only the mean.

    Items are those of the catalogue; prompts are every user's at test time, with --history-length items and within
    --context. Nothing is trained and the LLM is not run; only its tokenizer is used. Writes tables/token_cost.csv
    under --out.

    Args:
        settings: Data and LLM.
        methods: Representations to count.
    """
    names = check_llm_methods(methods, why="show items in tokens")
    bench = Bench(ABOUT, settings)
    records = bench.run(
        [token_cell(bench.workspace, name) for name in dict.fromkeys(names)],
        compute_tokens(bench.workspace),
        work=lambda cell: Work(summaries="summarizer" in cell.config),
    )
    table = frame(records, bench.store)
    bench.write(table)
    for unit in UNITS:
        shown = table[table["unit"] == unit].drop(
            columns=["dataset", "fingerprint", "llm", "unit", "context"]
        )
        bench.show(shown, f"Tokens of one {unit} on {bench.workspace.dataset.name}, {bench.settings.llm}")
    return bench.finish()


def token_cell(workspace: Workspace, method: str) -> Cell:
    """Return the cell of a representation: everything that its numbers of tokens depend on."""
    settings, dataset = workspace.settings, workspace.dataset
    representation = representation_of(method)
    llm = workspace.backbone.describe()
    config: dict[str, Any] = {
        "method": method,
        "seed": 0,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        **workspace.shown(representation),
        "llm": f"{llm['name']}@{llm['content']}" if "content" in llm else llm["name"],
        "history_length": settings.history_length,
        "context": settings.context,
    }
    if "summary" in load_representation(representation).columns:
        config["summarizer"] = workspace.summarizer
    return Cell(
        experiment=ABOUT.name,
        version=VERSION,
        config=config,
        method=method,
        seed=0,
        dataset=dataset.statistics(),
        label=f"tokens of {method}",
    )


def compute_tokens(workspace: Workspace) -> Callable[[Cell], Outcome]:
    """Return the function that counts the tokens of a cell in this workspace.

    Results are ``distribution`` of ``item`` and ``prompt``; frames are items (item_id, tokens) and prompts (user_id,
    tokens, dropped_items, dropped_tokens).
    """

    def compute(cell: Cell) -> Outcome:
        representation = load_representation(cell.config["representation"])
        dataset = workspace.dataset_of(representation)
        everywhere = np.ones(dataset.n_items, dtype=bool)
        pictured = ~everywhere if dataset.images is None else dataset.images.available
        tokenizer = workspace.backbone.tokenizer
        items = tokenise_items(
            dataset.items,
            representation,
            tokenizer,
            present={slot: pictured if of_pictures(slot) else everywhere for slot in representation.slots},
        )
        if MLLM in items.slots:
            check_reads_pictures(workspace.backbone)
            items = items.repeated({MLLM: workspace.backbone.picture_tokens})
        prompts = PromptBuilder(items=items, tokenizer=tokenizer, context=cell.config["context"])
        tested = workspace.split.users("test")
        fitted = [
            prompts.fit(history, max_items=cell.config["history_length"])
            for history in (workspace.split.history(int(user), "test") for user in tested)
        ]
        tokens = prompts.token_counts(fitted)
        return Outcome(
            results={"item": distribution(items.lengths), "prompt": distribution(tokens)},
            frames={
                "items": pd.DataFrame({"item_id": dataset.items["item_id"], "tokens": items.lengths}),
                "prompts": pd.DataFrame(
                    {
                        "user_id": np.asarray(dataset.user_ids)[tested],
                        "tokens": tokens,
                        "dropped_items": [f.dropped_items for f in fitted],
                        "dropped_tokens": [f.dropped_tokens for f in fitted],
                    }
                ),
            },
        )

    return compute


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.token_cost"))
