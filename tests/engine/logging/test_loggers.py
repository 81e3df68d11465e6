"""Loggers by one word, and the same picture in each of them."""

from __future__ import annotations

import io
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.cli.parser import user_message
from engine.errors import InputError
from engine.logging.loggers import log_picture, make_loggers, make_own

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


class Keeps(Logger):
    """Takes images as the loggers of Weights & Biases and Comet do."""

    def __init__(self):
        super().__init__()
        self.kept = []

    @property
    def name(self):
        return "keeps"

    @property
    def version(self):
        return 0

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        pass

    def log_image(self, key, images, step=None):
        self.kept.append((key, images, step))


def kinds(loggers):
    return [type(logger) for logger in loggers]


def test_a_csv_is_always_written(tmp_path):
    assert kinds(make_loggers(None, tmp_path / "one", "toy")) == [CSVLogger, TensorBoardLogger]
    assert kinds(make_loggers("tensorboard", tmp_path / "one", "toy")) == [CSVLogger, TensorBoardLogger]
    assert kinds(make_loggers("csv", tmp_path / "one", "toy")) == [CSVLogger]
    for logger in make_loggers("tensorboard", tmp_path / "one", "toy"):
        assert Path(logger.log_dir) == tmp_path / "one"


@pytest.mark.parametrize("word", ["wandb", "mlflow"])
def test_a_missing_package_is_named_with_its_command(word, tmp_path):
    with mock.patch("importlib.util.find_spec", return_value=None), pytest.raises(InputError) as caught:
        make_loggers(word, tmp_path / "one", "toy")
    assert f"pip install 'effdense[{word}]'" in str(caught.value)
    assert not (tmp_path / "one").exists()


def test_two_askings_are_refused():
    assert make_own(None, None)
    assert make_own("csv", True)
    assert not make_own(None, False)
    for given in (False, [object()]):
        with pytest.raises(InputError, match=r"run\.log is csv, but trainer\.logger asks for"):
            make_own("csv", given)


def test_tensorboard_shows_the_picture_as_it_is(tmp_path):
    logger = TensorBoardLogger(str(tmp_path), name="", version="one")
    log_picture(logger, "val/chart", PICTURE, 7)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "one"))
    events.Reload()
    (event,) = events.Images("val/chart")
    assert event.step == 7
    with Image.open(io.BytesIO(event.encoded_image_string)) as shown:
        np.testing.assert_array_equal(np.asarray(shown), PICTURE)


def test_other_loggers_get_the_same_pixels(tmp_path):
    keeps = Keeps()
    log_picture(keeps, "val/chart", PICTURE, 7)
    ((key, (image,), step),) = keeps.kept
    assert (key, step) == ("val/chart", 7)
    np.testing.assert_array_equal(np.asarray(image), PICTURE)

    mlflow = MLFlowLogger.__new__(MLFlowLogger)  # its package may be missing
    client = mock.Mock()
    with (
        mock.patch.object(MLFlowLogger, "experiment", new=client),
        mock.patch.object(MLFlowLogger, "run_id", new="run"),
    ):
        log_picture(mlflow, "val/chart", PICTURE, 7)
    run_id, image, place = client.log_image.call_args.args
    assert (run_id, place) == ("run", "pictures/val/chart.png")
    np.testing.assert_array_equal(np.asarray(image), PICTURE)

    log_picture(CSVLogger(str(tmp_path), name="", version="two"), "val/chart", PICTURE, 7)  # takes none
    assert not (tmp_path / "two").exists()


class UsageError(Exception):
    """An error of a service's client."""


def test_an_error_of_a_service_is_one_line_with_a_way_out():
    UsageError.__module__ = "wandb.errors.errors"
    message = user_message(UsageError("No API key configured. Use `wandb login` to log in."))
    assert message.startswith("No API key configured. Use `wandb login` to log in. Or leave the service out")
    assert "WANDB_MODE=offline" in message
    assert user_message(type("Other", (Exception,), {})("x")) is None
