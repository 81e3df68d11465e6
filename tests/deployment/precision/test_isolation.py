"""Quantisers leave the logging of the process as it was."""

from __future__ import annotations

import logging
import subprocess
import sys

from deployment.precision.formats.isolation import isolated

# NNCF and ONNX Runtime's quantiser set up logging when they are first imported, so that each needs a new process.
SCRIPT = """
import logging
from deployment.precision.formats.isolation import isolated

def state():
    root = logging.getLogger()
    return root.level, list(root.handlers), logging.root.manager.disable, logging.getLoggerClass()

before = state()
with isolated():
    import nncf
    import onnxruntime.quantization
    from nncf.common.logging.track_progress import track
    from onnxruntime.quantization import matmul_nbits_quantizer
    assert list(track((1, 2), description="a bar")) == [1, 2]
    logging.getLogger("detection.data.coco").warning("not heard")
assert state() == before, (before, state())
assert type(logging.getLogger("made.later")) is logging.Logger
logging.getLogger("detection.data.coco").warning("heard")
"""


def test_the_logging_of_a_process_stays_as_it_was():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "heard"
    assert not done.stdout


def test_loggers_that_were_silenced_meanwhile_are_heard_again(caplog):
    # A logger remembers whether it is enabled. Set back by `manager.disable = 0`, which forgets nothing, it stays mute.
    log = logging.getLogger("detection.data.coco")
    with isolated():
        log.warning("a note of a quantiser")
        assert not log.isEnabledFor(logging.WARNING)
    log.warning("a note of ours")
    assert caplog.messages == ["a note of ours"]


def test_what_a_quantiser_sets_up_is_set_back(caplog):
    class Own(logging.Logger):
        """A class of loggers that a library makes everybody's."""

    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    with isolated():
        logging.setLoggerClass(Own)
        root.setLevel(logging.CRITICAL)
        root.addHandler(logging.NullHandler())
        logging.getLogger("detection.data.coco").disabled = True
    assert logging.getLoggerClass() is not Own
    assert (root.level, root.handlers) == (level, handlers)
    logging.getLogger("detection.data.coco").warning("a note of ours")
    assert caplog.messages == ["a note of ours"]
