"""Items by their pictures as a vision-language model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illmrec.features.grids import MLLM
from illmrec.prompts.segments import ImageRepresentation, Segment, Slot, Text


class MLLMPictures(ImageRepresentation):
    """The title and the picture, which takes as many tokens as the model gives it; without one it is I-LLMRec's."""

    name = "mllm"
    slots: tuple[str, ...] = (MLLM,)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title and picture, or title and description where there is no picture."""
        if MLLM not in available:
            return super().render(item, frozenset())
        return [Text(f" {{Title: {item['title']}, Visual representation:"), Slot(MLLM), Text("},")]
