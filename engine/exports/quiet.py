"""Libraries that warn of what no user can change, and that change the logging of the whole process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOUD = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let exporters work without a trace: they say errors only, and whatever they set of the logging is set back.

    Set back are, of the root logger and of every logger that was there before, level, handlers, filters, `propagate`
    and `disabled`; `logging.disable`; the class of new loggers; and the filters of warnings.

    Args:
        names: loggers that say errors only; by default those of the exporters to ONNX.
    """
    manager = logging.root.manager
    disabled, made = manager.disable, logging.getLoggerClass()
    there = [logging.root, *(each for each in manager.loggerDict.values() if isinstance(each, logging.Logger))]
    loud = [logging.getLogger(name) for name in names or _LOUD]
    before = [_Settings(each) for each in {id(each): each for each in (*there, *loud)}.values()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for each in loud:
                each.setLevel(logging.ERROR)
            yield
    finally:
        logging.disable(disabled)
        logging.setLoggerClass(made)
        for settings in before:
            settings.restore()


class _Settings:
    """What a logger was set to."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.level, self.propagate, self.disabled = logger.level, logger.propagate, logger.disabled
        self.handlers, self.filters = list(logger.handlers), list(logger.filters)

    def restore(self) -> None:
        """Set it so again."""
        self.logger.setLevel(self.level)
        self.logger.propagate, self.logger.disabled = self.propagate, self.disabled
        self.logger.handlers[:], self.logger.filters[:] = self.handlers, self.filters
