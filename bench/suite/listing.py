"""``python -m bench list``: every experiment, its place in the paper, and what it would cost on this machine."""

from __future__ import annotations

import pandas as pd

from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.results import print_table
from bench.store.store import Store
from bench.suite.catalogue import chosen
from bench.suite.estimate import Estimate, in_words, probe


def main(settings: Settings, *, experiments: tuple[str, ...] = ()) -> int:
    """List the experiments with an estimate of what they cost on this machine, in the order of python -m bench all.

    The estimate comes from a probe of some seconds: how fast this machine reads prompts of these data with this LLM,
    trains on them, encodes pictures and multiplies matrices; the rest is a formula from numbers of users, items,
    tokens and epochs. It is good to a factor of two or so. An experiment finds what those above it have trained; what
    is in the store already costs nothing.

    Args:
        settings: What the experiments would be run with.
        experiments: List only these; all by default.
    """
    listed = chosen(experiments)
    settings = settings.resolved()
    workspace = Workspace(settings)
    store = Store(settings.out)
    measured = probe(workspace)
    estimate = Estimate(workspace, measured, store)
    seconds = [estimate.seconds(experiment, preset=settings.preset) for experiment in listed]
    table = pd.DataFrame(
        {
            "experiment": [experiment.name for experiment in listed],
            "paper": [experiment.paper for experiment in listed],
            "cost": [in_words(value) for value in seconds],
            "question": [experiment.question for experiment in listed],
        }
    )
    llm = f"{workspace.backbone.name} ({workspace.backbone.layers} layers)"
    print_table(table, title=f"Experiments on {workspace.dataset.name}, {llm}, preset {settings.preset}")
    print(
        f"Together {in_words(sum(seconds))}, one after the other; {settings.out} already holds what it holds."
    )
    print(f"Measured just now: {measured}. The rest is a formula.", flush=True)
    return 0
