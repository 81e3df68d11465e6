"""Quantisers change the logging of the whole process when they are imported or at work."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from engine.exports.quiet import quiet


@contextmanager
def isolated() -> Iterator[None]:
    """Let quantisers work without a trace: their notes are for their developers, and what they set is set back.

    NNCF makes every later logger of the process one of its own class, and draws bars of its progress on the standard
    output, where a program that reads ours expects nothing but ours; ONNX Runtime's quantiser sets up the root logger.
    """
    with quiet(), redirect_stdout(io.StringIO()):
        logging.disable(logging.ERROR)
        yield
