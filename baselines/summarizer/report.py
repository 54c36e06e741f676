"""Who wrote the summaries of a data set, from what, and what it cost: shown beside TRSR's results."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SummaryReport:
    """How a data set came to its summaries. ``given + kept + generated + attributes_only`` is ``items``.

    Attributes:
        items: Number of items.
        given: Items whose summary came with the data.
        kept: Items whose description is within the limit of words and was kept as it is.
        generated: Items whose summary the summariser wrote.
        attributes_only: Items with title and attributes alone: no description, or the summariser said nothing.
        cut: Generated items whose source was read in chunks or whose answer was cut at a limit.
        chunked: Those of them whose source exceeded what the summariser reads at once.
        mean_words: Mean words of all summaries.
        mean_tokens: Mean tokens of all summaries by the LLM's tokenizer; None where no LLM was loaded.
        seconds: Time that writing the generated ones took in all, earlier runs included, without loading a model.
        summarizer: Who wrote them: the LLM's name, or an endpoint's model and address; empty if nobody had to.
    """

    items: int
    given: int
    kept: int
    generated: int
    attributes_only: int
    cut: int
    chunked: int
    mean_words: float
    mean_tokens: float | None
    seconds: float
    summarizer: str

    def described(self) -> dict[str, Any]:
        """Return it as JSON values, to be stored with results."""
        return asdict(self)

    def log(self) -> None:
        """Say it in one line."""
        length = f"{self.mean_words:.0f} words" + (
            "" if self.mean_tokens is None else f" ({self.mean_tokens:.0f} tokens)"
        )
        logger.info(
            "summaries of %d items: %d came with the data, %d short descriptions kept, %d generated (%d of them cut, "
            "%.0f s of writing), %d from title and attributes alone; %s on average",
            self.items, self.given, self.kept, self.generated, self.cut, self.seconds, self.attributes_only, length,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Summaries:
    """A summary of every item, and how it came about.

    Attributes:
        texts: One summary an item.
        report: Counts, lengths and time.
    """

    texts: list[str]
    report: SummaryReport
