"""Libraries that change the logging of the whole process when they are imported or at work."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def isolated() -> Iterator[None]:
    """Let quantisers work without a trace: their notes are for their developers, and what they set is set back.

    NNCF makes every later logger of the process one of its own class, and writes to the standard output; ONNX Runtime's
    quantiser sets up the root logger.
    """
    root, manager = logging.getLogger(), logging.root.manager
    level, disabled, handlers, made = root.level, manager.disable, list(root.handlers), logging.getLoggerClass()
    others = {name: each.disabled for name, each in manager.loggerDict.items() if isinstance(each, logging.Logger)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.ERROR)
            yield
    finally:
        logging.disable(disabled)
        logging.setLoggerClass(made)
        root.setLevel(level)
        root.handlers[:] = handlers
        for name, value in others.items():
            logging.getLogger(name).disabled = value
