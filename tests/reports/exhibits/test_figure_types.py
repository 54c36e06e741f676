"""Sheets of pictures."""

from __future__ import annotations

import io

import pandas as pd
from PIL import Image
from stored import LARGE, drawn, section_of, trained

from reports.exhibits.figure_types import exhibits


def test_sheets_of_pictures_show_titles_as_text(filler) -> None:
    trained(filler, 0.4)
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(picture, "PNG")
    rows = [
        {
            "group": group, "users": 200, "place": place, "item_id": f"item-{place}",
            "title": f"<b>Mug</b> no. {place} $x_{{", "occurrences": 30, "frequency": 0.15,
            "other_frequency": 0.1, "lift": 1.5, "image": place < 3,
        }
        for group in ("hit", "missed")
        for place in (1, 2, 3)
    ]  # fmt: skip
    pictures = pd.DataFrame({"item_id": ["item-1", "item-2"], "png": [picture.getvalue()] * 2})
    config = {"method": "illmrec", "llm": LARGE, "candidates": "sampled", "cutoff": 10}
    frames = {"items": pd.DataFrame(rows), "thumbnails": pictures}
    filler.write("figure_types", config, {"hit": 200, "missed": 200}, frames)
    exhibit = exhibits(section_of(filler))[0]
    drawn(exhibit)
    assert len(exhibit.tables[0].data) == 6 and "3 are in both rows" in exhibit.reading
    assert "<b>Mug</b> no. 1" in exhibit.alt and exhibit.shows_items
