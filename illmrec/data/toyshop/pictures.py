"""The toyshop's pictures: painted when they are read, from what a picture shows of its item."""

from __future__ import annotations

import numpy as np
from PIL import Image

from illmrec.data.toyshop.drawings_home import HOME
from illmrec.data.toyshop.drawings_play import PLAY
from illmrec.data.toyshop.drawings_wear import WEAR
from illmrec.data.toyshop.easel import Easel, Look
from illmrec.data.toyshop.marks import mark_glyph
from illmrec.data.toyshop.vocabulary import BRANDS, COLOURS, NEUTRAL, NEUTRAL_SECOND, PATTERNS, RGB, SHAPES

DRAWINGS = {**HOME, **WEAR, **PLAY}
"""How each kind of product is drawn."""

SHOWABLE = ("brand", "colour", "pattern", "shape")
"""The attributes that a picture may show or hide; the kind of product is always seen."""

SIZES = {"sneaker": 0.88, "teapot": 0.93, "cap": 0.90, "camera": 0.94, "T-shirt": 0.94, "umbrella": 0.96}
"""Scale of the kinds that would not fit in the picture when they are wide; 1 for the others."""

BACKDROPS: tuple[RGB, ...] = (
    (236, 234, 230),
    (226, 231, 236),
    (238, 232, 222),
    (228, 234, 226),
    (240, 238, 240),
)


class ToyshopImages:
    """Paints each item on demand: the same item gives the same picture, pixel for pixel.

    Attributes:
        shown: bool [n_items, 4], which of :data:`SHOWABLE` each picture shows. What is not shown is painted
            neutral: grey, plain, without a mark, in the classic shape.
    """

    def __init__(
        self,
        *,
        kinds: list[str],
        attributes: dict[str, np.ndarray],
        shown: np.ndarray,
        seed: int,
        fingerprint: str,
    ) -> None:
        """Keep what is needed to paint; nothing is painted here.

        Args:
            kinds: Name of each item's kind of product.
            attributes: For each of :data:`SHOWABLE`, int [n_items] indices into its vocabulary.
            shown: bool [n_items, 4].
            seed: Of placement and backdrop, which carry no taste.
            fingerprint: Identifies generator, options and seed.
        """
        self._kinds = kinds
        self._attributes = attributes
        self._seed = seed
        self.shown = shown
        self.available: np.ndarray = np.ones(len(kinds), dtype=bool)
        self.fingerprint = fingerprint

    def read(self, item: int) -> Image.Image:
        """Paint an item: 224 x 224, mode RGB."""
        see_brand, see_colour, see_pattern, see_shape = (bool(flag) for flag in self.shown[item])
        colour = COLOURS[self._attributes["colour"][item]] if see_colour else NEUTRAL
        pattern = PATTERNS[self._attributes["pattern"][item]].name if see_pattern else "plain"
        shape = SHAPES[self._attributes["shape"][item]] if see_shape else SHAPES[0]
        rng = np.random.default_rng([self._seed, item])
        easel = Easel(
            Look(
                base=colour.rgb,
                second=colour.second if see_colour else NEUTRAL_SECOND,
                pattern=pattern,
                stretch=shape.stretch,
                size=SIZES.get(self._kinds[item], 1.0) * float(rng.uniform(0.92, 1.0)),
                shift=float(rng.uniform(-2, 2)),
                mirrored=bool(rng.integers(2)),
                backdrop=BACKDROPS[rng.integers(len(BACKDROPS))],
            )
        )
        centre, radius = DRAWINGS[self._kinds[item]](easel)
        if see_brand:
            brand = BRANDS[self._attributes["brand"][item]]
            easel.badge(centre, radius=radius, glyph=mark_glyph(brand.mark), dark=brand.dark_badge)
        return easel.finish()
