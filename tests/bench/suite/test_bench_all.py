"""All experiments in one command: the registry against the modules, outcomes and interruption."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from programs import run_program

from bench import __main__ as program
from bench.frames.experiment import Experiment
from bench.harness.settings import Settings
from bench.suite import catalogue, everything
from bench.suite.catalogue import chosen, experiments
from bench.suite.options import option_list
from illmrec.command_line import parse_options, run
from illmrec.errors import InputError

BENCH = Path(catalogue.__file__).parent.parent
PRESETS = ("smoke", "small", "paper")


def test_every_experiment_that_can_be_run_is_registered():
    programs = {
        found[1]
        for path in BENCH.glob("*.py")
        if (found := re.search(r'sys\.exit\(run\(main, prog="python -m bench\.(\w+)"', path.read_text()))
    }
    assert programs == {experiment.name for experiment in experiments()}
    assert len(experiments()) == len(programs)


@pytest.mark.parametrize("experiment", experiments(), ids=lambda experiment: experiment.name)
def test_what_bench_all_adds_are_options_of_the_experiment(experiment):
    main = importlib.import_module(experiment.module).main
    for preset in PRESETS:
        extra = experiment.extra(preset=preset, dataset="toyshop")
        shared = ["--out", "somewhere", "--overwrite", "always", "--no-progress"]
        given = ["--preset", preset, "--seeds", "0,1", "--no-report"] if experiment.settings else []
        options = parse_options(main, prog=experiment.name, args=[*extra, *given, *shared])
        if experiment.settings:
            assert options["settings"].preset == preset and options["settings"].overwrite == "always"
        else:
            assert options["out"] == Path("somewhere") and options["progress"] is False
    assert experiment.extra(preset="smoke", dataset="folder:x") == [*experiment.arguments.get("smoke", ())]


def test_an_experiment_has_one_name_and_a_place_of_its_own():
    for experiment in experiments():
        assert importlib.import_module(f"bench.frames.{experiment.name}").ABOUT is experiment
    assert len({experiment.place for experiment in experiments()}) == len(experiments())


def test_settings_survive_the_command_line():
    settings = Settings(
        preset="paper",
        dataset="folder:a b",
        layers=3,
        seeds=(4, 5),
        overlap=0.25,
        context=700,
        out=Path("x/y"),
        overwrite="always",
        report=False,
        progress=False,
    )

    def command(settings: Settings) -> int:
        """Do nothing.

        Args:
            settings: All of them.
        """
        return 0

    options = option_list(settings)
    assert parse_options(command, prog="x", args=options)["settings"] == settings
    assert option_list(Settings()) == []
    assert option_list(settings, only=("out", "seeds")) == ["--seeds", "4,5", "--out", "x/y"]


@pytest.fixture
def three(monkeypatch) -> dict[str, tuple[int, str]]:
    """Three experiments that end as a test says; what was run is noted under 'ran'."""
    pretended = tuple(
        Experiment(name=name, paper="", question="", place=place, arguments={"smoke": ("--fast",)})
        for place, name in enumerate(("first", "second", "third"))
    )
    monkeypatch.setattr(catalogue, "experiments", lambda: pretended)
    ends: dict[str, tuple[int, str]] = {}
    ran: list[tuple[str, list[str]]] = []
    ends["ran"] = ran  # type: ignore[assignment]

    def end(module: str, arguments: list[str]) -> tuple[int, str]:
        ran.append((module, list(arguments)))
        return ends.get(module, (0, ""))

    monkeypatch.setattr(everything, "run_program", end)
    monkeypatch.setattr(everything, "build_report", lambda out, options: ran.append(("report", options)))
    return ends


def test_what_the_data_cannot_support_is_skipped_and_the_rest_goes_on(three, tmp_path, capsys):
    three["bench.first"] = (2, "12:00:00 INFO    loading\nerror: no item has an image; add images\n")
    priced = ["--price-per-hour", "0.5", "--currency", "EUR"]
    args = ["--preset", "smoke", "--seeds", "3", *priced, "--out", str(tmp_path), "--no-progress"]
    assert run(everything.main, prog="bench all", args=args) == 0
    modules = [module for module, _ in three["ran"]]
    assert modules == ["bench", "bench.first", "bench.second", "bench.third", "report"]
    given = dict(three["ran"])
    assert given["bench.second"][0] == "--fast", "the user's options come last, and win"
    assert given["report"] == priced, "the page is drawn at the same price"
    for part in (["--preset", "smoke"], ["--seeds", "3"], priced[:2], priced[2:]):
        place = given["bench.second"].index(part[0])
        assert given["bench.second"][place : place + 2] == part
    assert "--no-report" in given["bench.second"] and given["bench"][0] == "list"
    out = capsys.readouterr().out
    assert "skipped: first: no item has an image; add images" in out and out.count("done") == 2


def test_a_failure_is_status_1_and_does_not_stop_the_others(three, tmp_path, capsys):
    three["bench.first"] = (1, "12:00:00 ERROR   failed: illmrec seed 0 (ab12): ValueError: not finite\n")
    three["bench.second"] = (-signal.SIGKILL, "")
    args = ["--preset", "smoke", "--out", str(tmp_path), "--no-progress", "--no-report"]
    assert run(everything.main, prog="bench all", args=args) == 1
    assert [module for module, _ in three["ran"]] == ["bench", "bench.first", "bench.second", "bench.third"]
    out = capsys.readouterr().out
    assert "failed: first: illmrec seed 0 (ab12): ValueError: not finite" in out
    assert "failed: second: ended by SIGKILL, as when memory runs out" in out


def test_interruption_ends_everything_with_130(three, tmp_path):
    three["bench.second"] = (130, "interrupted: finished cells are kept\n")
    args = ["--preset", "smoke", "--out", str(tmp_path), "--no-progress"]
    assert run(everything.main, prog="bench all", args=args) == 130
    assert three["ran"][-1][0] == "bench.second"


def test_data_that_nothing_can_use_are_said_once(three, tmp_path):
    three["bench"] = (2, "error: unknown data set\n")
    assert run(everything.main, prog="bench all", args=["--out", str(tmp_path), "--no-progress"]) == 2
    assert [module for module, _ in three["ran"]] == ["bench"]


def test_only_some_experiments(three, tmp_path, capsys):
    args = ["--out", str(tmp_path), "--no-progress", "--no-report", "--experiments", "third,first"]
    assert run(everything.main, prog="bench all", args=args) == 0
    assert [module for module, _ in three["ran"]] == ["bench", "bench.first", "bench.third"]
    assert three["ran"][0][1][-2:] == ["--experiments", "third,first"]
    assert run(everything.main, prog="bench all", args=["--experiments", "thrid"]) == 2
    assert "did you mean 'third'" in capsys.readouterr().err
    with pytest.raises(InputError, match="unknown experiment"):
        chosen(["nothing"])


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "pretended.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_output_is_passed_on_and_its_end_kept(tmp_path, monkeypatch, capsys):
    fake(
        tmp_path, monkeypatch, "import sys\nprint('x' * 50000 + sys.argv[1], file=sys.stderr)\nsys.exit(7)\n"
    )
    status, tail = everything.run_program("pretended", ["the end"])
    assert status == 7 and tail.endswith("xthe end\n") and len(tail) < 20_000
    assert "x" * 50000 in capsys.readouterr().err


def test_a_signal_to_this_process_alone_ends_the_program_too(tmp_path, monkeypatch):
    fake(
        tmp_path,
        monkeypatch,
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n    pathlib.Path(sys.argv[1]).write_text('ended')\n    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', file=sys.stderr, flush=True)\n"
        "time.sleep(60)\n",
    )
    monkeypatch.setattr(everything, "_GRACE_SECONDS", 0.1)
    # As soon as the program has said something, this process gets what Ctrl-C sends.
    monkeypatch.setattr(everything, "_show", lambda chunk: os.kill(os.getpid(), signal.SIGINT))
    # A shell that starts tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            everything.run_program("pretended", [str(tmp_path / "note")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "note").read_text() == "ended"


def test_the_program_teaches_its_commands(capsys):
    assert program.main([]) == 0
    text = capsys.readouterr().out
    assert all(experiment.name in text for experiment in experiments())
    assert "python -m bench list" in text and "python -m bench all" in text and "Exit status" in text
    assert program.main(["ablation"]) == 2
    assert "python -m bench.ablation" in capsys.readouterr().err
    assert program.main(["lisst"]) == 2
    assert "did you mean 'list'" in capsys.readouterr().err


def test_how_far_the_estimate_was_off_is_told(tmp_path):
    results = [
        everything.Result(name="first", outcome="done", seconds=90.0),
        everything.Result(name="second", outcome="skipped", seconds=3.0, reason="no images"),
        everything.Result(name="third", outcome="done", seconds=30.0),
    ]
    table = tmp_path / "estimates.csv"
    assert "off" not in everything.outcomes(results, table).columns
    table.write_text("experiment,seconds,gigabytes,reason\nfirst,60,1,\nsecond,5,1,no images\n")
    found = everything.outcomes(results, table)
    assert found["off"].tolist() == ["1.5 times", "", ""]


def forked(module: str, arguments: list[str]) -> tuple[int, str]:
    """Run a program as ``bench all`` does, but without importing everything anew."""
    finished = run_program(module, arguments, folder=Path.cwd())
    print(finished.stdout)
    print(finished.stderr, file=sys.stderr)
    return finished.returncode, finished.stdout + finished.stderr


@pytest.mark.slow
def test_all_of_it_as_a_user_runs_it(tmp_path, tiny_llm, capfd, monkeypatch):
    monkeypatch.setattr(everything, "run_program", forked)
    args = ["--preset", "smoke", "--llm", str(tiny_llm), "--eval-users", "40", "--out", str(tmp_path)]
    args += ["--no-report", "--no-progress", "--experiments", "user_activity,token_cost"]
    assert program.main(["all", *args]) == 0
    shown = capfd.readouterr()
    assert "Together about" in shown.out and "Measured just now" in shown.out
    reason = "40 users are evaluated and 5 groups of 10 are needed"
    assert re.search(f"skipped: user_activity: toyshop.*{reason}", shown.out)
    assert (tmp_path / "tables" / "token_cost.csv").is_file()
    assert len(list(tmp_path.rglob("cell.json"))) == 6
    assert program.main(["all", *args, "--dataset", "toyshpo"]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "did you mean 'toyshop'" in errors[0]
