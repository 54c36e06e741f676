"""Mutations by chance: of bytes, of JSON values, and of the headers of .npy and safetensors files."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**31 - 1,
    -(2**31),
    2**32 - 1,
    2**40,
    2**63 - 1,
)
TEXTS = (
    "", " ", "0", "-1", "nan", "None", "a" * 5_000, "../../outside/secret.txt", "/etc/passwd", "\x00", "a\nb", "a\r\nb",
    "\u2028", "\u202eevil", "\x1b[31mred", "B1", "{name}", "%s", "\ufeff", "\U0010ffff", "é", "e\u0301",
    "=cmd|' /C calc'!A0",
    "os:system", "builtins:exit", "2020-01-01", "1e400", "0x10", "true",
)  # fmt: skip


def mutated_bytes(rng: random.Random, content: bytes, *, most: int = 6) -> bytes:
    """Return bytes with some changes: bits, numbers, cuts, repetitions and pieces moved."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, most)):
        rng.choice(_BYTE_CHANGES)(rng, changed)
    return bytes(changed)


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _number(rng: random.Random, data: bytearray) -> None:
    form = rng.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    if len(data) >= size:
        at = rng.randrange(len(data) - size + 1)
        data[at : at + size] = struct.pack(form, rng.choice(NUMBERS) % (1 << 8 * size))


def _cut(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 4, 16, 256, 1 << 20))]


def _shorten(rng: random.Random, data: bytearray) -> None:
    if rng.random() < 0.3:
        del data[rng.randrange(len(data) + 1) :]


def _repeat(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    piece = bytes(data[at : at + rng.choice((1, 4, 16, 256))])
    data[at:at] = piece * rng.choice((1, 2, 100))


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(
        (rng.randbytes(rng.randint(1, 8)), b"\x00" * 64, b"\xff" * 64, b"\xc3\x28", b"\r", b"\n", b'"')
    )


def _move(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data) + 1)
    piece = bytes(data[start : start + rng.randint(1, 64)])
    del data[start : start + len(piece)]
    at = rng.randrange(len(data) + 1)
    data[at:at] = piece


_BYTE_CHANGES: Sequence[Callable[[random.Random, bytearray], None]] = (
    _flip, _flip, _flip, _number, _number, _cut, _shorten, _repeat, _insert, _move,
)  # fmt: skip


