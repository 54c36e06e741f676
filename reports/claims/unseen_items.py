"""The claim on items that are not in training."""

from __future__ import annotations

from reports.claims.claim import Claim
from reports.claims.comparisons import rows_for_users
from reports.claims.rules import MORE
from reports.paper.published import fact

_SPORT, _ART = (fact(f"unseen_hit5_{name}")[0] for name in ("sport", "art"))

CLAIMS = (
    Claim(
        id="unseen-items",
        text="For items not in training image features are above CF features: row (b) over (c)",
        source="Appendix E.6",
        published=f"Hit@5 {_SPORT} on Sport and {_ART} on Art against near zero",
        rule=MORE,
        test=rows_for_users("b", "c", lambda targets: targets["target_frequency"] == 0),
    ),
)
