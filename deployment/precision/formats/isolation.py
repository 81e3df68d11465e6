"""Quantisers change the logging of the whole process when they are imported or at work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from engine.exports.quiet import quiet


@contextmanager
def isolated() -> Iterator[None]:
    """Let quantisers work without a trace: their notes are for their developers, and what they set is set back.

    NNCF makes every later logger of the process one of its own class, and writes to the standard output; ONNX Runtime's
    quantiser sets up the root logger.
    """
    with quiet():
        logging.disable(logging.ERROR)
        yield
