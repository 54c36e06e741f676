"""Models of smaller catalogues."""

from __future__ import annotations

from stored import growing, verdicts

from reports.claims.rules import BORNE_OUT


def test_the_model_of_the_size_before_serves(filler) -> None:
    growing(filler)
    claims = verdicts(filler).loc[["older-models-serve"]]
    # The model of the size before, not the oldest one, is what the paper lets serve.
    assert set(claims["verdict"]) == {BORNE_OUT} and len(claims) == 2
    assert claims["paper"].iloc[0].startswith("−20.1 % from 5K to 10K items")
