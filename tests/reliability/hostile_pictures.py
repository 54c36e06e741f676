"""Pictures made by code: of every format, mode and shape, forged and damaged."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from contained import Reader
from mutated_files import mutated_bytes
from PIL import Image

from illmrec.data.images import IMAGE_FORMATS, MAX_PIXELS

PNG = b"\x89PNG\r\n\x1a\n"
_MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L", "RGB"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK", "LAB", "YCbCr"),
    "AVIF": ("RGB", "RGBA"),
}


def noise(rng: random.Random, mode: str, size: tuple[int, int]) -> Image.Image:
    """Return a picture of chance in a mode."""
    width, height = size
    if mode == "I;16":
        values = np.frombuffer(rng.randbytes(2 * width * height), dtype=np.uint16).reshape(height, width)
        return Image.fromarray(values)
    if mode in ("I", "F"):
        numbers = np.frombuffer(rng.randbytes(4 * width * height), dtype=np.int32).reshape(height, width)
        return Image.fromarray(numbers if mode == "I" else (numbers / 2**23).astype(np.float32))
    if mode == "P":
        picture = Image.frombytes("P", size, rng.randbytes(width * height))
        picture.putpalette(rng.randbytes(768))
        return picture
    if mode == "1":
        return Image.frombytes("1", size, rng.randbytes((width + 7) // 8 * height))
    return Image.frombytes(
        mode, size, rng.randbytes(width * height * len(Image.new(mode, (1, 1)).getbands()))
    )


def saved(rng: random.Random, kind: str, mode: str, size: tuple[int, int]) -> bytes:
    """Return a valid file, with options of chance: EXIF, transparency, frames, compression."""
    picture = noise(rng, mode, size)
    options: dict[str, object] = {}
    if rng.random() < 0.3 and kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        exif = Image.Exif()
        exif[0x0112] = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65535))
        exif[0x010E] = "a text"
        options["exif"] = exif
    if kind == "JPEG":
        options |= {"progressive": rng.random() < 0.3, "quality": rng.choice((1, 50, 95))}
    if kind == "PNG" and mode in ("P", "L", "RGB", "1", "I;16") and rng.random() < 0.5:
        options["transparency"] = {
            "P": rng.choice((b"\x00\x80\xff" * 80, 3)), "L": 7, "RGB": (1, 2, 3), "1": 0, "I;16": 500,
        }[mode]  # fmt: skip
    if kind == "TIFF" and mode in ("RGB", "L", "RGBA", "CMYK") and rng.random() < 0.5:
        options["compression"] = rng.choice(("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"))
        if options["compression"] == "jpeg" and mode not in ("RGB", "L"):
            options["compression"] = "tiff_lzw"
    if kind in ("GIF", "PNG", "WEBP", "TIFF") and "transparency" not in options and rng.random() < 0.25:
        frames = [noise(rng, mode, size) for _ in range(rng.choice((1, 2, 5)))]
        options |= {"save_all": True, "append_images": frames, "duration": 10}
    file = io.BytesIO()
    try:
        picture.save(file, kind, **options)  # type: ignore[arg-type]
    except (OSError, RuntimeError):  # options that this format does not take together
        picture.save(file := io.BytesIO(), kind)
    return file.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file, with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"", more: bytes = b""
) -> bytes:
    """Return a PNG file with a header as told, whatever its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        PNG
        + png_chunk(b"IHDR", header)
        + more
        + png_chunk(b"IDAT", zlib.compress(data, 9))
        + png_chunk(b"IEND", b"")
    )


def many_scans(size: tuple[int, int], scans: int) -> bytes:
    """Return a progressive JPEG whose last scan comes again and again: each takes the time of the whole picture."""
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, "JPEG", progressive=True, quality=50)
    content = file.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:-2] + content[start:-2] * scans + content[-2:]


def _forged(rng: random.Random) -> bytes:
    """Return a file whose header claims what its pixels are not, or that grows a thousandfold."""
    sizes = (
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (100_000, 100_000),
        (7_000, 7_100),
        (0, 5),
        (65_535, 65_535),
        (100_000, 1),
        (1, 100_000),
    )
    width, height = rng.choice(sizes)
    kind = rng.randrange(9)
    if kind == 0:
        return png(
            width,
            height,
            depth=rng.choice((1, 2, 4, 8, 16)),
            colour=rng.choice((0, 2, 3, 4, 6)),
            data=bytes(100),
        )
    if kind == 1:  # just below the limit, of one colour: small, and sound
        rows = b"".join(b"\x00" + bytes(7_000 // 8) for _ in range(7_000))
        return png(7_000, 7_000, depth=1, colour=0, data=rows)
    if kind == 2:
        return b"GIF89a" + struct.pack("<HH", width % 65536, height % 65536) + b"\x80\x00\x00" + bytes(6) + (
            b"," + struct.pack("<HHHH", 0, 0, width % 65536, height % 65536) + b"\x00\x02\x02\x44\x01\x00;"
        )  # fmt: skip
    if kind == 3:
        file = io.BytesIO()
        Image.new("RGB", (4, 4)).save(file, "BMP")
        content = bytearray(file.getvalue())
        content[18:26] = struct.pack("<ii", width, rng.choice((height, -height)))
        return bytes(content)
    if kind == 4:
        text = png_chunk(
            rng.choice((b"zTXt", b"iTXt", b"iCCP")), b"a\0\0" + b"\0\0" + zlib.compress(bytes(10_000_000))
        )
        return png(4, 4, data=bytes(52), more=text)
    if kind == 5:
        return many_scans((rng.choice((8, 500, 6_000)), 500), rng.choice((3, 50, 2_000)))
    if kind == 6:
        return rng.choice(
            (
                b"",
                b"GIF89a",
                PNG,
                b"RIFF\xff\xff\xff\xffWEBPVP8X",
                b"II*\0\x08\0\0\0\xff\xff",
                b"\xff\xd8\xff",
                b"<svg/>",
            )
        )
    if kind == 7:  # a GIF of very many frames
        frame = b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\x00\x02\x02\x44\x01\x00"
        return b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + bytes(6) + frame * 20_000 + b";"
    return png(*rng.choice(((100_000, 1), (1, 100_000))), colour=0, data=bytes(200_000))


def hostile_picture(rng: random.Random, *, small: bool = False) -> bytes:
    """Return the bytes of a picture: valid, damaged or forged; of a small one forged headers are left out."""
    if not small and rng.random() < 0.12:
        return _forged(rng)
    kind = rng.choice(IMAGE_FORMATS)
    size = rng.choice(((16, 12), (1, 1), (3, 50), (64, 64)))
    content = saved(rng, kind, rng.choice(_MODES[kind]), size)
    return content if rng.random() < 0.3 else mutated_bytes(rng, content)


def _write(rng: random.Random, folder: Path, corpus: Path) -> None:
    (folder / "picture").write_bytes(hostile_picture(rng))


def _read(folder: Path, corpus: Path) -> None:
    from illmrec.data.images import decode_image

    check_picture(decode_image((folder / "picture").read_bytes(), where="here"))


def check_picture(picture: Image.Image) -> None:
    """Check that a picture is what everyone who reads one may rely on."""
    assert picture.mode == "RGB", picture.mode
    assert 0 < picture.width * picture.height <= MAX_PIXELS, picture.size
    assert np.asarray(picture).shape == (picture.height, picture.width, 3)


READERS = (Reader(name="pictures", write=_write, read=_read, inputs=150),)
