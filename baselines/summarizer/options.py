"""What a summariser is asked, and all its settings.

The paper (Appendix A) does not print its prompt; the one here asks for the same thing: the item's attributes and
description, condensed. Its summaries have about 160 tokens (Figure 1(a)), which is 120 words of English.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlsplit

from illmrec.errors import InputError
from illmrec.files import hash_json

VERSION = 2  # changes when the same options would give other summaries
INSTRUCTION = (
    "Give a concise, objective summary of the item that the text describes, with its key details, in at most {words} "
    "words. Answer with the summary alone."
)
WITHOUT_TEMPLATE = "{instruction}\n\n{item}\n\nSummary:"
"""The prompt of an LLM that has no chat template."""
TEMPLATE_OPTIONS = {"enable_thinking": False, "thinking": False}
"""Handed to chat templates that read them: nobody reads the thoughts behind a summary."""
TODAY = (2024, 7, 26)
"""The date of chat templates that print one: the same on every day, so that summaries do not depend on it."""
API_KEY = "SUMMARIZER_API_KEY"
"""The environment variable with the key of an endpoint."""
ENDPOINT_CONTEXT = 8192
"""What a model whose limit is not known reads at once, in tokens."""
BYTES_PER_TOKEN = 2
"""UTF-8 bytes that count as a token of an endpoint's model: few, since its tokenizer is not known."""


@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """How long summaries are; part of their cache's key.

    Attributes:
        max_words: What the prompt asks for, where a summary is cut, and up to where a description is kept as it is.
        max_new_tokens: Longest generation; an unfinished last sentence is dropped where a whole one precedes it. None
            is five tokens for three words, so that the limit of words can be reached.
        context: Tokens of prompt and answer at most; longer sources are summarised in chunks. None is the LLM's limit.

    Raises:
        InputError: If a limit is below 1, or the words cannot be reached.
    """

    max_words: int = 120
    max_new_tokens: int | None = None
    context: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("summary-words", self.max_words), ("summarizer-context", self.context)):
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        if self.new_tokens < self.max_words:
            raise InputError(
                f"--summary-tokens {self.new_tokens}: too few for --summary-words {self.max_words}; give at least "
                f"{self.max_words}, better {_tokens(self.max_words)}"
            )

    @property
    def new_tokens(self) -> int:
        """Longest generation, in tokens."""
        return _tokens(self.max_words) if self.max_new_tokens is None else self.max_new_tokens

    @property
    def instruction(self) -> str:
        """What the summariser is asked."""
        return INSTRUCTION.format(words=self.max_words)

    def described(self) -> dict[str, int | str]:
        """Return what changes summaries, as JSON values."""
        limits: dict[str, int | str] = {
            "version": VERSION,
            "prompt": hash_json([INSTRUCTION, WITHOUT_TEMPLATE, TEMPLATE_OPTIONS, TODAY])[:8],
            "max_words": self.max_words,
            "max_new_tokens": self.new_tokens,
        }
        return limits if self.context is None else {**limits, "context": self.context}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server that speaks OpenAI's protocol of chat completions, and a model that it serves.

    Attributes:
        url: Its base, such as ``http://127.0.0.1:8000/v1``, or the address of the chat completions themselves.
        model: The model's name there.
        timeout: Seconds that one request may take.
        requests: Requests at a time.

    Raises:
        InputError: If the address or a number cannot be used.
    """

    url: str
    model: str
    timeout: float = 120.0
    requests: int = 8

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            # What is no address may be a key in the wrong place: it is not repeated.
            raise InputError("--summarizer: not an address; give http://HOST/v1 or https://HOST/v1")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise InputError(
                f"--summarizer: give the address alone, without a user, a key or a query; a key goes into the "
                f"environment variable {API_KEY}"
            )
        if not self.model.strip():
            raise InputError("--summarizer-model: give the name of a model that the endpoint serves")
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise InputError(f"--summarizer-timeout {self.timeout}: must be seconds above 0")
        if self.requests < 1:
            raise InputError(f"--summarizer-requests {self.requests}: must be at least 1")

    @property
    def address(self) -> str:
        """Where requests go."""
        base = self.url.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"

    @property
    def name(self) -> str:
        """Model and server as readers see them."""
        parts = urlsplit(self.address)
        return f"{self.model} at {parts.netloc}{parts.path.removesuffix('/chat/completions')}"

    def described(self) -> dict[str, str]:
        """Return what identifies who writes: the same name at another address need not be the same model."""
        return {"model": self.model, "address": self.address}


def _tokens(words: int) -> int:
    return math.ceil(words * 5 / 3)
