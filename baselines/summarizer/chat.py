"""Prompts for a local LLM: the token ids of its own chat template, applied to the real messages."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Mapping
from typing import Any

import jinja2

from baselines.summarizer import thinking
from baselines.summarizer.options import TEMPLATE_OPTIONS, TODAY, WITHOUT_TEMPLATE
from illmrec.errors import InputError
from illmrec.prompts.control_tokens import control_tokens, without_controls

_DATE = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")
# Two items with nothing in common: what their prompts share at the beginning, all prompts share.
_PROBES = (
    'Title: a plain (red) mug\nDescription: It\'s <b>20 % "new"</b> & 1 l.',
    "Brand: Zoë\nCategory: x | y",
)


class Prompts:
    """Turns items' texts into prompts of one LLM.

    The instruction stands in a system message where the LLM's chat template shows one, else in the user's. An LLM
    without a template is given the text alone.

    Args:
        tokenizer: The LLM's tokenizer.
        instruction: What is asked for.
        name: The LLM, for errors.

    Attributes:
        head: Token ids at the beginning of every prompt.
        opened: Whether a prompt ends inside a thought.
        turn_end: The token that ends an answer by the template, if it writes one.

    Raises:
        InputError: If no way to hand over instruction and text leaves both as they are.
    """

    def __init__(self, *, tokenizer: Any, instruction: str, name: str) -> None:
        self._tokenizer = tokenizer
        self._instruction = instruction
        self._name = name
        self._control = control_tokens(tokenizer)
        self._template = _template(tokenizer, name)
        self._options = {} if self._template is None else _read_by(self._template)
        self._system, self._in_parts = True, False
        if self._template is not None:
            self._system, self._in_parts = self._agreeing_form()
        probes = [self._ids(self._checked_text(probe)) for probe in _PROBES]
        shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*probes, strict=False))
        self.head = [first for first, _ in shared]
        self.opened = thinking.opened(self._checked_text(_PROBES[0]).rpartition(_PROBES[0])[2])
        self.turn_end = self._turn_end()

    def ids(self, text: str) -> list[int]:
        """Return the token ids of the prompt for an item's text; control tokens spelt in it are blanks.

        Raises:
            InputError: If the template changes the text.
        """
        lines = (
            " ".join(without_controls(line, self._tokenizer, self._control).split())
            for line in text.splitlines()
        )
        return self._ids(self._checked_text("\n".join(lines)))

    def _ids(self, prompt: str) -> list[int]:
        if self._template is not None:
            # A template writes the begin token itself.
            encoded = self._tokenizer(prompt, add_special_tokens=False, split_special_tokens=False)
            return list(encoded["input_ids"])
        ids = list(self._tokenizer(prompt, split_special_tokens=False)["input_ids"])
        if ids and ids[-1] == self._tokenizer.eos_token_id:
            ids.pop()
        return ids

    def _checked_text(self, text: str) -> str:
        if self._template is None:
            return WITHOUT_TEMPLATE.format(instruction=self._instruction, item=text)
        prompt = self._render(self._messages(text, system=self._system, in_parts=self._in_parts))
        if text not in prompt:
            raise InputError(
                f"--llm {self._name}: its chat template changes the text {text[:60]!r}; use another summariser "
                "(--summarizer)"
            )
        return prompt

    def _agreeing_form(self) -> tuple[bool, bool]:
        """Return the first form of messages that the template leaves whole: in a system message, in parts?"""
        reason = "it shows neither instruction nor text as they are"
        for in_parts, system in itertools.product((False, True), (True, False)):
            messages = self._messages(_PROBES[0], system=system, in_parts=in_parts)
            try:
                prompt = self._render(messages)
            except (jinja2.TemplateError, TypeError, ValueError, AttributeError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                continue
            if self._instruction not in prompt or prompt.count(_PROBES[0]) != 1:
                continue
            if self._ids(prompt) == self._template_ids(messages):
                return system, in_parts
            reason = "its token ids are not those of its text"
        raise InputError(
            f"--llm {self._name}: its chat template cannot be used for summaries ({reason}); use another summariser "
            "(--summarizer)"
        )

    def _messages(self, text: str, *, system: bool, in_parts: bool) -> list[dict[str, Any]]:
        def message(role: str, content: str) -> dict[str, Any]:
            return {"role": role, "content": [{"type": "text", "text": content}] if in_parts else content}

        if system:
            return [message("system", self._instruction), message("user", text)]
        return [message("user", f"{self._instruction}\n\n{text}")]

    def _render(self, messages: list[dict[str, Any]], *, answer: bool = True) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=answer,
                **self._options,
            )
        )

    def _template_ids(self, messages: list[dict[str, Any]]) -> list[int]:
        encoded = self._tokenizer.apply_chat_template(
            messages,
            chat_template=self._template,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            tokenizer_kwargs={"split_special_tokens": False},
            **self._options,
        )
        return list(encoded["input_ids"])

    def _turn_end(self) -> int | None:
        """Return the first control token after an answer in a conversation."""
        if self._template is None:
            return None
        answer = "An answer."
        messages = self._messages(_PROBES[0], system=self._system, in_parts=self._in_parts)
        reply: Any = [{"type": "text", "text": answer}] if self._in_parts else answer
        try:
            text = self._render([*messages, {"role": "assistant", "content": reply}], answer=False)
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError):
            return None  # a template for prompts alone; the model's own end tokens remain
        ids = self._tokenizer(
            text.rpartition(answer)[2], add_special_tokens=False, split_special_tokens=False
        )["input_ids"]
        return next((token for token in ids if token in self._control.ids), None)


def _template(tokenizer: Any, name: str) -> str | None:
    """Return the chat template, the default of several; None where there is none.

    Raises:
        InputError: If there are several and no default.
    """
    found = tokenizer.chat_template
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}
    if isinstance(found, Mapping):
        if len(found) > 1 and "default" not in found:
            raise InputError(
                f"--llm {name}: it has the chat templates {', '.join(sorted(found))} and none is called default; name "
                "one so in its folder or use another summariser (--summarizer)"
            )
        found = found["default"] if "default" in found else next(iter(found.values()), None)
    return _on_one_day(found, name) if found else None


def _read_by(template: str) -> dict[str, Any]:
    """Return what a template reads beside the messages."""
    return {option: value for option, value in TEMPLATE_OPTIONS.items() if option in template}


def _on_one_day(template: str, name: str) -> str:
    """Return a chat template with a date of its own in place of today's: prompts are the same on every day.

    Raises:
        InputError: If the template makes up how a date is written.
    """
    day = datetime.date(*TODAY)
    dated = _DATE.sub(lambda call: repr(day.strftime(call["format"])), template)
    if "strftime_now(" in dated:
        raise InputError(
            f"--llm {name}: its chat template prints today's date in a form that is not known, so that summaries would "
            "change every day; use another summariser (--summarizer)"
        )
    return dated
