"""Arranging cells: sections, newest groups, standard errors, and what is refused."""

from __future__ import annotations

import functools
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from bench.store.cell import Record
from bench.store.store import Store
from illmrec.errors import InputError
from reports.sections.file_names import section_suffixes, slug
from reports.sections.results import read_sections, read_store
from reports.sections.section import llm_label


def at(record: Record, created: str) -> Record:
    return replace(record, created=created)


def test_mean_and_error_over_seeds(filler) -> None:
    written = filler.accuracy("tallrec", 0.3, seeds=(0, 1, 2, 3), risa=True, features=("image",))
    (entry,) = read_sections(written)[0].accuracy
    values = [record.results["full"]["hit@20"] for record in written]
    mean, error = entry.value("full", "hit@20")
    assert mean == pytest.approx(statistics.mean(values))
    assert error == pytest.approx(statistics.stdev(values) / math.sqrt(4))


def test_error_of_one_seed_is_that_over_users(filler) -> None:
    (written,) = filler.accuracy("sasrec", 0.3, seeds=(5,))
    (entry,) = read_sections([written])[0].accuracy
    assert entry.value("sampled", "mrr") == (
        written.results["sampled"]["mrr"],
        written.results["sampled"]["stderr"]["mrr"],
    )


def test_an_error_that_is_not_known_is_missing(filler) -> None:
    (written,) = filler.accuracy("sasrec", 0.3, seeds=(5,))
    written.results["sampled"]["stderr"]["mrr"] = None
    (entry,) = read_sections([written])[0].accuracy
    assert math.isnan(entry.value("sampled", "mrr")[1])


def test_newest_group_is_taken_and_the_others_are_counted(filler) -> None:
    old = filler.accuracy("illmrec", 0.1, risa=True, features=("image", "cf", "text"))
    new = filler.accuracy(
        "illmrec",
        0.4,
        seeds=(0, 1),
        risa=True,
        features=("image", "cf", "text"),
        training={"preset": "paper"},
    )
    records = [at(record, "2026-01-01T00:00:00+00:00") for record in old]
    records += [at(record, "2026-01-02T00:00:00+00:00") for record in new]
    (entry,) = read_sections(records)[0].accuracy
    assert entry.row == "e"
    assert entry.others == 1
    assert [record.seed for record in entry.records] == [0, 1]
    assert {record.config["training"]["preset"] for record in entry.records} == {"paper"}


def test_only_the_latest_version_of_an_experiment_counts(filler) -> None:
    old = filler.accuracy("sasrec", 0.1, version=1)
    new = filler.accuracy("sasrec", 0.4, version=2)
    (entry,) = read_sections([*new, *old])[0].accuracy
    assert {record.version for record in entry.records} == {2}
    assert entry.others == 0


def test_newest_timing_of_a_length_is_taken(filler) -> None:
    filler.efficiency(["illmrec"], [2])
    first = read_store(filler.store)
    filler.llm = {**filler.llm, "dtype": "float32"}
    filler.efficiency(["illmrec"], [2], latency_ms_median=99.0)
    records = [
        at(record, "2027-01-01" if record.results["latency_ms_median"] == 99.0 else "2026-01-01")
        for record in read_store(filler.store)
    ]
    assert len(first) == 1 and len(records) == 2
    frame = read_sections(records)[0].timings
    assert frame["latency_ms_median"].tolist() == [99.0]


def test_missing_measurements_become_nan(filler) -> None:
    filler.efficiency(["illmrec"], [2], peak_memory_mb=None, utilisation=None)
    frame = read_sections(read_store(filler.store))[0].timings
    assert frame[["peak_memory_mb", "utilisation"]].isna().all(axis=None)


def test_rows_of_the_ablation(filler) -> None:
    filler.ablation("abcd")
    filler.accuracy("illmrec", 0.4, risa=False, features=("cf", "text"))
    (section,) = read_sections(read_store(filler.store))
    assert sorted(entry.row for entry in section.accuracy) == ["", "a", "b", "c", "d"]
    assert section.headline["illmrec"].row == "d"


