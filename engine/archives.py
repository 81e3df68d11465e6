"""Members of zip archives from strangers: what they unpack to is bounded before memory is taken."""

from __future__ import annotations

import zipfile

from engine.errors import InputError

_FREE = 1 << 20  # bytes that any member may have, however well it was compressed
_RATIO = 100  # images and weights are compressed already, or can hardly be
_LARGEST = 8 << 30  # bytes


def check_size(unpacked: int, packed: int) -> None:
    """Do nothing if what was packed can have this size.

    Args:
        unpacked: bytes that are declared.
        packed: bytes that hold them.

    Raises:
        InputError: it is out of proportion; the message names only the fault.
    """
    if unpacked > _LARGEST or unpacked > max(_FREE, _RATIO * packed):
        fault = f"would unpack {packed:,} bytes to {unpacked:,}, which no honest file does"
        raise InputError(fault)


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member.

    Raises:
        InputError: it would be far larger than what it is packed in; the message names only the fault.
        Exception: whatever else zipfile raises for damaged members.
    """
    entry = archive.getinfo(name)
    check_size(entry.file_size, entry.compress_size)
    with archive.open(entry) as file:
        # Asked for a number of bytes, the decompressor stops there, even where the table of contents lies.
        content = file.read(entry.file_size)
        file.read(1)  # the end, where the checksum is compared
    return content
