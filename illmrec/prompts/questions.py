"""RISA's questions and answers as token ids (paper section 3.2): tokenised once for the whole catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from illmrec.errors import InputError
from illmrec.prompts.templates import ANSWERS, PROPERTIES, QUESTIONS
from illmrec.prompts.tokens import tokenise_texts


class Questions:
    """The 20 questions about the next item and every item's answers.

    Args:
        items: The items table.
        tokenizer: The backbone's tokenizer.
        answer_tokens: Longer answers are cut there; the paper does not say, descriptions are long.

    Raises:
        InputError: If the items have none of the four properties.
    """

    def __init__(self, *, items: pd.DataFrame, tokenizer: Any, answer_tokens: int = 64) -> None:
        self._questions = {
            name: tokenise_texts([f" {question}" for question in QUESTIONS[name]], tokenizer)
            for name in PROPERTIES
        }
        self._answers = {
            name: [
                ids[:answer_tokens]
                for ids in tokenise_texts(
                    [ANSWERS[name].format(value=value) for value in items[name]], tokenizer
                )
            ]
            for name in PROPERTIES
        }
        self._present = np.stack([(items[name] != "").to_numpy() for name in PROPERTIES])
        if not self._present.any(axis=0).all():
            row = int(np.argmin(self._present.any(axis=0)))
            raise InputError(
                f"item {items['item_id'][row]}: no title, brand, category or description to ask for"
            )

    def draw(self, items: np.ndarray, generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draw one question for each target item among the properties that the item has.

        Args:
            items: Int [n], target items.
            generator: Source of randomness.

        Returns:
            Per item the token ids of question and answer.
        """
        weights = np.where(self._present[:, items], generator.random((len(PROPERTIES), len(items))), -1.0)
        properties = weights.argmax(axis=0)
        wordings = generator.integers(len(QUESTIONS[PROPERTIES[0]]), size=len(items))
        return [
            (self._questions[PROPERTIES[p]][wording], self._answers[PROPERTIES[p]][item])
            for p, wording, item in zip(properties, wordings, items, strict=True)
        ]