def odd_value(rng: random.Random) -> Any:
    """Return a JSON value that few programs expect."""
    kind = rng.randrange(9)
    if kind == 0:
        return rng.choice(TEXTS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(
            (0.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf"), 2**53 + 1.0, 2**70, 10**400)
        )
    if kind == 3:
        return rng.choice((None, True, False))
    if kind == 4:
        return rng.choice(([], {}, [[]], [None], {"": ""}, [{}], [1, "a"]))
    if kind == 5:
        return [rng.choice(TEXTS) for _ in range(rng.randint(1, 4))]
    if kind == 6:
        return {rng.choice(TEXTS): rng.choice(NUMBERS)}
    nested: Any = rng.choice(TEXTS)
    for _ in range(rng.choice((3, 50, 150))):
        nested = [nested] if kind == 7 else {"a": nested}
    return nested


def mutated_value(rng: random.Random, value: Any, *, most: int = 3) -> Any:
    """Return a JSON value of which some parts are other values, gone, renamed, added or of another type."""
    changed = copy.deepcopy(value)
    for _ in range(rng.randint(1, most)):
        places = list(_places(changed))
        if not places:
            return odd_value(rng)
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind <= 1:
            holder[key] = odd_value(rng)
        elif kind == 2:
            del holder[key]
        elif kind == 3 and isinstance(holder, dict):
            holder[rng.choice((*TEXTS, str(key).upper(), f"{key} "))] = holder.pop(key)
        elif kind == 4 and isinstance(holder, dict):
            holder[rng.choice(TEXTS)] = odd_value(rng)
        else:
            held = holder[key]
            holder[key] = rng.choice((str(held), [held], {"a": held}, 1 if isinstance(held, str) else "1"))
    return changed if rng.random() > 0.02 else odd_value(rng)


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        at = pending.pop()
        if isinstance(at, dict):
            found += [(at, key) for key in at]
            pending += at.values()
        elif isinstance(at, list):
            found += [(at, place) for place in range(len(at))]
            pending += at
    return found


def json_text(rng: random.Random, value: Any, *, indent: int | None = None) -> bytes:
    """Return a value as JSON, now and then in a form that few write."""
    text = json.dumps(value, indent=indent, ensure_ascii=rng.random() < 0.5)
    kind = rng.randrange(30)
    if kind == 0:
        text = "[" * 100_000 + "]" * 100_000
    elif kind == 1:
        text = '{"a":' * 50_000 + "1" + "}" * 50_000
    elif kind == 2:
        text = f"{text} trailing"
    elif kind == 3:
        text = text.replace("1", "1" * 5_000, 1)
    elif kind == 4:
        text = text.replace('"', '"\\ud800', 1)
    elif kind == 5 and text.startswith("{"):
        text = '{"format": 99, "format": 1, ' + text[1:]
    encoded = text.encode("utf-8", "surrogatepass")
    if kind == 6:
        encoded = b"\xef\xbb\xbf" + encoded
    elif kind == 7:
        encoded = text.encode("utf-16", "surrogatepass")
    elif kind in (8, 9, 10):
        encoded = mutated_bytes(rng, encoded)
    return encoded


def mutated_npy(rng: random.Random, array: np.ndarray) -> bytes:
    """Return a .npy file that claims or holds something else."""
    kind = rng.randrange(5)
    if kind == 0:
        return mutated_bytes(rng, _saved(array))
    if kind == 1:
        objects = np.empty(2, dtype=object)
        objects[:] = [print, {"a": 1}]
        return _saved(rng.choice((objects, objects.reshape(2, 1))), allow_pickle=True)
    if kind == 2:
        changed: Any = rng.choice(
            (
                array.astype(rng.choice(("f2", "f4", "f8", ">f4", "i4", "u1", "?", "c8", "S3", "U2", "M8[s]"))),
                array.T, array[:0], array.ravel(), array[..., None], np.asfortranarray(array), np.float32(3),
                np.full_like(array, rng.choice((0, 1))), np.zeros(3, dtype=[("a", "f4"), ("b", "i8")]),
            )
        )  # fmt: skip
        return _saved(np.asarray(changed))
    if kind == 3 and array.dtype.kind == "f":
        spoilt = array.copy()
        if spoilt.size:
            spoilt.flat[rng.randrange(spoilt.size)] = rng.choice((np.nan, np.inf, -np.inf, 0.0))
        return _saved(spoilt)
    described: dict[str, Any] = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    name = rng.choice(tuple(described))
    described[name] = {
        "descr": lambda: rng.choice(("|O", "<f16", "<f4", "f", 3, None, [], [("a", "<f4")], ("<f4", (2**40,)), "|V0",
                                     "|S0")),
        "fortran_order": lambda: rng.choice((True, None, 1, "yes")),
        "shape": lambda: rng.choice(
            ((2**62, 4), (2**40, 2**40), (-1, 4), (0, 0), (), (1,) * 70, (4.0, 2), "x",
             (array.shape[0] * 1000, *array.shape[1:]))
        ),
    }[name]()  # fmt: skip
    text = repr(described)
    if rng.random() < 0.1:
        text = rng.choice(
            (
                "{" * 5_000,
                "__import__('os').system('true')",
                "[" * 900 + "]" * 900,
                "",
                "{'a': 1}",
                "1" * 9_000,
            )
        )
    header = text.encode() + b"\n"
    version = rng.choice((1, 1, 1, 2, 3, 0, 255))
    length = struct.pack(
        "<H" if version == 1 else "<I", len(header) if rng.random() < 0.9 else rng.choice((0, 65535))
    )
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + array.tobytes()


def _saved(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def mutated_safetensors(rng: random.Random, content: bytes) -> bytes:
    """Return a safetensors file with another header, another length of it, or other bytes."""
    (length,) = struct.unpack_from("<Q", content)
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = rng.randrange(6)
    if kind == 0:
        return mutated_bytes(rng, content)
    if kind == 1:
        return struct.pack("<Q", rng.choice(NUMBERS) % 2**64) + content[8:]
    if kind == 2:
        names = [name for name in header if name != "__metadata__"]
        tensor = header[rng.choice(names)]
        count = int(np.prod(tensor["shape"]))
        tensor["shape"] = rng.choice(([count], [1, count], [2**62, 4], [-1], [], [0], [count, 1, 1]))
        if rng.random() < 0.5:
            tensor["dtype"] = rng.choice(("F16", "F64", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "X"))
    elif kind == 3:
        spoilt = bytearray(data)
        for _ in range(min(4, len(spoilt) // 4)):
            at = 4 * rng.randrange(len(spoilt) // 4)
            spoilt[at : at + 4] = rng.choice(
                (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\xff" * 4)
            )
        data = bytes(spoilt)
    else:
        header = mutated_value(rng, header)
    text = json_text(rng, header) if kind > 3 else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