def test_one_section_per_data_set_and_llm_and_floors_in_each(filler, another) -> None:
    filler.ablation("ab")
    filler.accuracy("sasrec", 0.3)
    filler.llm = {"name": "smollm2-135m", "layers": 6}
    filler.ablation("ab")
    another.accuracy("popularity", 0.1)
    sections = read_sections(read_store(filler.store))
    assert sorted((section.fingerprint, section.llm) for section in sections) == [
        ("00aa11bb22cc33dd", ""),
        ("5f1c0a9be27d4e83", "smollm2-135m (30 layers)"),
        ("5f1c0a9be27d4e83", "smollm2-135m (6 layers)"),
    ]
    for section in sections:
        if section.llm:
            assert "sasrec" in section.headline


def test_file_name_endings_are_safe_and_distinct(filler, another) -> None:
    filler.ablation("a")
    another.ablation("a")
    another.llm = {"name": "../../etc/passwd"}
    another.ablation("a")
    sections = read_sections(read_store(filler.store))
    endings = section_suffixes(sections)
    assert len(set(endings)) == 3
    assert all(set(ending) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for ending in endings)
    assert section_suffixes(sections[:1]) == [""]
    same = section_suffixes([sections[0], sections[0]])
    assert len(set(same)) == 2


def test_titles_tell_data_sets_of_one_name_apart(filler) -> None:
    make = functools.partial(type(filler), filler.store.out)
    filler.ablation("a")
    other = make(fingerprint="00aa11bb22cc33dd")
    assert [section.title for section in read_sections(read_store(filler.store))] == [
        "toyshop, smollm2-135m (30 layers)"
    ]
    other.statistics["items"] = 1234
    other.ablation("a")
    titles = {section.title for section in read_sections(read_store(filler.store))}
    assert titles == {
        "toyshop (2,000 users, 600 items), smollm2-135m (30 layers)",
        "toyshop (2,000 users, 1,234 items), smollm2-135m (30 layers)",
    }
    third = make(fingerprint="ffaa11bb22cc33dd")
    third.ablation("a")
    titles = {section.title for section in read_sections(read_store(filler.store))}
    assert {title for title in titles if "users" not in title} == {
        "toyshop (5f1c0a9be27d4e83), smollm2-135m (30 layers)",
        "toyshop (ffaa11bb22cc33dd), smollm2-135m (30 layers)",
    }


def test_slug() -> None:
    assert slug("  Müsli & <Co>  ") == "m-sli-co"
    assert len(slug("x" * 99)) == 40


@pytest.mark.parametrize(
    ("llm", "label"),
    [
        ({"name": "a/b", "layers": 6}, "a/b (6 layers)"),
        ({"name": "a/b", "layers": None}, "a/b"),
        ("a/b", "a/b"),
        (None, ""),
    ],
)
def test_llm_label(llm: object, label: str) -> None:
    assert llm_label({"llm": llm}) == label


def test_a_damaged_cell_is_named(filler) -> None:
    filler.accuracy("sasrec", 0.3)
    path = next(Path(filler.store.cells).rglob("cell.json"))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"cell\.json.*delete"):
        read_store(Store(filler.store.out))


@pytest.mark.parametrize("field", ["sampled", "full"])
def test_a_cell_without_results_is_named(filler, field: str) -> None:
    (record,) = filler.accuracy("sasrec", 0.3, seeds=(0,))
    path = record.folder / "cell.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["results"][field]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=rf"lacks results\.{field}; delete the folder") as caught:
        read_store(filler.store)
    assert "\n" not in str(caught.value)


def test_cells_of_other_experiments_are_left_alone(filler) -> None:
    filler.write("throughput", {"method": "illmrec"}, {"seconds": 1.0})
    assert read_sections(read_store(filler.store)) == []
