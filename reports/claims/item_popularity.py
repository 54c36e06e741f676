"""Claims on cold and warm items."""

from __future__ import annotations

from reports.claims.claim import Claim
from reports.claims.comparisons import rows_for_users
from reports.claims.rules import MORE

CLAIMS = (
    Claim(
        id="cold-items",
        text="For cold items, the coldest two fifths, image features beat CF features: row (b) over (c)",
        source="Section 4.4, Figure 6",
        published="image above CF in the lower groups",
        rule=MORE,
        test=rows_for_users("b", "c", lambda targets: targets["item_group"] <= 2),
    ),
    Claim(
        id="warm-items",
        text="For the warmest fifth of the items CF features beat image features: row (c) over (b)",
        source="Section 4.4, Figure 6",
        published="CF above image in group 5",
        rule=MORE,
        test=rows_for_users("c", "b", lambda targets: targets["item_group"] == 5),
    ),
)
