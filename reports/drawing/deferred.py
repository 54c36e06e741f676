"""Figures that wait: what draws them and from what, which tells whether their files are still right."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, is_dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import pandas as pd
from fontTools import subset, ttLib  # type: ignore[import-untyped]
from matplotlib.figure import Figure
from PIL import Image

from illmrec.files import hash_json
from reports.drawing.figures import style

FORMATS = ("png", "pdf", "svg")

# Without dates and version strings the same store gives the same bytes.
_METADATA: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
}
_LIBRARIES = ("matplotlib", "fonttools", "pillow", "numpy")
"""Distributions whose version can change the bytes of a figure."""

_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that is drawn when its files are asked for.

    Attributes:
        make: Returns the figure; a function of a module.
        arguments: Its positional arguments: tidy data, looks and texts.
        options: Its keyword arguments.
    """

    make: Callable[..., Figure]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """What the figure depends on, as 16 hexadecimal digits: data, this package and the libraries that draw.

        Raises:
            TypeError: If an argument is of a kind that has no content to compare.
        """
        inputs = [self.make.__module__, self.make.__qualname__, self.arguments, self.options]
        return hash_json([_drawn_by(), _content(inputs)])

    def files(self, formats: Sequence[str]) -> dict[str, bytes]:
        """Draw the figure and return its file in each format; it is laid out and measured once for all of them.

        Args:
            formats: Of ``png``, ``pdf``, ``svg``.
        """
        figure = self.make(*self.arguments, **self.options)
        files = {}
        with style(), _glyphs_alone():
            layout = figure.get_layout_engine()
            if layout is not None:
                layout.execute(figure)
            # None, not "none": a placeholder for the layout would have each format draw twice.
            figure.set_layout_engine(None)
            box = figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
            for form in formats:
                buffer = io.BytesIO()
                # TIFF takes no time to write and to read again, PNG much.
                pixels = form == "png"
                figure.savefig(
                    buffer, format="tiff" if pixels else form, bbox_inches=box, metadata=_METADATA.get(form)
                )
                files[form] = _with_palette(buffer) if pixels else buffer.getvalue()
        return files


def drawing(
    make: Callable[_Arguments, Figure], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> Drawing:
    """Return a figure that is drawn later, if at all: the call of a function that returns it."""
    return Drawing(make=make, arguments=arguments, options=options)


def _draw_for(parent: int) -> None:
    """Leave signals to the parent, which Ctrl-C reaches as well, and end with it: in a process that draws."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Drawer:
    """Draws figures on all cores, while the rest of the report is still put together.

    Only Linux starts processes so fast that they are worth it; elsewhere one figure follows the other.

    Args:
        formats: Of ``png``, ``pdf``, ``svg``.
    """

    def __init__(self, formats: Sequence[str]) -> None:
        self.formats = tuple(formats)
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
        context = multiprocessing.get_context("fork") if cores > 1 else None
        self._pool = (
            ProcessPoolExecutor(
                max_workers=cores, mp_context=context, initializer=_draw_for, initargs=(os.getpid(),)
            )
            if context
            else None
        )
        self._started: dict[str, Callable[[], dict[str, bytes]]] = {}

    def __enter__(self) -> Drawer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self._started)

    def start(self, name: str, figure: Drawing) -> None:
        """Take a figure on."""
        if self._pool is None:
            self._started[name] = functools.partial(figure.files, self.formats)
        else:
            self._started[name] = self._pool.submit(figure.files, self.formats).result

    def finished(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield the name and the files of each figure, in the order in which they were taken on."""
        for name, files in self._started.items():
            yield name, files()


def _with_palette(pixels: io.BytesIO) -> bytes:
    """Return a picture as PNG of 256 colours: lines and letters need no more, and the file becomes a third as large."""
    with Image.open(pixels) as image:
        few = image.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        # What is nearly white shares its place in the palette with the background, which has to stay white.
        palette = np.array(few.getpalette(), dtype=np.uint8).reshape(-1, 3)
        palette[np.asarray(few)[0, 0]] = np.asarray(image)[0, 0, :3]
        few.putpalette(palette.ravel().tolist())
        buffer = io.BytesIO()
        few.save(buffer, format="png", dpi=image.info["dpi"])
    return buffer.getvalue()


@contextlib.contextmanager
def _glyphs_alone() -> Iterator[None]:
    """Embed outlines of glyphs in PDF files without what sets, names and hints them, which takes most of a file's time.

    Letters stand where matplotlib has put them; no reader of a PDF file sets them again.
    """
    load = subset.load_font

    def load_outlines(path: Any, options: Any, **more: Any) -> ttLib.TTFont:
        options.glyph_names = options.hinting = False
        return load(io.BytesIO(_outlines(path, options.font_number)), options, **more)

    subset.load_font = load_outlines
    try:
        yield
    finally:
        subset.load_font = load


@functools.cache
def _outlines(path: str, number: int) -> bytes:
    """Return a font file with no more than the outlines and the widths of its glyphs."""
    with ttLib.TTFont(path, fontNumber=number, recalcTimestamp=False) as font:
        font["post"].formatType = 3.0  # without names
        for table in {"GDEF", "GPOS", "GSUB", "OS/2", "cmap", "kern"} & set(font.keys()):
            del font[table]
        outlines = io.BytesIO()
        font.save(outlines)
    return outlines.getvalue()


@functools.cache
def _drawn_by() -> list[str]:
    """Return the versions of the libraries that draw, and a digest of the style and the code of this package."""
    package = Path(str(resources.files("reports")))
    rooms = sorted(path for path in package.iterdir() if (path / "__init__.py").is_file())
    sources = [path for folder in (package, *rooms) for path in sorted(folder.iterdir())]
    read = [path.read_bytes() for path in sources if path.suffix in (".py", ".mplstyle")]
    code = hashlib.sha256(b"".join(read)).hexdigest()
    return [code, *(metadata.version(name) for name in _LIBRARIES)]


def _content(value: Any) -> Any:
    """Return what a value consists of as JSON values; the order of a mapping counts, since looks have one."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.generic):
        return _content(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, pd.DataFrame):
        return [[str(kind) for kind in value.dtypes], value.to_csv(index=False)]
    if is_dataclass(value):
        return [type(value).__qualname__, *(_content(getattr(value, part.name)) for part in fields(value))]
    if isinstance(value, Mapping):
        return [[_content(key), _content(item)] for key, item in value.items()]
    if isinstance(value, Sequence):
        return [_content(item) for item in value]
    raise TypeError(f"a figure's input of type {type(value).__name__} has no content to compare")
