"""The exhibits of a whole page: what is missing names its command, old cells and benchmarks alone are no error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_cells import retrieval_cells, scaling_cells, serving_cells, throughput_cells
from page_reader import Page, text_of
from stored import FULL, section_of

import bench
from reports.build import build_report
from reports.claims import claim
from reports.exhibits.exhibit import Gap
from reports.exhibits.page_order import ENGINE, EXPERIMENTS, WITHOUT_LLM, engine_exhibits, section_exhibits


@pytest.fixture
def out(filler):
    return filler.store.out


def test_what_is_not_stored_names_its_command(filler, out) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    page = build_report(out).read_text(encoding="utf-8")
    for name in (
        "token_cost", "sequence_length", "context_budget", "item_popularity", "user_activity", "unseen_items",
        "missing_images", "image_quality", "overlap",
    ):  # fmt: skip
        assert f"python -m bench.{name} --dataset toyshop" in page, name


def test_cells_stored_before_prompts_were_counted_are_no_error(filler, out) -> None:
    for record in filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL):
        path = record.folder / "cell.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["results"]["prompt"]
        path.write_text(json.dumps(content), encoding="utf-8")
    assert build_report(out).is_file()


def test_a_store_without_these_names_their_commands(filler) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), risa=True, features=("image", "cf", "text"))
    shown = section_exhibits(section_of(filler))
    commands = " ".join(gap.command for gap in shown if isinstance(gap, Gap))
    for name in ("robustness", "training_strategy", "backbones", "figure_types", "catalogue_growth"):
        assert f"bench.{name} " in commands


def test_a_store_of_benchmarks_alone_makes_a_page(filler) -> None:
    throughput_cells(filler)
    serving_cells(filler)
    scaling_cells(filler)
    retrieval_cells(filler)
    out = filler.store.out
    page = Page(build_report(out))
    names = {"figure_throughput", "figure_serving", "figure_scaling", "figure_retrieval"}
    assert {path.stem for path in (out / "figures").iterdir()} == names
    assert [attributes["id"] for attributes in page.all("section")] == ["engine", "run", "paper"]
    assert len(page.all("img")) == 4
    assert "Not in the store yet" not in text_of(page)


def test_benchmarks_that_are_missing_name_their_command(filler) -> None:
    filler.efficiency(["illmrec", "trsr"], [2])
    gaps = [item for item in engine_exhibits(section_of(filler)) if isinstance(item, Gap)]
    assert [gap.command.split()[2] for gap in gaps] == [
        "bench.throughput",
        "bench.serving",
        "bench.scaling",
        "bench.retrieval",
    ]
    assert "--dataset toyshop" in gaps[0].command and gaps[3].command == "python -m bench.retrieval"


def test_exhibits_and_claims_are_named_after_their_experiments() -> None:
    experiments = {path.stem for path in Path(bench.__file__).parent.glob("*.py")}
    named = (*EXPERIMENTS, *ENGINE)
    # Further tables: of efficiency, of the comparison, of training strategies and of the ablation.
    further = {"costs", "beyond_accuracy", "multi_day", "strategy_orders", "released_code"}
    assert set(named) - further <= experiments and len(set(named)) == len(named)
    assert set(claim.EXPERIMENTS) <= set(named) and set(WITHOUT_LLM) <= set(EXPERIMENTS)
