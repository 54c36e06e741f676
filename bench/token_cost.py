"""Figure 1(a) of the paper: how many tokens an item and a prompt take in each representation."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.frames.token_cost import ABOUT, UNITS, distribution, frame
from bench.harness.bench import Bench
from bench.harness.methods import PAPER, WRITERS, check_llm_methods, representation_of
from bench.harness.pictures import check_reads_pictures
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.timed_methods import described, untrained_writer
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome, Record
from bench.store.store import Store
from illmrec.assembly import load_representation
from illmrec.command_line import run
from illmrec.features.grids import MLLM, of_pictures
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.tokens import TokenisedItems, tokenise_items

# Run as a program this module is __main__, whose log nobody set up.
logger = logging.getLogger("bench.token_cost")

VERSION = 1


def main(settings: Settings, *, methods: tuple[str, ...] = PAPER) -> int:
    """Count the tokens of items and prompts in each representation (Figure 1(a)): the distribution, not only the mean.

    Items are those of the catalogue; prompts are every user's at test time, with --history-length items and within
    --context. Nothing is trained and the LLM is not run; only its tokenizer is used. Of methods by which the LLM
    writes items (lc-rec, idgenrec) what stands in prompts is counted, and not what is written. Prompts that exceed the
    LLM's positions are counted whole, and a warning says of which methods they are: where the LLM is run, their oldest
    items are dropped. Writes tables/token_cost.csv under --out.

    Args:
        settings: Data and LLM.
        methods: Representations to count.
    """
    names = check_llm_methods(methods, why="show items in tokens", writers=True)
    bench = Bench(ABOUT, settings)
    records = bench.run(
        [token_cell(bench.workspace, name) for name in dict.fromkeys(names)],
        compute_tokens(bench.workspace),
        work=lambda cell: Work(summaries="summarizer" in cell.config),
    )
    warn_of_longer(
        records, bench.store, limit=None if bench.silent else bench.workspace.backbone.longest_input
    )
    table = frame(records, bench.store)
    bench.write(table)
    for unit in UNITS:
        shown = table[table["unit"] == unit].drop(
            columns=["dataset", "fingerprint", "llm", "unit", "context"]
        )
        bench.show(shown, f"Tokens of one {unit} on {bench.workspace.dataset.name}, {bench.settings.llm}")
    return bench.finish()


def warn_of_longer(records: Sequence[Record], store: Store, *, limit: int | None) -> None:
    """Log a warning for each method some of whose prompts, as they are counted, exceed the LLM's positions.

    Args:
        records: Cells of this experiment, of one LLM.
        store: The store that holds them.
        limit: Positions of the LLM, or ``None`` where there is no such number.
    """
    for record in records if limit is not None else ():
        tokens = store.read_frame(record, "prompts")["tokens"]
        if longer := int((tokens > limit).sum()):
            logger.warning(
                "%s: %s of %s prompts, of up to %s tokens, exceed the LLM's %s positions; wherever the LLM is run, the "
                "oldest of their items are dropped",
                record.method,
                f"{longer:,}",
                f"{len(tokens):,}",
                f"{tokens.max():,}",
                f"{limit:,}",
            )


def token_cell(workspace: Workspace, method: str) -> Cell:
    """Return the cell of a representation: everything that its numbers of tokens depend on."""
    settings, dataset = workspace.settings, workspace.dataset
    llm = workspace.backbone.describe()
    config: dict[str, Any] = {
        "method": method,
        "seed": 0,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        **described(workspace, method),
        "llm": f"{llm['name']}@{llm['content']}" if "content" in llm else llm["name"],
        "history_length": settings.history_length,
        "context": settings.context,
    }
    if method not in WRITERS and "summary" in load_representation(representation_of(method)).columns:
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
        length = cell.config["history_length"]
        tested = workspace.split.users("test")
        histories = [workspace.split.history(int(user), "test")[-length:] for user in tested]
        if cell.method in WRITERS:
            model = untrained_writer(cell.method, workspace, history_length=length)
            of_items, of_prompts = model.item_tokens, model.prompt_tokens(histories)
            dropped = [history[: -model.history_length] for history in histories]
            dropped_items = [len(history) for history in dropped]
            dropped_tokens = [int(of_items[history].sum()) for history in dropped]
        else:
            items = shown_items(workspace, cell.config["representation"])
            tokenizer = workspace.backbone.tokenizer
            prompts = PromptBuilder(items=items, tokenizer=tokenizer, context=cell.config["context"])
            fitted = [prompts.fit(history) for history in histories]
            of_items, of_prompts = items.lengths, prompts.token_counts(fitted)
            dropped_items = [history.dropped_items for history in fitted]
            dropped_tokens = [history.dropped_tokens for history in fitted]
        return Outcome(
            results={"item": distribution(of_items), "prompt": distribution(of_prompts)},
            frames={
                "items": pd.DataFrame({"item_id": workspace.dataset.items["item_id"], "tokens": of_items}),
                "prompts": pd.DataFrame(
                    {
                        "user_id": np.asarray(workspace.dataset.user_ids)[tested],
                        "tokens": of_prompts,
                        "dropped_items": dropped_items,
                        "dropped_tokens": dropped_tokens,
                    }
                ),
            },
        )

    return compute


def shown_items(workspace: Workspace, name: str) -> TokenisedItems:
    """Return the tokens of all items as a representation shows them.

    Args:
        workspace: Data and the LLM's tokenizer.
        name: Of the representation, ``package.module:Class``.

    Raises:
        InputError: If its pictures are read by an LLM that reads none.
        UnsupportedError: If the data lack what it shows.
    """
    representation = load_representation(name)
    dataset = workspace.dataset_of(representation)
    everywhere = np.ones(dataset.n_items, dtype=bool)
    pictured = ~everywhere if dataset.images is None else dataset.images.available
    items = tokenise_items(
        dataset.items,
        representation,
        workspace.backbone.tokenizer,
        present={slot: pictured if of_pictures(slot) else everywhere for slot in representation.slots},
    )
    if MLLM in items.slots:
        check_reads_pictures(workspace.backbone)
        items = items.repeated({MLLM: workspace.backbone.picture_tokens})
    return items


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.token_cost"))
