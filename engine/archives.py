"""Archives and YAML from strangers: what they unpack to is bounded before memory is taken."""

from __future__ import annotations

import zipfile

import yaml

from engine.errors import InputError

_FREE = 1 << 20  # bytes that any member may have, however well it was compressed
_RATIO = 100  # images and weights are compressed already, or can hardly be
_LARGEST = 8 << 30  # bytes
_MOST_MEMBERS = 1_000_000
_MOST_VALUES = 100_000  # of a config or a class list; the largest of ours has some hundreds
_DEEPEST = 50
# In C where libyaml is there, which is ten times as fast; it has the same constructors.
_LOADER: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


def members_of(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive, without folders.

    Raises:
        InputError: there are too many; the message names only the fault.
    """
    entries = archive.infolist()
    if len(entries) > _MOST_MEMBERS:
        fault = f"has {len(entries):,} members; the limit is {_MOST_MEMBERS:,}"
        raise InputError(fault)
    return [entry for entry in entries if not entry.is_dir()]


def parse_yaml(text: str) -> object:
    """The content of a YAML text, whose aliases may repeat a part, but not without measure.

    Raises:
        yaml.YAMLError: the text is not YAML, or would become too many values, too deep, or a circle.
    """
    try:
        node = yaml.compose(text, Loader=_LOADER)
        if node is not None:
            _values_of(node, {}, 0)
        # A safe loader builds plain values only.
        return yaml.load(text, Loader=_LOADER)  # noqa: S506
    except RecursionError as error:
        msg = f"found values nested deeper than {_DEEPEST}"
        raise yaml.YAMLError(msg) from error


def _values_of(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values a node becomes, each alias counted as what it stands for."""
    if id(node) in known:
        if known[id(node)] < 0:
            msg = "found an alias inside what it stands for"
            raise yaml.YAMLError(msg)
        return known[id(node)]
    if depth > _DEEPEST:
        msg = f"found values nested deeper than {_DEEPEST}"
        raise yaml.YAMLError(msg)
    known[id(node)] = -1  # being counted
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    count = 1 + sum(_values_of(part, known, depth + 1) for part in parts)
    if count > _MOST_VALUES:
        msg = f"found more than {_MOST_VALUES:,} values, as aliases stand for many"
        raise yaml.YAMLError(msg)
    known[id(node)] = count
    return count
