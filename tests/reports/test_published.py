"""The published numbers, checked against values read from the paper by hand, and against each other."""

from __future__ import annotations

import pytest

from reports.published import TABLES, ablation_value, fact, published


@pytest.mark.parametrize(
    ("dataset", "metric", "method", "value"),
    [
        ("Sport", "NDCG@5", "GRU4Rec", 0.2106),
        ("Sport", "Hit@10", "I-LLMRec+", 0.5694),
        ("Sport", "Hit@10", "I-LLMRec", 0.5689),
        ("Grocery", "NDCG@10", "VBPR", 0.263),
        ("Grocery", "Hit@5", "UniMP", 0.4506),
        ("Art", "NDCG@5", "TALLRec", 0.4572),
        ("Art", "Hit@10", "TRSR", 0.6896),
        ("Phone", "Hit@5", "SASRec", 0.4366),
        ("Phone", "NDCG@10", "A-LLMRec", 0.3811),
        ("Phone", "Hit@10", "I-LLMRec", 0.6448),
    ],
)
def test_table1_values(dataset: str, metric: str, method: str, value: float) -> None:
    table = published("table1").set_index(["dataset", "metric", "method"])
    assert table.at[(dataset, metric, method), "value"] == value


@pytest.mark.parametrize(
    ("row", "dataset", "metric", "value"),
    [
        ("a", "Sport", "Hit@5", 0.3953),
        ("b", "Art", "NDCG@5", 0.4447),
        ("c", "Sport", "NDCG@5", 0.3256),
        ("d", "Art", "Hit@5", 0.5795),
        ("e", "Sport", "Hit@5", 0.4570),
    ],
)
def test_table2_values(row: str, dataset: str, metric: str, value: float) -> None:
    assert ablation_value(row, dataset, metric) == value


def test_table2_row_e_is_the_overall_method_of_table1() -> None:
    table = published("table1").set_index(["dataset", "metric", "method"])["value"]
    for dataset in ("Sport", "Art"):
        for metric in ("Hit@5", "NDCG@5"):
            assert ablation_value("e", dataset, metric) == table[(dataset, metric, "I-LLMRec")]


def test_table2_marks_are_those_of_the_rows() -> None:
    marks = published("table2").drop_duplicates("row").set_index("row")[["risa", "image", "cf", "text"]]
    assert marks.loc["a"].tolist() == [0, 1, 0, 0]
    assert marks.loc["c"].tolist() == [1, 0, 1, 0]
    assert marks.sum(axis=1).tolist() == [1, 2, 2, 3, 4]


def test_table4_values_and_their_average_length() -> None:
    table = published("table4").set_index("dataset")
    assert table.at["Sport", "users"] == 24665
    assert table.at["Grocery", "interactions"] == 739628
    assert table.at["Art", "items"] == 5801
    assert table.at["Phone", "avg_length"] == 6.80
    assert (table["interactions"] / table["users"] - table["avg_length"]).abs().max() < 0.011


def test_tables_are_complete() -> None:
    table = published("table1")
    assert len(table) == 4 * 4 * 10 == len(table.drop_duplicates(["dataset", "metric", "method"]))
    assert table["value"].between(0.1, 0.8).all()
    assert len(published("table2")) == 5 * 2 * 2
    assert published("facts")["fact"].is_unique


@pytest.mark.parametrize("name", TABLES)
def test_every_row_names_its_source(name: str) -> None:
    table = published(name)
    assert table["source"].str.match(r"(Table \d+|Section \d|Appendix [A-G])").all()
    assert not table.isna().any().any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("speedup_over_description", 2.93),
        ("gain_over_attributes", 22),
        ("tokens_image", 1),
        ("tokens_summary", 160),
        ("tokens_attributes", 10),
        ("sport_minutes_trsr", 47),
        ("sport_minutes_illmrec", 15),
        ("sport_minutes_features", 5),
        ("users_per_second", 20),
        ("memory_load_gigabytes", 6.7),
        ("memory_batch16_gigabytes", 21),
    ],
)
def test_facts(name: str, value: float) -> None:
    assert fact(name)[0] == value


def test_unknown_fact_is_an_error() -> None:
    with pytest.raises(KeyError):
        fact("no such fact")
