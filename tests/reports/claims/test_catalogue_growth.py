"""Models of smaller catalogues."""

from __future__ import annotations

from stored import growing, verdicts

from reports.claims.claims import HOLDS


def test_the_model_of_the_size_before_serves(filler) -> None:
    growing(filler)
    claims = verdicts(filler).loc[["older-models-serve"]]
    # The model of the size before, not the oldest one, is what the paper lets serve.
    assert set(claims["verdict"]) == {HOLDS} and len(claims) == 2
    assert claims["paper"].iloc[0].startswith("−20.1 % from 5K to 10K items")
