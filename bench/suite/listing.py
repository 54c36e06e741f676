"""``python -m bench list``: every experiment, its place in the paper, and what it would cost on this machine."""

from __future__ import annotations

import importlib
from pathlib import Path

import pandas as pd

from bench.frames.experiment import Experiment
from bench.harness.plan import Plan, planning
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.results import print_table
from bench.store.shared import open_store
from bench.suite.catalogue import chosen
from bench.suite.estimate import Cost, Estimate, in_words
from bench.suite.options import experiment_options
from bench.suite.probe import probe
from illmrec.command_line import parse_options
from illmrec.errors import InputError
from illmrec.files import atomic_write_text


def main(settings: Settings, *, experiments: tuple[str, ...] = (), table: Path | None = None) -> int:
    """List the experiments with an estimate of what they cost on this machine, in the order of python -m bench all.

    Each experiment plans its cells with the options that bench all gives it; one that these data cannot support is
    named with the reason. A probe of some seconds measures how fast this machine reads prompts of these data with this
    LLM, trains on them, encodes pictures and multiplies matrices; the cells' tokens, pictures and products over these
    rates are the estimate. It is good to a factor of two or so; bench all says at its end how far off it was. An
    experiment finds what those above it have trained; what is in the store already costs nothing.

    Args:
        settings: What the experiments would be run with.
        experiments: List only these; all by default.
        table: Write the estimates to this CSV file as well: experiment, seconds, gigabytes, reason.
    """
    listed = chosen(experiments)
    resolved = settings.resolved()
    workspace = Workspace(resolved)
    loaded = {resolved: workspace}
    estimate = Estimate(workspace, probe(workspace), open_store(resolved.out, resolved.store))
    rows = []
    for experiment in listed:
        cost, reason = expected(experiment, settings, estimate, loaded)
        rows.append((experiment.name, cost.seconds, cost.gigabytes, reason))
    found = pd.DataFrame(rows, columns=["experiment", "seconds", "gigabytes", "reason"])
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(table, found.to_csv(index=False, float_format="%.4g"))
    possible = found["reason"] == ""
    shown = pd.DataFrame(
        {
            "experiment": found["experiment"],
            "paper": [experiment.paper for experiment in listed],
            "cost": found["seconds"].map(in_words).where(possible, ""),
            "memory": found["gigabytes"].map("{:.1f} GB".format).where(possible, ""),
            "question": [experiment.question for experiment in listed],
        }
    )
    llm = f"{workspace.backbone.name} ({workspace.backbone.layers} layers)"
    print_table(shown, title=f"Experiments on {workspace.dataset.name}, {llm}, preset {settings.preset}")
    for name, reason in found.loc[~possible, ["experiment", "reason"]].itertuples(index=False):
        print(f"not on these data: {name}: {reason}")
    together = in_words(found["seconds"].sum())
    print(f"Together {together}, one after the other; {settings.out} already holds what it holds.")
    print(f"Measured just now: {estimate.measured}.", flush=True)
    return 0


def expected(
    experiment: Experiment, settings: Settings, estimate: Estimate, loaded: dict[Settings, Workspace]
) -> tuple[Cost, str]:
    """Return what an experiment would cost, or nothing and why it cannot be run.

    Args:
        experiment: The experiment.
        settings: As the user gave them.
        estimate: What came before costs nothing again.
        loaded: Workspaces that are there, to which others are added.
    """
    plan = Plan(loaded=loaded)
    main = importlib.import_module(experiment.module).main
    options = parse_options(main, prog=experiment.module, args=experiment_options(experiment, settings))
    try:
        with planning(plan):
            main(**options)
    except InputError as error:
        return Cost(seconds=0.0, gigabytes=0.0), " ".join(str(error).splitlines())
    return estimate.cost(plan), ""
