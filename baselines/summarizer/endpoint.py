"""Summaries by a server that speaks OpenAI's protocol: some requests at a time, each tried again where it may help."""

from __future__ import annotations

import email.utils
import logging
import math
import os
import random
import re
import threading
import time
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import datetime, timezone
from typing import Any

import requests

from baselines.summarizer import thinking
from baselines.summarizer.options import (
    API_KEY,
    BYTES_PER_TOKEN,
    ENDPOINT_CONTEXT,
    Endpoint,
    SummaryOptions,
)  # fmt: skip
from baselines.summarizer.prompt import Prompt
from baselines.summarizer.store import Answer
from baselines.summarizer.text import clean, trim
from illmrec.errors import InputError
from illmrec.files import hash_json, parsed_json

logger = logging.getLogger(__name__)

_TRIES = 6
_FIRST_PAUSE = 1.0  # seconds, doubled after each try
_LONGEST_PAUSE = 60.0
_LONGEST_WAIT = 900.0  # a server that asks for more is not waited for
_LONGEST_ANSWER = 4_000_000  # bytes
_TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
# What steers the usual models: the server reads it where it stands in a text.
# Brackets in other widths are the same to tokenizers that normalise.
_CONTROL = re.compile(
    r"[<＜﹤][|｜][^<>＜＞\s]{0,60}[|｜][>＞﹥]|[<＜﹤][/／]?(?:s|bos|eos|pad|unk|mask|think|tool_call|tool_response|image|"
    r"image_soft_token|start_of_image|end_of_image|start_of_turn|end_of_turn|extra_id_\d+|unused\d+)[>＞﹥]|"
    r"[\[［][/／]?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT|THINK|IMG|IMG_BREAK|IMG_END)[\]］]",
    re.IGNORECASE,
)


