"""The report: figures, tables and one page, from what is stored."""

from __future__ import annotations

import sys

# reports.recompute compares a gallery with its ranks without the toolkit, from which nothing is imported for it.
if sys.argv[:1] == ["-m"] and "reports.recompute" not in sys.orig_argv:
    from illmrec.interrupts import end_until_begun

    end_until_begun("reports")
