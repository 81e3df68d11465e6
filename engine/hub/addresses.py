"""Addresses of networks on a model hub: `hf://owner/name`, or `hf://owner/name@revision`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import InputError

PREFIX = "hf://"
# As `huggingface_hub.utils.validate_repo_id` has it, which knows repositories without an owner as well.
_PART = r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"({_PART}/{_PART})(?:@([\w./-]+))?", re.ASCII)
_LONGEST = 96


@dataclass(frozen=True)
class HubAddress:
    """A repository on a hub.

    Attributes:
        repo_id: `owner/name`.
        revision: a branch, a tag or a commit; None is the main branch.
    """

    repo_id: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo_id.partition("/")[2]

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo_id}" + ("" if self.revision is None else f"@{self.revision}")

    @classmethod
    def read(cls, text: str) -> HubAddress:
        """The repository that an address names, with `hf://` in front or without.

        Raises:
            InputError: it names none.
        """
        match = _REPOSITORY.fullmatch(text.removeprefix(PREFIX))
        if match is None or len(match[1]) > _LONGEST or ".." in match[1] or "--" in match[1]:
            msg = f"'{text}' names no repository of a hub. Give hf://owner/name, or hf://owner/name@revision."
            raise InputError(msg)
        return cls(match[1], match[2])


def is_address(source: object) -> bool:
    """Whether a source begins with `hf://`."""
    return isinstance(source, str) and source.startswith(PREFIX)
