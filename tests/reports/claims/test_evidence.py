"""When a comparison bears a claim out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.claims.evidence import MORE, NO_LESS, NO_MORE, WITHIN_5_PERCENT, paired_evidence
from reports.sections.paired import interval


@pytest.mark.parametrize(
    ("rule", "above", "equal", "below"),
    [
        (MORE, True, False, False),
        (NO_LESS, True, True, False),
        (NO_MORE, False, True, True),
        (WITHIN_5_PERCENT, True, True, False),
    ],
)
def test_rules(rule, above: bool, equal: bool, below: bool) -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0.3, 0.5, 2000)
    noise = random.normal(0, 0.05, 2000)
    noise -= noise.mean()
    for shift, holds in ((0.1, above), (0.0, equal), (-0.1, below)):
        both = pd.DataFrame({"first": base + noise + shift, "second": base})
        found = paired_evidence(both, ("A", "B"), rule)
        assert found is not None and found.holds is holds, shift
    assert paired_evidence(both.head(9), ("A", "B"), rule) is None


def test_relative_intervals_are_in_percent() -> None:
    random = np.random.default_rng(1)
    both = pd.DataFrame({"second": random.uniform(0.2, 0.6, 300)})
    both["first"] = both["second"] * 0.97 + random.normal(0, 0.01, 300)
    found = paired_evidence(both, ("A", "B"), WITHIN_5_PERCENT)
    assert found is not None
    assert found.estimate == pytest.approx(-3, abs=0.6)
    assert found.low == pytest.approx(100 * interval(both).low / both["second"].mean())
    assert found.interval.endswith(" %") and "−" in found.interval
