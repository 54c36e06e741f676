"""Noise that does not hurt."""

from __future__ import annotations

import pytest
from stored import mean, noise, noisy_and_clean, trained, verdicts

from reports.claims.rules import BORNE_OUT, CONTRADICTED, UNTESTED


def test_full_descriptions_that_noise_does_not_hurt_fail_the_claim(filler) -> None:
    for method in ("illmrec", "full-description"):
        trained(filler, 0.4, method=method)
    for kind in ("html", "boilerplate"):
        noise(filler, "full-description", 0.45, kind, 1.0, "prompt")
    claims = verdicts(filler)
    assert set(claims.loc[["noise-costs-descriptions"], "verdict"]) == {CONTRADICTED}


@pytest.mark.parametrize("reach", ["prompt", "everything"])
def test_noise_costs_the_full_description_more(filler, reach: str) -> None:
    clean, noisy = noisy_and_clean(filler, reach)
    claims = verdicts(filler)
    both = claims.loc[["noise-costs-descriptions"]]
    assert set(both["verdict"]) == {BORNE_OUT} and len(both) == 2
    # Noise in prompts alone cannot reach a method that shows no description.
    robust = claims.loc[["images-are-robust"]]
    assert set(robust["verdict"]) == {BORNE_OUT if reach == "everything" else UNTESTED}
    if reach == "prompt":
        assert "shows no description" in robust["reason"].iloc[0]
    loss = mean(clean["full-description"]) - mean(noisy["html", 1.0])
    assert both["estimate"].iloc[0] == pytest.approx(loss)
