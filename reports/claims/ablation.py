"""Claims on RISA and the feature types."""

from __future__ import annotations

from reports.claims.claim import Claim
from reports.claims.comparisons import rows
from reports.claims.rules import MORE
from reports.paper.published import gains

CLAIMS = (
    Claim(
        id="risa",
        text="RISA improves accuracy: row (b) over (a)",
        source="Section 4.4, Table 2",
        published=gains("table2", "b", "a"),
        rule=MORE,
        test=rows(("b", "a")),
        content=False,
    ),
    Claim(
        id="image-and-cf",
        text="Image and CF features together are better than either: row (d) over (b) and over (c)",
        source="Section 4.4, Table 2",
        published=f"{gains('table2', 'd', 'b')}; {gains('table2', 'd', 'c')}",
        rule=MORE,
        test=rows(("d", "b"), ("d", "c")),
    ),
    Claim(
        id="all-three-features",
        text="All three feature types are best: row (e) over (d)",
        source="Section 4.4, Table 2",
        published=gains("table2", "e", "d"),
        rule=MORE,
        test=rows(("e", "d")),
    ),
)
