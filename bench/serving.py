"""What the next recommendation costs after one more item: a session that goes on, against encoding anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bench.frames.serving import (
    ABOUT,
    LENGTHS,
    SESSIONS,
    SMOKE_LENGTHS,
    SMOKE_SESSIONS,
    VERSION,
    WAYS,
    load_frame,
    serving_frame,
)
from bench.harness.bench import Bench
from bench.harness.methods import PAPER, check_llm_methods
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.timing import Timing, efficiency_cell, to_time, untrained_model, user_groups
from bench.meters.served import Served, time_served
from bench.store.cell import Cell, Outcome
from illmrec.command_line import run
from illmrec.errors import InputError, UnsupportedError


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = PAPER,
    lengths: tuple[int, ...] | None = None,
    sessions: tuple[int, ...] | None = None,
    group_users: int | None = None,
    repeats: int | None = None,
) -> int:
    """Measure the next recommendation after one more item: a session that goes on, against encoding anew.

    A session keeps the keys and values of a user's history, so that one more item costs its own tokens and one branch.
    Timed is everything from the item's id to the ten best items, for one user alone by length of the history, and for
    many sessions at once at the longest; each item is the last of a window that does not slide. All of it is timed
    in turns. Parameters, and the values of CF features, are made up: cost does not depend on them. Writes
    tables/serving.csv and tables/serving_load.csv under --out.

    Args:
        settings: Data and model; the whole LLM unless --layers says otherwise.
        methods: Representations to measure.
        lengths: Items of history, the appended one included; "none" takes 5,10,20, and 2,4 with the preset smoke.
        sessions: Sessions at once; "none" takes 1,8,32, and 1,4 with the preset smoke.
        group_users: Users of each length, one after the other; "none" takes 5, and 2 with the preset smoke.
        repeats: Times that everything is run, in an order drawn anew each time; "none" takes 3, and 2 with the preset
            smoke.
    """
    smoke = settings.preset == "smoke"
    names = check_llm_methods(methods, why="have prompts to go on from")
    lengths = lengths or (SMOKE_LENGTHS if smoke else LENGTHS)
    sessions = sessions or (SMOKE_SESSIONS if smoke else SESSIONS)
    if min(lengths) < 2:
        raise InputError("--lengths: give at least 2, an item and one more")
    if min(sessions) < 1:
        raise InputError("--sessions: give at least 1")
    group_users = (2 if smoke else 5) if group_users is None else group_users
    repeats = (2 if smoke else 3) if repeats is None else repeats
    timing = Timing(group_users=group_users, batch_users=1, repeats=repeats)
    bench = Bench(ABOUT, settings, whole_llm=True)
    groups = user_groups(bench.workspace, lengths, timing)
    cells = [
        _cell(bench, name, length, group, timing=timing) for name in names for length, group in groups.items()
    ]
    longest = max(lengths)
    cells += [
        _cell(bench, name, longest, groups[longest], timing=timing, sessions=count)
        for name in names
        for count in sessions
    ]
    records = bench.run(cells, compute_serving(bench, to_time(bench, cells)), work=expected_work)
    table, load = serving_frame(records), load_frame(records)
    bench.write(table)
    bench.write(load, "serving_load")
    on = f"{bench.workspace.dataset.name}, {bench.workspace.backbone.name}"
    bench.show(table, f"One more item on {on}")
    bench.show(load, f"Many sessions at once on {on}")
    return bench.finish()


def _cell(
    bench: Bench, name: str, length: int, users: np.ndarray, *, timing: Timing, sessions: int | None = None
) -> Cell:
    """Return the cell of one user after the other, or of so many sessions at once."""
    cell = efficiency_cell(bench.workspace, name, length, users, timing=timing)
    return replace(
        cell,
        experiment=ABOUT.name,
        version=VERSION,
        config={**cell.config, "sessions": sessions},
        label=cell.label if sessions is None else f"{name} {sessions} sessions",
    )


def expected_work(cell: Cell) -> Work:
    """Return what a cell takes: each history twice, to begin a session and anew, in each round."""
    config = cell.config
    prompts = config["sessions"] or config["group_users"]
    return Work(read=((cell.method, config["history_length"], 2 * prompts * (1 + config["repeats"])),))


def compute_serving(bench: Bench, cells: Sequence[Cell]) -> Callable[[Cell], Outcome]:
    """Return the function that measures a cell: the first one asked for times all of them, in turns.

    Args:
        bench: Data, features and LLM.
        cells: What is timed.
    """
    place = bench.workspace
    refused: dict[str, UnsupportedError] = {}

    @cache
    def served() -> dict[str, Served]:
        longest = max(cell.config["history_length"] for cell in cells)
        of_method: dict[str, Served] = {}
        found: dict[str, Served] = {}
        for cell in cells:
            config = cell.config
            try:
                if cell.method not in of_method:
                    model = untrained_model(
                        place, config["representation"], heads=config["heads"], history_length=longest
                    )
                    model.engine.check_continues()
                    of_method[cell.method] = Served(
                        name=cell.method,
                        model=model,
                        dataset=place.dataset,
                        catalogue=model.catalogue(),
                        requests=(),
                    )
            except UnsupportedError as error:
                refused[cell.key] = error
                continue
            users = np.flatnonzero(np.isin(np.asarray(place.dataset.user_ids, dtype=str), config["users"]))
            histories = [
                place.split.history(int(user), "test")[-config["history_length"] :] for user in users
            ]
            count = config["sessions"]
            # More sessions than users: some begin with the same history, each with keys and values of its own.
            requests = (
                [[history] for history in histories]
                if count is None
                else [[histories[number % len(histories)] for number in range(count)]]
            )
            found[cell.key] = replace(of_method[cell.method], name=cell.label, requests=requests)
        return found

    @cache
    def timings() -> dict[str, pd.DataFrame]:
        return time_served(
            served(),
            repeats=cells[0].config["repeats"],
            device=place.device,
            progress=place.settings.progress,
        )

    def compute(cell: Cell) -> Outcome:
        each = served().get(cell.key)
        if each is None:
            raise refused[cell.key]
        frame = timings()[cell.key]
        seconds = {way: frame.loc[frame["way"] == way, "seconds"] for way in WAYS}
        results: dict[str, Any] = {
            "method": cell.method,
            "history_length": cell.config["history_length"],
            "dtype": cell.config["llm"]["dtype"],
        }
        count = cell.config["sessions"]
        if count is None:
            results["score_difference"] = each.score_difference()
            results["ways"] = {
                way: {
                    "tokens": each.tokens(way),
                    "latency_ms_median": 1e3 * float(found.median()),
                    "latency_ms_p95": 1e3 * float(found.quantile(0.95)),
                }
                for way, found in seconds.items()
            }
        else:
            results["kept_mb"] = each.kept_mb()
            results["ways"] = {
                way: {"users_per_second": count / float(found.median())} for way, found in seconds.items()
            }
        return Outcome(results=results, frames={"timings": frame})

    return compute


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.serving"))
