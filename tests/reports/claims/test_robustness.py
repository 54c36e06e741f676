"""Noise that does not hurt."""

from __future__ import annotations

from stored import noise, trained, verdicts

from reports.claims.claims import FAILS


def test_full_descriptions_that_noise_does_not_hurt_fail_the_claim(filler) -> None:
    for method in ("illmrec", "full-description"):
        trained(filler, 0.4, method=method)
    for kind in ("html", "boilerplate"):
        noise(filler, "full-description", 0.45, kind, 1.0, "prompt")
    claims = verdicts(filler)
    assert set(claims.loc[["noise-costs-descriptions", "images-are-robust"], "verdict"]) == {FAILS}
