"""Options in which cells differ."""

from __future__ import annotations

from reports.wording.cautions import differing


def test_differing_options(filler) -> None:
    first = filler.accuracy("tallrec", 0.3, seeds=(0, 1), risa=True, features=("image",))
    assert differing(first) == {}
    second = filler.accuracy(
        "trsr", 0.3, risa=True, features=("image",), training={"preset": "smoke", "risa": True}
    )
    found = differing([*first, *second], ignored=("method",))
    assert found == {"training.preset": ['"small"', '"smoke"'], "training.epochs": ["8", "not set"]}