class _TryAgainError(Exception):
    """A request failed in a way that may pass.

    Args:
        reason: What happened.
        wait: Seconds that the server asks for.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Unsupported(Exception):
    """The server does not know a parameter of the request; the next request goes without."""


class EndpointWriter:
    """Requests to one endpoint; the key, if the environment has one, is neither logged nor stored.

    Args:
        endpoint: Server and model.
        options: Lengths.

    Attributes:
        name: Model and server.
        key: What stands for all that its summaries depend on beside the prompt.
        room: Longest prompt, in tokens as they are estimated.
    """

    def __init__(self, *, endpoint: Endpoint, options: SummaryOptions) -> None:
        self._endpoint = endpoint
        self._options = options
        self.name = endpoint.name
        self.key = hash_json({**options.described(), **endpoint.described()})
        context = options.context or ENDPOINT_CONTEXT
        self.room = context - options.new_tokens
        if self.room <= self.prompt("").length:
            raise InputError(
                f"--summarizer-context {context}: the instruction and an answer of {options.new_tokens} tokens leave "
                "no room for a text; lower --summary-words or raise it"
            )
        self._key = os.environ.get(API_KEY, "").strip()
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            raise InputError(f"{API_KEY}: a key has letters, digits and signs only")
        self._parameters: dict[str, Any] = {"max_tokens": options.new_tokens, "temperature": 0}
        self._stopped = threading.Event()
        self._said = False

    def prompt(self, text: str) -> Prompt:
        """Return the prompt for an item's text; what may steer a model is a blank."""
        lines = (" ".join(_CONTROL.sub(" ", line).split()) for line in text.splitlines())
        messages = [
            {"role": "system", "content": self._options.instruction},
            {"role": "user", "content": "\n".join(lines)},
        ]
        size = sum(len(message["content"].encode("utf-8", errors="replace")) for message in messages)
        return Prompt(key=hash_json(messages), length=math.ceil(size / BYTES_PER_TOKEN), content=messages)

    def write(self, prompts: Sequence[Prompt], *, known: Container[str]) -> Iterator[list[Answer]]:
        """Ask for the prompts that are not known, in their order; each answer comes as soon as it is there.

        After a failure no request is begun, and the answers on their way are still given.

        Raises:
            InputError: If the server cannot be used, or answers nothing that can be.
        """
        missing = [prompt for prompt in prompts if prompt.key not in known]
        self._stopped.clear()
        failure: BaseException | None = None
        last = time.perf_counter()
        with (
            requests.Session() as session,
            ThreadPoolExecutor(self._endpoint.requests, thread_name_prefix="summarizer") as pool,
        ):
            try:
                futures: dict[Future[tuple[str, bool]], Prompt] = {
                    pool.submit(self._answer, session, prompt): prompt for prompt in missing
                }
                for future in as_completed(futures):
                    if future.cancelled():
                        continue
                    error = future.exception()
                    if error is not None:
                        failure = failure or error
                        self._stop(futures)
                        continue
                    text, cut = future.result()
                    now = time.perf_counter()
                    yield [Answer(key=futures[future].key, text=text, cut=cut, seconds=now - last)]
                    last = now
            finally:
                self._stop(futures)
        if failure is not None:
            raise failure

    def _stop(self, futures: dict[Future[tuple[str, bool]], Prompt]) -> None:
        self._stopped.set()
        for future in futures:
            future.cancel()

    def _answer(self, session: requests.Session, prompt: Prompt) -> tuple[str, bool]:
        problem = ""
        for attempt in range(_TRIES):
            if self._stopped.is_set():
                raise self._refused("stopped")
            try:
                return self._ask(session, prompt)
            except _Unsupported:
                continue
            except _TryAgainError as error:
                problem, wait = str(error), error.wait
            if wait is not None and wait > _LONGEST_WAIT:
                raise self._refused(f"{problem}, and asks to wait for {wait:.0f} s; try again later")
            if attempt + 1 < _TRIES:
                # Many requests that failed at once must not come again at once.
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)
                self._pause(max(pause, wait or 0.0))
        raise self._refused(f"{problem}, {_TRIES} times; what is written is kept, try again later")

    def _pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _ask(self, session: requests.Session, prompt: Prompt) -> tuple[str, bool]:
        """Send one request and read its answer.

        Raises:
            InputError: If no other try can help.
        """
        sent = dict(self._parameters)
        body = {"model": self._endpoint.model, "messages": prompt.content, **sent}
        try:
            status, headers, answer = self._exchange(session, body)
        except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
            raise self._refused(f"no connection ({type(error).__name__}); see its address") from None
        except requests.RequestException as error:
            # A time-out within the body comes as a lost connection.
            if isinstance(error, requests.Timeout) or "timed out" in str(error):
                limit = f"{self._endpoint.timeout:g} s (--summarizer-timeout)"
                raise _TryAgainError(f"it does not answer within {limit}") from None
            raise _TryAgainError(f"no answer ({type(error).__name__})") from None
        if status != 200:
            self._refuse(status, headers, answer, sent)
        return self._read(headers, answer, prompt)

    def _exchange(
        self, session: requests.Session, body: dict[str, Any]
    ) -> tuple[int, requests.structures.CaseInsensitiveDict[str], bytes]:
        """Return status, headers and body; a server that sends a byte now and then is late as well."""
        limit = self._endpoint.timeout
        end = time.monotonic() + limit
        with session.post(
            self._endpoint.address,
            json=body,
            auth=self._authorise,
            timeout=(min(10.0, limit), limit),
            allow_redirects=False,
            stream=True,
        ) as response:
            answer = bytearray()
            for part in response.iter_content(chunk_size=1):  # larger parts would be waited for
                answer += part
                if time.monotonic() > end:
                    raise requests.Timeout
                if len(answer) > _LONGEST_ANSWER:
                    raise self._refused("its answer does not end")
            return response.status_code, response.headers, bytes(answer)

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Without this, requests would look for a password of the host in the user's files.
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _refuse(self, status: int, headers: Any, answer: bytes, sent: dict[str, Any]) -> None:
        """Raise what a status other than 200 means."""
        said = self._said_by(answer)
        if status in (400, 422) and self._goes_without(said, sent):
            raise _Unsupported
        if 300 <= status < 400:
            raise self._refused(f"it points elsewhere (status {status}); give the address it points to")
        if status in (401, 403):
            how = "another key in" if self._key else "a key in"
            raise self._refused(f"it refuses access (status {status}); put {how} {API_KEY}")
        if status == 404:
            raise self._refused(
                f"no such model or address (status 404{said}); see --summarizer-model, and whether the address ends in "
                "/v1"
            )
        if status == 413 or (status in (400, 422) and re.search(r"context|too long|maximum.*tokens", said)):
            raise self._refused(
                f"a text is too long for it (status {status}{said}); lower --summarizer-context"
            )
        if status == 429 and "quota" in said:
            raise self._refused(f"its quota is used up (status 429{said})")
        if status in _TRY_AGAIN:
            raise _TryAgainError(f"it answers with status {status}{said}", wait=_retry_after(headers))
        raise self._refused(f"it answers with status {status}{said}")

    def _goes_without(self, said: str, sent: dict[str, Any]) -> bool:
        """Leave out what the server says it does not support; newer models call the limit by another name."""
        if "max_tokens" in sent and "max_completion_tokens" in said:
            changed = {**sent, "max_completion_tokens": sent["max_tokens"]}
            del changed["max_tokens"]
        elif "temperature" in sent and "temperature" in said:
            changed = {name: value for name, value in sent.items() if name != "temperature"}
        else:
            return False
        self._parameters = changed
        return True

    def _said_by(self, answer: bytes) -> str:
        """Return the message of an error as ``: MESSAGE`` on one line, without the key; empty if there is none."""
        try:
            found = parsed_json(answer)
            error = found.get("error", found)
            message = error.get("message", "") if isinstance(error, dict) else error
            kind = error.get("code") if isinstance(error, dict) else None
        except (ValueError, AttributeError):
            return ""
        text = clean(f"{message} {kind if isinstance(kind, str) else ''}")
        if self._key:
            text = text.replace(self._key, "***")
        return f": {text[:200]}" if text else ""

    def _read(self, headers: Any, answer: bytes, prompt: Prompt) -> tuple[str, bool]:
        """Return the summary in an answer, and whether its end is missing."""
        if answer.lstrip()[:1] == b"<" or "html" in headers.get("Content-Type", "").lower():
            raise self._refused(
                "it answers with a web page, not with JSON; give the address of its API, ending in /v1"
            )
        try:
            found = parsed_json(answer)
            choice = found["choices"][0]
            content = choice["message"].get("content")
            reason = choice.get("finish_reason")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _TryAgainError(f"its answer is no chat completion in JSON{self._said_by(answer)}") from None
        served = found.get("model")
        if isinstance(served, str) and served != self._endpoint.model and not self._said:
            self._said = True
            logger.warning(
                "--summarizer: asked for %s, %s answers", self._endpoint.model, clean(served)[:100]
            )
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        if content is not None and not isinstance(content, str):
            raise _TryAgainError("its answer is no chat completion in JSON")
        text = thinking.after_thoughts(content or "", opened=False, who=f"--summarizer {self.name}")
        text, cut = trim(text, words=self._options.max_words, finished=reason != "length")
        if not text:
            first = clean(prompt.content[-1]["content"].splitlines()[0])[:60]
            why = f" (finish_reason {clean(reason)[:40]})" if reason else ""
            raise _TryAgainError(f"its summary of the item '{first}' is empty{why}")
        return text, cut

    def _refused(self, why: str) -> InputError:
        return InputError(f"--summarizer {self.name}: {why}")


def _retry_after(headers: Any) -> float | None:
    """Return the seconds to wait that a server asks for, as a number or a date."""
    text = headers.get("Retry-After")
    if not text:
        return None
    try:
        seconds = float(text)
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
