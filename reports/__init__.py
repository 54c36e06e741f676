"""The report: figures, tables and one page, from what is stored."""

from __future__ import annotations

from illmrec.interrupts import end_until_begun

end_until_begun("reports")
