"""Whatever a library sets of the logging while it is at work is set back."""

from __future__ import annotations

import logging
import warnings

import pytest

from engine.exports.quiet import quiet


class Own(logging.Logger):
    """A class of loggers that a library makes everybody's."""


def state(*names):
    loggers = [logging.getLogger(), *map(logging.getLogger, names)]
    return (
        logging.root.manager.disable,
        logging.getLoggerClass(),
        list(warnings.filters),
        [(x.level, list(x.handlers), list(x.filters), x.propagate, x.disabled) for x in loggers],
    )


@pytest.mark.parametrize("fails", [False, True])
def test_all_is_set_back(fails):
    ours = logging.getLogger("tests.ours")
    ours.addHandler(logging.NullHandler())
    before = state("tests.ours", "torch.onnx")
    try:
        with quiet():
            for logger in (logging.getLogger(), ours, logging.getLogger("torch.onnx")):
                logger.setLevel(logging.CRITICAL)
                logger.handlers[:] = [logging.StreamHandler()]
                logger.addFilter(lambda record: False)
                logger.propagate, logger.disabled = False, True
            logging.disable(logging.CRITICAL)
            logging.setLoggerClass(Own)
            warnings.simplefilter("error")
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert state("tests.ours", "torch.onnx") == before


def test_exporters_are_quiet_and_others_are_heard(caplog):
    root = logging.getLogger().level
    with quiet():
        logging.getLogger("torch.onnx").warning("a note of the exporter")
        logging.getLogger("tests.ours").warning("ours, meanwhile")
        assert logging.getLogger().level == root
    logging.getLogger("torch.onnx").warning("a note, afterwards")
    assert caplog.messages == ["ours, meanwhile", "a note, afterwards"]
