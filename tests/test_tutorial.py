"""The code of ``docs/tutorial_experiment.md`` runs as it stands there."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.store import Store
from bench.suite import catalogue, listing
from bench.suite.estimate import Estimate
from bench.suite.probe import Probe
from illmrec.command_line import run
from reports.build import build_report
from reports.exhibits import page_order

TUTORIAL = Path(__file__).resolve().parent.parent / "docs" / "tutorial_experiment.md"
NAME = "instruction_place"


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write the files of the tutorial beside the packages, as a reader would into them."""
    for block in re.findall(r"^```python\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL):
        first, _, rest = block.partition("\n")
        path = tmp_path / first.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rest)
    for name in ("bench", "bench.frames", "reports.exhibits"):
        package = importlib.import_module(name)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / name.replace(".", "/"))])
    catalogue.experiments.cache_clear()
    yield
    catalogue.experiments.cache_clear()
    for name in (f"bench.{NAME}", f"bench.frames.{NAME}", f"reports.exhibits.{NAME}"):
        sys.modules.pop(name, None)


def test_the_experiment_of_the_tutorial_runs(
    followed: None, tiny_llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (experiment,) = catalogue.chosen([NAME])
    main = importlib.import_module(experiment.module).main
    arguments = [
        *("--preset", "smoke", "--max-steps", "2", "--batch-size", "4", "--validation-users", "0"),
        *("--users", "40", "--items", "250", "--min-interactions", "1", "--eval-users", "20"),
        *("--llm", str(tiny_llm), "--layers", "1", "--history-length", "3", "--cf-epochs", "1"),
        *("--no-progress", "--no-report", "--out", str(tmp_path / "out")),
    ]
    assert run(main, prog=experiment.module, args=arguments) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / f"{NAME}.csv")
    found = table.groupby(["method", "instruction"])["candidates"].count()
    assert found.to_dict() == {
        (name, place): 2 for name in ("illmrec", "tallrec") for place in ("after", "before")
    }
    assert table["ndcg@10"].between(0, 1).all() and (table["prompt_tokens"] > 10).all()
    monkeypatch.setattr(page_order, "EXPERIMENTS", (*page_order.EXPERIMENTS, NAME))
    page = build_report(tmp_path / "out", formats=("png",)).read_text()
    assert "Where the instruction stands" in page and "The best has the instruction" in page


def test_the_experiment_of_the_tutorial_is_planned(followed: None, tiny_llm: Path, tmp_path: Path) -> None:
    settings = Settings(preset="smoke", llm=str(tiny_llm), out=tmp_path / "out")
    place = Workspace(settings.resolved())
    probe = Probe(
        **{name: 1.0 for name in Probe.__dataclass_fields__} | {"fixed_tokens": 40, "branch_tokens": 10}
    )
    estimate = Estimate(place, probe, Store(tmp_path / "out"))
    (experiment,) = catalogue.chosen([NAME])
    cost, reason = listing.expected(experiment, settings, estimate, {})
    assert not reason and cost.seconds > probe.start_seconds
