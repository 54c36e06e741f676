"""Noise in item descriptions: markup, boilerplate, sentences in random order, sentences missing (paper section 4.3)."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Noise = Literal["html", "boilerplate", "shuffled", "missing"]

BOILERPLATE = (
    "Free shipping on orders over $35 within the contiguous United States.",
    "Orders placed before 2 pm on business days usually ship the same day.",
    "Delivery times are estimates and are not guaranteed.",
    "Shipping to Alaska and Hawaii may take longer.",
    "Items may be returned within 30 days of receipt in their original packaging.",
    "Return shipping is paid by the buyer unless the item arrived damaged.",
    "Refunds are issued to the original method of payment within ten working days.",
    "Please contact customer service for a return authorisation number.",
    "All trademarks are the property of their respective owners.",
    "Prices and availability are subject to change without notice.",
    "The manufacturer reserves the right to change specifications at any time.",
    "Colours may vary slightly due to the settings of your monitor.",
    "This product has not been evaluated by any government agency.",
    "Keep out of reach of small children.",
    "See the seller's page for the full terms and conditions of sale.",
    "No liability is accepted for errors or omissions in this listing.",
    "Add to cart now and save on your next order.",
    "Customers who viewed this item also viewed similar items.",
    "Please leave us a review if you are satisfied with your purchase.",
    "Sold and fulfilled by an authorised dealer.",
)
"""Sentences of shop pages that say nothing about any item."""

_REMNANTS = (
    "<br /><br />",
    "<hr>",
    "&nbsp;&nbsp;",
    '<img src="/images/spacer.gif" width="1" height="1" alt="">',
    "<!-- begin product details -->",
    "<style>.desc p{margin:0 0 12px;font-family:Arial}</style>",
    "<script>trackView('pdp', {slot: 3, ab: \"b\"});</script>",
    "<script>var s=document.createElement('script');s.async=true;document.body.appendChild(s);</script>",
)
_WRAPPERS = (
    ("<p>", "</p>"),
    ("<b>", "</b>"),
    ("<li><span>", "</span></li>"),
    ('<div class="a-section a-spacing-small">', "</div>"),
    ('<span style="font-size:12px;color:#333333">', "</span>"),
    ('<font face="Verdana" size="2"><p align="left">', "</p></font>"),
)
_SENTENCE_END = re.compile(r"((?<=[.!?…])\s+|\s*[\r\n]+\s*)")


def noisy_descriptions(
    descriptions: Sequence[str], item_ids: Sequence[str], *, kind: Noise, level: float, seed: int
) -> list[str]:
    """Return every item's description with noise in some of its sentences.

    The sentences are drawn by seed and item, whatever the other items are, and nested: those drawn at one level are
    among those drawn at every higher one, and every kind draws the same ones. An item without a description gets
    none, and an item none of whose sentences is drawn keeps its text to the letter.

    Args:
        descriptions: Clean text of each item.
        item_ids: Id of each item.
        kind: ``html``: the sentence, its special characters escaped, in tags, with what crawlers leave of pages before
            it; ``boilerplate``: a sentence of :data:`BOILERPLATE` follows it; ``shuffled``: the sentences that are
            drawn change places in random order, and where there are two or more none keeps its own; ``missing``: it
            is dropped.
        level: Probability with which a sentence is drawn: 0 changes none, 1 all.
        seed: Of the noise.

    Raises:
        ValueError: If the kind is unknown, the level is outside of 0 to 1, or there are not as many ids as texts.
    """
    if kind not in get_args(Noise):
        raise ValueError(f"noise '{kind}' is none of {', '.join(get_args(Noise))}")
    if not 0 <= level <= 1:
        raise ValueError(f"noise level {level}: must be 0 to 1")
    changed = []
    for text, item_id in zip(descriptions, item_ids, strict=True):
        parts, gaps = _split(text)
        # All draws are made at every level, so that what one sentence gets does not depend on the others.
        generator = np.random.default_rng([seed, _number(item_id)])
        drawn = generator.random(len(parts)) < level
        draws = generator.random((len(parts), 3))
        noisy = zip(_apply(kind, parts, drawn, draws), gaps, strict=True)
        changed.append("".join(part + gap for part, gap in noisy if part).strip() if drawn.any() else text)
    return changed


def sentences(text: str) -> list[str]:
    """Split a text after ``.``, ``!``, ``?`` and ellipses that a space follows, and at line breaks."""
    return _split(text)[0]


def _split(text: str) -> tuple[list[str], list[str]]:
    """Return the sentences of a text and the white space after each of them."""
    pieces = _SENTENCE_END.split(text.strip())
    return (pieces[::2], [*pieces[1::2], ""]) if text.strip() else ([], [])


def _apply(kind: Noise, parts: list[str], drawn: np.ndarray, draws: np.ndarray) -> list[str]:
    """Return what stands in the place of each sentence of an item, an empty text where it is dropped.

    Args:
        kind: Of the noise.
        parts: The sentences.
        drawn: Bool [n], those that are changed.
        draws: Float64 [n, 3], uniform from 0 to 1.
    """
    if kind == "shuffled":
        places = np.flatnonzero(drawn)
        cycle = places[np.argsort(draws[places, 0])]
        order = np.arange(len(parts))
        order[np.roll(cycle, -1)] = cycle
        return [parts[place] for place in order.tolist()]
    result = list(parts)
    for place in np.flatnonzero(drawn).tolist():
        if kind == "missing":
            result[place] = ""
        elif kind == "boilerplate":
            result[place] += f" {BOILERPLATE[int(draws[place, 0] * len(BOILERPLATE))]}"
        else:
            result[place] = _marked_up(parts[place], draws[place])
    return result


def _marked_up(sentence: str, draw: np.ndarray) -> str:
    """Return a sentence as a careless crawler leaves it: entities, tags around it, remnants of the page before it."""
    before, after = _WRAPPERS[int(draw[0] * len(_WRAPPERS))]
    remnant = _REMNANTS[int(draw[1] * len(_REMNANTS))]
    text = html.escape(sentence)
    if draw[2] < 0.5:
        text = text.replace(" ", "&nbsp;", 1)
    return f"{remnant}{before}{text}{after}"


def _number(item_id: str) -> int:
    """Return a number of 64 bits that stands for an item."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "big")
