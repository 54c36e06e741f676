"""A sheet of a data set's pictures: ``python -m illmrec.data.contact_sheet --dataset toyshop``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from illmrec.command_line import run
from illmrec.data import load_dataset
from illmrec.data.dataset import Dataset
from illmrec.errors import InputError
from illmrec.escaping import visible
from illmrec.files import writing
from illmrec.temporary import replacing

TILE = 224
CAPTION = 34
MARGIN = 8
_READ = 200  # characters of a title, more than two lines hold: measuring them is quadratic


def contact_sheet(dataset: Dataset, n: int = 48) -> Image.Image:
    """Return one picture with n of a data set's pictures and their titles.

    Args:
        dataset: Any data set with images.
        n: How many; spread evenly over the items that have an image. Fewer where there are fewer.

    Returns:
        An RGB picture, about a third wider than high.

    Raises:
        InputError: If no item has an image, n is below 1, or one of the images cannot be used.
    """
    available = np.flatnonzero(dataset.images.available) if dataset.images is not None else np.empty(0, int)
    if dataset.images is None or len(available) == 0:
        raise InputError(f"{dataset.name}: no item has an image, so there is nothing to show")
    if n < 1:
        raise InputError(f"a contact sheet of {n} pictures: give 1 or more")
    n = min(n, len(available))
    chosen = available[np.linspace(0, len(available) - 1, n).round().astype(int)]
    columns = int(np.ceil(np.sqrt(n * 4 / 3)))
    rows = -(-n // columns)
    width, height = TILE + MARGIN, TILE + CAPTION + MARGIN
    sheet = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for place, item in enumerate(chosen.tolist()):
        x, y = MARGIN + place % columns * width, MARGIN + place // columns * height
        picture = ImageOps.pad(dataset.images.read(item), (TILE, TILE), color="white")
        sheet.paste(picture, (x, y))
        caption = _wrap(str(dataset.items["title"].iloc[item]), font=font, draw=draw)
        draw.multiline_text((x, y + TILE + 2), caption, fill=(40, 40, 40), font=font, spacing=2)
    return sheet


def _wrap(text: str, *, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, draw: ImageDraw.ImageDraw) -> str:
    """Return a text in at most two lines of a tile's width."""
    lines = [""]
    for word in visible(text[:_READ]).split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= TILE - MARGIN or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1]} ..."]
    for number, line in enumerate(lines):
        while draw.textlength(line, font=font) > TILE - MARGIN:
            line = f"{line[:-5]} ..." if len(line) > 8 else line[:-1]
        lines[number] = line
    return "\n".join(lines)


def _save(sheet: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all; the suffix says which format."""
    with writing(path), replacing(path, suffix=path.suffix) as temporary:
        sheet.save(temporary)


def main(
    *,
    dataset: str = "toyshop",
    out: Path = Path("sheet.png"),
    n: int = 48,
    users: int | None = None,
    items: int | None = None,
    overlap: float | None = None,
    min_interactions: int = 5,
    seed: int = 0,
) -> int:
    """Write a sheet of a data set's pictures with their titles.

    Args:
        dataset: toyshop, folder:PATH or a name of python -m illmrec.data list.
        out: Picture to write; the suffix says the format.
        n: Number of pictures.
        users: toyshop: number of users.
        items: toyshop: number of items.
        overlap: toyshop: share of what descriptions say that can be seen, 0 to 1.
        min_interactions: The k of the k-core on users and items.
        seed: Of the generator.
    """
    loaded = load_dataset(
        dataset, min_interactions=min_interactions, seed=seed, users=users, items=items, overlap=overlap
    )
    sheet = contact_sheet(loaded, n)
    try:
        _save(sheet, out)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {out}: {error}; choose another --out, such as sheet.png") from None
    print(f"{out}: {loaded.name}, {sheet.width} x {sheet.height} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m illmrec.data.contact_sheet", interrupted=""))
