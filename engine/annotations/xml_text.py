"""XML of others as a tree, by Python's own parser: entities are refused, and nothing outside the text is read."""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers.expat import ExpatError, ParserCreate, errors

from engine.errors import InputError

_DEEPEST = 100


class _EntityError(ValueError):
    """The text declares an entity."""


def parse_xml(raw: bytes, name: str) -> Element:
    """The root of an XML text.

    Entities are what makes XML dangerous: they grow to gigabytes and name files. A text that declares one is refused
    before any is expanded.

    Args:
        raw: the text.
        name: what messages call it.

    Raises:
        InputError: it is not XML, declares an entity, or is nested too deep.
    """
    builder = TreeBuilder()

    def refuse(*_: object) -> NoReturn:
        raise _EntityError

    open_tags: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        open_tags.append(tag)
        if len(open_tags) > _DEEPEST:
            msg = f"'{name}' has tags {_DEEPEST} deep, as no annotation has. Export it again."
            raise InputError(msg)
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        open_tags.pop()
        builder.end(tag)

    parser = ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(raw, True)
    except _EntityError:
        msg = f"'{name}' declares XML entities, which can read files and fill memory. Remove its DOCTYPE."
        raise InputError(msg) from None
    except (ExpatError, ValueError, LookupError) as error:
        reason = f"{errors.messages[error.code]} in line {error.lineno}" if isinstance(error, ExpatError) else error
        msg = f"'{name}' is not valid XML: {reason}. Export it again."
        raise InputError(msg) from None
    return builder.close()


def text_of(parent: Element, tag: str) -> str:
    """The text of a direct child, without spaces around it; empty where there is none."""
    return (parent.findtext(tag) or "").strip()
