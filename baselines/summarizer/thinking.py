"""Answers of models that think before they answer: the thought is no part of a summary."""

from __future__ import annotations

from illmrec.errors import InputError

_BLOCKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
    ("<|channel>thought", "<channel|>"),
)


def opened(prompt: str) -> bool:
    """Return whether a prompt ends inside a thought, so that the answer begins with one."""
    return any(prompt.rfind(begin) > prompt.rfind(end) for begin, end in _BLOCKS)


def thinks(answer: str) -> bool:
    """Return whether an answer has a thought in it."""
    return any(mark in answer for block in _BLOCKS for mark in block)


def after_thoughts(answer: str, *, opened: bool, who: str) -> str:
    """Return an answer without the thoughts before it.

    Args:
        answer: What was generated, tokens that steer included.
        opened: Whether the prompt ended inside a thought.
        who: The summariser, for the error.

    Raises:
        InputError: If a thought does not end.
    """
    ends = [answer.rfind(end) + len(end) for _, end in _BLOCKS if end in answer]
    rest = answer[max(ends) :] if ends else answer
    if (opened and not ends) or any(begin in rest for begin, _ in _BLOCKS):
        raise InputError(
            f"{who} thinks before it answers, and its thought did not end within the tokens of a summary; turn its "
            "thinking off, raise --summary-tokens or use another summariser"
        )
    return rest
