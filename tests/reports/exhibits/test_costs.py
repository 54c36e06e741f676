"""What 1,000 recommendations cost, on the page, in the tables and in the manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from page_reader import Page, text_of
from stored import FULL

from bench.frames.pricing import COLUMNS, Pricing
from illmrec.command_line import run
from reports.__main__ import main
from reports.exhibits import costs, preparation
from reports.sections.results import read_sections, read_store

EURO = ["--price-per-hour", "3.6", "--currency", "EUR"]


@pytest.fixture
def out(filler) -> Path:
    filler.efficiency(["illmrec", "trsr"], [2, 10], users_per_second=20.0)
    filler.efficiency(["illmrec"], [10], users_per_second=40.0)
    for method, ndcg in (("illmrec", 0.41), ("trsr", 0.37)):
        filler.accuracy(method, ndcg, seeds=(0,), **FULL)
    return filler.store.out


def test_the_page_tells_energy_and_money_at_the_price_it_is_given(out, filler, capsys) -> None:
    assert run(main, prog="python -m reports", args=["--out", str(out), "--format", "png", *EURO]) == 0
    text = text_of(Page(out / "index.html"))
    # Two cores draw 7 W. At |S_u| = 10 I-LLMRec serves 40 users a second: 25 s, 175 J; 0.001 EUR a second.
    assert (
        "At |S_u| = 10, 1,000 users cost 0.0250 EUR and 0.0486 Wh with I-LLMRec, 2.0 times as much with TRSR"
        in text
    )
    assert (
        "time times 7 W, assumed from cores and GPU" in text and "Money is time at 3.6 EUR an hour." in text
    )
    assert "--price-per-hour 3.6 --currency EUR" in text, "the command that builds the page again"
    assert "estimated from time and an assumed" in text and "EUR at 3.6 EUR an hour" in text
    table = pd.read_csv(out / "tables" / "figure_costs.csv").set_index(["method", "history_length"])
    assert table.loc[("illmrec", 10), "cost_per_1000_users"] == pytest.approx(0.025)
    assert table.loc[("trsr", 10), "wh_per_1000_users"] == pytest.approx(50 * 7 / 3600)
    front = pd.read_csv(out / "tables" / "figure1b_lengths.csv").query("history_length == 10")
    assert front.set_index("method")["cost_per_1000_users"].to_dict() == pytest.approx(
        {"illmrec": 0.025, "trsr": 0.05}
    )
    before = {record.key: record.created for record in read_store(filler.store)}
    assert run(main, prog="python -m reports", args=["--out", str(out), "--format", "png"]) == 0
    text = text_of(Page(out / "index.html"))
    assert "1,000 users cost 0.0486 Wh with I-LLMRec" in text and "No price was given" in text
    assert (
        "EUR" not in text and "cost_per_1000_users" not in (out / "tables" / "figure_costs.csv").read_text()
    )
    assert {record.key: record.created for record in read_store(filler.store)} == before


def test_the_manifest_tells_energy_and_money_of_each_experiment(out, tmp_path) -> None:
    folder = tmp_path / "gallery"
    args = ["--out", str(out), "--gallery", str(folder), *EURO, "--watts", "36"]
    assert run(main, prog="python -m reports", args=args) == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    found = manifest["costs"]
    # Cells take 12.5 s each, at 36 W and 0.001 EUR a second.
    seconds = {name: 12.5 * entry["cells"] for name, entry in manifest["experiments"].items()}
    for name, taken in seconds.items():
        assert found["experiments"][name] == pytest.approx(
            {"hours": taken / 3600, "wh": taken * 36 / 3600, "cost": taken / 1000}, abs=1e-6
        )
    assert found["price"] == {"price_per_hour": 3.6, "currency": "EUR"} and found["assumed_watts"] == [36]
    assert found["cost"] == pytest.approx(manifest["seconds"] / 1000)
    assert found["energy"] == "estimated from time and an assumed power"


def test_the_price_of_an_instance_with_other_gpus_is_cautioned(filler, tmp_path) -> None:
    filler.efficiency(["illmrec"], [2])
    path = tmp_path / "prices.csv"
    rows = (
        "mine,me,cellar,1,A10,0.36,EUR,2026-11-01,my bill",
        "plain,me,cellar,0,,0.1,EUR,2026-11-01,my bill",
    )
    path.write_text("\n".join([",".join(COLUMNS), *rows]))

    def notes(instance: str) -> str:
        pricing = Pricing(instance=instance, prices=path)
        (section,) = read_sections(read_store(filler.store), filler.store, pricing)
        return " ".join(costs.price_notes(section))

    assert "Caution. Times were measured on CPUs, and mine has 1 x A10" in notes("mine")
    assert "Caution" not in notes("plain") and "my bill" in notes("plain")


def test_a_machine_of_which_nothing_is_known_has_a_table_and_no_figure(filler) -> None:
    filler.efficiency(["illmrec"], [2])
    (section,) = read_sections(read_store(filler.store), filler.store)
    unknown = [
        replace(r, config={**r.config, "machine": {"gpus": ["x"]}, "device": "cuda"})
        for r in section.efficiency
    ]
    (shown,) = costs.exhibits(replace(section, efficiency=tuple(unknown)))
    assert shown.figure is None and "Neither the power" in shown.reading
    assert any("--watts" in note for note in shown.notes)


def test_what_is_made_once_is_told_in_money_too(filler) -> None:
    filler.efficiency(["illmrec"], [10], users_per_second=50.0)
    filler.efficiency(["trsr"], [10], users_per_second=10.0)
    for kind, seconds in (("image", 99.9999), ("summary", 40.0)):
        made = {
            "kind": kind,
            "encoder": "e",
            "items": 10,
            "seconds": seconds,
            "seconds_per_item": seconds / 10,
        }
        filler.write("preparation", {"method": kind}, made)
    pricing = Pricing(price_per_hour=0.36, currency="EUR")
    (section,) = read_sections(read_store(filler.store), filler.store, pricing)
    (shown,) = preparation.exhibits(section)
    (row,) = shown.tables[-1].data.to_dict("records")
    assert shown.tables[-1].caption.startswith(
        "From which user on I-LLMRec costs less in all, or more, in EUR"
    )
    assert row["cheaper_from"] == 750, "0.006 EUR more at first, 0.000008 EUR less a user"
    assert any("0.36 EUR an hour" in note for note in shown.notes)
    (unpriced,) = preparation.exhibits(replace(section, pricing=Pricing()))
    assert len(unpriced.tables) == len(shown.tables) - 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--instance", "g5.xlrge"], "did you mean g5.xlarge"),
        (["--price-per-hour", "2"], "say in which currency"),
        (["--prices", "mine.csv"], "goes with --instance"),
    ],
)
def test_a_price_that_is_none_is_one_line(arguments, expected, tmp_path, capsys) -> None:
    assert run(main, prog="python -m reports", args=["--out", str(tmp_path), *arguments]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: --") and expected in error
