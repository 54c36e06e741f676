"""What is recommended, in the report: a row for each method, means over seeds, similarities where they are known."""

from __future__ import annotations

from typing import Any

import pytest
from stored import section_of, shown

from bench.store.cell import Record
from reports.exhibits.beyond_accuracy import exhibits
from reports.exhibits.exhibit import Exhibit, Gap
from reports.sections.methods import OTHER_GROUP


def with_lists(
    filler, method: str, *, seeds: tuple[int, ...] = (0, 1), **lists: float | None
) -> list[Record]:
    """Store accuracy cells that say what their lists are like, each seed a tenth more."""
    written = []
    for seed in seeds:
        (record,) = filler.accuracy(method, 0.3, seeds=(seed,))
        own = {name: None if value is None else value * (1 + seed / 10) for name, value in lists.items()}
        changes: dict[str, Any] = {"lists": own}
        if "." in method:
            changes["scores"] = {"rows": 12_345, "users_without_rows": 7}
        written.append(filler.write("accuracy", record.config, {**record.results, **changes}))
    return written


def similar(filler, records: list[Record], **similarity: float) -> None:
    for record in records:
        filler.write(
            "list_similarity",
            {
                "method": record.method,
                "seed": record.seed,
                "accuracy": record.key,
                "encoders": dict.fromkeys(similarity, "owner/some-encoder"),
            },
            {"users": 400, "similarity": similarity},
        )


def test_a_row_for_each_method_has_the_means_over_seeds(filler) -> None:
    popularity = with_lists(filler, "popularity", coverage=0.1, popularity=6.0, novelty=7.0)
    chance = with_lists(filler, "random", seeds=(0,), coverage=1.0, popularity=1.0, novelty=9.5)
    with_lists(filler, "my-own.v2", coverage=0.4, popularity=2.0, novelty=8.0)
    similar(filler, popularity, image=0.5)
    similar(filler, chance, image=0.25)
    section = section_of(filler)
    (found,) = exhibits(section)
    assert isinstance(found, Exhibit)
    (table,) = found.tables
    rows = table.data.set_index("method")
    assert rows.index.tolist() == ["random", "popularity", "my-own.v2"]
    assert rows["coverage"].tolist() == pytest.approx([1.0, 0.105, 0.42])
    assert rows["popularity"].tolist() == pytest.approx([1.0, 6.3, 2.1])
    assert rows["seeds"].tolist() == [1, 2, 2]
    assert (
        rows["similarity_image"].tolist()[:2] == [0.25, 0.5] and rows["similarity_image"].isna()["my-own.v2"]
    )
    assert "similarity_text" not in rows
    assert section.styles["my-own.v2"].group == OTHER_GROUP and table.rows[2][0] == "my-own.v2"
    assert found.reading == (
        "Random recommends 100.0% of the catalogue, the most, and Popularity 10.5%, the least; what Popularity"
        " recommends has 6.3 times the interactions of an item drawn uniformly, the highest number."
    )
    assert any("image features by some-encoder" in note for note in found.notes)


def test_lists_without_items_or_similarities_are_shown(filler) -> None:
    with_lists(filler, "my-own.v2", seeds=(0,), coverage=0.0, popularity=None, novelty=None)
    (found,) = exhibits(section_of(filler))
    assert isinstance(found, Exhibit) and found.reading == "my-own.v2 recommends 0.0% of the catalogue."
    assert len(found.notes) == 1 and "–" in found.tables[0].rows[0]


def test_older_cells_have_no_lists(filler) -> None:
    filler.accuracy("popularity", 0.2)
    (found,) = exhibits(section_of(filler))
    assert isinstance(found, Gap) and "bench.comparison" in found.command


def test_the_page_shows_it_after_the_comparison_and_says_what_scores_lack(filler) -> None:
    with_lists(filler, "popularity", coverage=0.1, popularity=6.0, novelty=7.0)
    with_lists(filler, "my-own.v2", coverage=0.4, popularity=2.0, novelty=8.0)
    assert isinstance(shown(filler, "Beyond accuracy"), Exhibit)
    comparison = shown(filler, "Table 1")
    assert isinstance(comparison, Exhibit)
    assert (
        "my-own.v2: 12,345 scores made elsewhere; 7 of 400 users have none, and their target is ranked last."
        in comparison.notes
    )
