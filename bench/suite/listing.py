"""``python -m bench list``: every experiment, its place in the paper, and what it would cost on this machine."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pandas as pd

from bench.frames.energy import JOULES_PER_WH, assumed_watts
from bench.frames.experiment import Experiment
from bench.harness.plan import Plan, planning
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.provenance import machine
from bench.store.results import print_table
from bench.store.shared import open_store
from bench.suite.catalogue import chosen
from bench.suite.estimate import Cost, Estimate
from bench.suite.options import experiment_options
from bench.suite.probe import probe
from bench.suite.words import energy_in_words, in_words, money_in_words
from illmrec.command_line import parse_options
from illmrec.errors import InputError
from illmrec.escaping import csv_text
from illmrec.files import atomic_write_text


def main(settings: Settings, *, experiments: tuple[str, ...] = (), table: Path | None = None) -> int:
    """List the experiments with an estimate of what they cost on this machine, in the order of python -m bench all.

    Each experiment plans its cells with the options that bench all gives it; one that these data cannot support is
    named with the reason. A probe of some seconds measures how fast this machine reads prompts of these data with this
    LLM, trains on them, encodes pictures and multiplies matrices; the cells' tokens, pictures and products over these
    rates are the estimate. It is good to a factor of two or so; bench all says at its end how far off it was. An
    experiment finds what those above it have trained; what is in the store already costs nothing. Energy is time times
    the power that this machine is assumed to draw (--watts); --price-per-hour or --instance add money.

    Args:
        settings: What the experiments would be run with.
        experiments: List only these; all by default.
        table: Write the estimates to this CSV file as well: experiment, seconds, gigabytes, watt_hours, cost, currency,
            reason.
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
    pricing = resolved.pricing()
    watts = assumed_watts(machine(), device=workspace.device, watts=pricing.watts)
    joules = found["seconds"] * (math.nan if watts is None else watts)
    costs = {"watt_hours": joules / JOULES_PER_WH, "cost": found["seconds"].map(pricing.cost)}
    found = found.assign(**costs, currency=pricing.code)[[*found.columns[:3], *costs, "currency", "reason"]]
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(table, csv_text(found, float_format="%.4g"))
    possible = found["reason"] == ""
    shown = pd.DataFrame(
        {
            "experiment": found["experiment"],
            "paper": [experiment.paper for experiment in listed],
            "time": found["seconds"].map(in_words).where(possible, ""),
            **_priced(found, possible),
            "memory": found["gigabytes"].map("{:.1f} GB".format).where(possible, ""),
            "question": [experiment.question for experiment in listed],
        }
    )
    llm = f"{workspace.backbone.name} ({workspace.backbone.layers} layers)"
    print_table(shown, title=f"Experiments on {workspace.dataset.name}, {llm}, preset {settings.preset}")
    for name, reason in found.loc[~possible, ["experiment", "reason"]].itertuples(index=False):
        print(f"not on these data: {name}: {reason}")
    together = [in_words(found["seconds"].sum())]
    together += [] if watts is None else [energy_in_words(found["watt_hours"].sum())]
    together += [] if pricing.hourly is None else [money_in_words(found["cost"].sum(), pricing.code)]
    print(f"Together {', '.join(together)}, one after the other; {settings.out} already holds what it holds.")
    if watts is not None:
        said = (
            "as --watts says"
            if pricing.watts is not None
            else "assumed from cores and GPU; --watts says it better"
        )
        print(f"Energy is time times {watts:g} W, {said}.")
    if pricing.hourly is not None:
        print(f"Money is time on this machine at {pricing.words()}.")
    print(f"Measured just now: {estimate.measured}.", flush=True)
    return 0


def _priced(found: pd.DataFrame, possible: pd.Series) -> dict[str, pd.Series]:
    """Return columns of energy and money in words, those that are known."""
    columns = {}
    if found["watt_hours"].notna().all():
        columns["energy"] = found["watt_hours"].map(energy_in_words).where(possible, "")
    if found["cost"].notna().all():
        prices = zip(found["cost"], found["currency"], strict=True)
        words = pd.Series([money_in_words(cost, code) for cost, code in prices], index=found.index)
        columns["money"] = words.where(possible, "")
    return columns


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
