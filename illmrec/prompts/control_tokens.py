"""Which tokens steer an LLM, and how texts from users are kept from spelling one."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from illmrec.errors import InputError

_BRACKETED = re.compile(r"[▁\s]*[<\[{|◁⟨〈《【«＜｜].*[>\]}|▷⟩〉》】»＞｜][▁\s]*", re.DOTALL)
_BRACKETS = frozenset("<>[]{}|｜◁▷⟨⟩")
_HTML = re.compile(
    r"</?(?:a|abbr|b|blockquote|br|caption|center|code|div|em|h[1-6]|hr|i|li|ol|p|pre|small|span|strong|sub|sup|table|"
    r"tbody|td|tfoot|th|thead|tr|u|ul)>"
)


@dataclass(frozen=True, kw_only=True)
class ControlTokens:
    """The tokens of a vocabulary that only templates may write.

    Those that the tokenizer calls special, named or not, and added tokens in brackets that are not called so, such as
    ``<think>`` or ``<tool_call>``. Words, runs of blanks and HTML elements that were added to a vocabulary are text.

    Attributes:
        ids: Their ids, without that of the unknown token, which ordinary text may have.
        texts: How they are spelt, the longest first.
    """

    ids: frozenset[int]
    texts: tuple[str, ...]


def control_tokens(tokenizer: Any) -> ControlTokens:
    """Return the control tokens of a tokenizer."""
    found = {
        str(token): token_id for token_id, token in tokenizer.added_tokens_decoder.items() if _steers(token)
    }
    for text in tokenizer.all_special_tokens:
        found.setdefault(str(text), tokenizer.convert_tokens_to_ids(text))
    found.pop("", None)
    ids = {token_id for token_id in found.values() if token_id is not None} - {tokenizer.unk_token_id}
    return ControlTokens(ids=frozenset(ids), texts=tuple(sorted(found, key=lambda text: (-len(text), text))))


def _steers(token: Any) -> bool:
    text = str(token)
    return bool(token.special) or (bool(_BRACKETED.fullmatch(text)) and not _HTML.fullmatch(text.strip("▁ ")))


def encode_as_text(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Return the ids of texts in which a control token is spelt out, as if it were no token.

    Texts without one have the ids that the tokenizer itself gives them.

    Raises:
        InputError: If a text has a control token however it is encoded.
    """
    control = control_tokens(tokenizer)
    encoded = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
    )["input_ids"]
    rows = [list(row) for row in encoded]
    # Splitting concerns special tokens alone.
    spelt = [row for row, ids in enumerate(rows) if not control.ids.isdisjoint(ids)]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not spelt or backend is None:
        return _checked(rows, texts, control)
    all_special = _with_special(backend, control.texts)
    for row in spelt:
        rows[row] = all_special.encode(texts[row], add_special_tokens=False).ids
        if not control.ids.isdisjoint(rows[row]):  # the spelling is in the vocabulary that texts are made of
            rows[row] = _in_pieces(_broken(texts[row], control.texts), all_special)
        if not control.ids.isdisjoint(
            rows[row]
        ):  # it is spelt by characters that the tokenizer changes first
            rows[row] = _in_pieces(list(texts[row]), all_special)
    return _checked(rows, texts, control)


def _checked(rows: list[list[int]], texts: Sequence[str], control: ControlTokens) -> list[list[int]]:
    for ids, text in zip(rows, texts, strict=True):
        if not control.ids.isdisjoint(ids):
            raise InputError(
                f"the LLM's tokenizer reads a control token in the text {text[:60]!r}; take it out of the data or use "
                "another --llm"
            )
    return rows


def _with_special(backend: Tokenizer, texts: Sequence[str]) -> Tokenizer:
    """Return a copy of a tokenizer for which these tokens are special, and which does not recognise special ones."""
    described = json.loads(backend.to_str())
    for token in described["added_tokens"]:
        token["special"] = token["special"] or token["content"] in texts
    copied = Tokenizer.from_str(json.dumps(described))
    copied.no_truncation()
    copied.no_padding()
    copied.encode_special_tokens = True
    return copied


def _in_pieces(pieces: list[str], backend: Tokenizer) -> list[int]:
    encoded = backend.encode_batch(pieces, add_special_tokens=False)
    return [one for piece in encoded for one in piece.ids]


def _broken(text: str, spelt: Sequence[str]) -> list[str]:
    """Cut a text after the first character of every control token in it."""
    pattern = "|".join(
        f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in spelt if token[1:]
    )
    return [piece for piece in re.split(pattern, text) if piece] if pattern else [text]


def without_controls(text: str, tokenizer: Any, control: ControlTokens) -> str:
    """Return a text from a user in which every control token is a blank, for prompts that are tokenised as a whole.

    Raises:
        InputError: If the tokenizer still reads one.
    """
    pattern = re.compile("|".join(map(re.escape, control.texts)) or r"(?!)")
    while pattern.search(text):  # what is left may spell another
        text = pattern.sub(" ", text)
    if not _has(text, tokenizer, control):
        return text
    # Tokenizers that change letters first may read one that is spelt otherwise.
    text = "".join(" " if _BRACKETS.intersection(unicodedata.normalize("NFKC", one)) else one for one in text)
    if _has(text, tokenizer, control):
        raise InputError(
            f"the LLM's tokenizer reads a control token in the text {text[:60]!r}; take it out of the data or use "
            "another --llm"
        )
    return text


def _has(text: str, tokenizer: Any, control: ControlTokens) -> bool:
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]
    return not control.ids.isdisjoint(ids)
