"""Experiments: one file each. What they share lives in rooms named after what it is."""

from __future__ import annotations

from illmrec.interrupts import end_until_begun

end_until_begun("bench")
