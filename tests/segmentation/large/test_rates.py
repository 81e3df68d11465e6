"""Frame rates as cameras state them, and as MPEG-4 can: slow motion has rates such as 211.222."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.large.video import writable_rate


@given(st.floats(0.5, 2000))
def test_a_rate_is_one_that_the_codec_takes(rate):
    written = writable_rate(rate)
    parts = Fraction(str(written))
    assert max(parts.numerator, parts.denominator) <= 65535
    assert written == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("rate", [211.222, 239.76, 29.97, 25, 12.5])
def test_a_video_of_that_rate_is_written(tmp_path, rate):
    path = str(tmp_path / "a.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), writable_rate(rate), (64, 48))
    assert writer.isOpened()
    for _ in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    capture = cv2.VideoCapture(path)
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-3)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    capture.release()
