"""Zip files from outside: what they raise where they are damaged, and members that cannot grow without bound."""

from __future__ import annotations

import struct
import zipfile
import zlib

UNPACK_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError, IndexError,
    OverflowError, struct.error,
)  # fmt: skip
"""What zipfile raises on files and members that are damaged, encrypted or packed in ways it does not know."""

_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_member(info: zipfile.ZipInfo) -> None:
    """Check that a member is packed so that it is unpacked piece by piece, as large as it says and no larger.

    Of bzip2 and LZMA zipfile unpacks 4 kB at a time whatever comes out of them, gigabytes from a bomb.

    Raises:
        zipfile.BadZipFile: If it is not.
    """
    if info.compress_type not in _BOUNDED:
        method = zipfile.compressor_names.get(info.compress_type, str(info.compress_type))  # type: ignore[attr-defined]
        raise zipfile.BadZipFile(f"packed by {method}, not by deflate; pack it again")
