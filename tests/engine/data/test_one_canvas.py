"""The one size of a canvas."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.data.one_canvas import agreed_size
from engine.errors import InputError

OPTIONS = {"data_option": "data.image_size", "network_option": "model.architecture.image_size"}
SIZES = st.none() | st.integers(32, 64) | st.tuples(st.integers(32, 64), st.integers(32, 64))


def both(size):
    return None if size is None else (size, size) if isinstance(size, int) else size


@given(SIZES, SIZES, st.sampled_from(["start", "resume", "score"]))
def test_two_sizes_are_one_or_refused(data, network, way):
    """What a training sees is what the checkpoint stores; no other outcome of a training is possible."""
    try:
        agreed = agreed_size(data, network, way=way, **OPTIONS)
    except InputError:
        assert way != "score"
        assert None not in (data, network)
        assert both(data) != both(network)
        return
    if way == "start":
        assert both(agreed) == both(data if data is not None else network)
    else:
        assert agreed == network


def test_a_network_scored_on_another_size_is_said_once(caplog):
    agreed_size(128, (64, 64), way="score", **OPTIONS)
    assert caplog.messages == ["scored on 128 x 128 pixels, as data.image_size asks; the network was made for 64 x 64"]
