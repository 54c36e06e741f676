"""What links to the headings of a Markdown text may say."""

from __future__ import annotations

import re


def anchors(text: str) -> set[str]:
    """Return the anchors of a text's headings."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
