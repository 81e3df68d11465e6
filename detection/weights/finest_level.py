"""A trained detector with one finer pyramid level: what it knows of the others stays, and level 3 lends it a start."""

from __future__ import annotations

import re

from backbones.contract import Freezing
from detection.network.detector import Detector
from detection.network.family import replaced
from detection.network.model import EfficientDet
from engine.errors import InputError

# The parts of a pyramid and of a head that belong to one level each, by its place from the finest.
_OF_LEVEL = re.compile(r"(.*\.(?:laterals_down|laterals_up|top_down|bottom_up|norms)\.)(\d+)(\..*)")


def with_finest_level(network: Detector, level: int | None, freezing: Freezing, source: str) -> Detector:
    """The detector with this finest level; None and its own leave it as it is.

    Each part of a level takes the weights of the same level. Level 2, and what level 3 gets because it is no longer the
    finest, take those of the finest part of their kind; only the convolution that brings level 2 of the backbone to the
    pyramid's channels starts at random, as no other has its inputs.

    Args:
        network: the trained detector.
        level: 2 or 3.
        freezing: as in the network's constructor.
        source: what a message calls it.

    Raises:
        InputError: the network has level 2 and is to have none, its pyramid is not a `bifpn`, or its head is not
            EfficientDet's.
    """
    own = network.config.min_level
    if level is None or level == own:
        return network
    if level > own or network.config.pyramid != "bifpn" or not isinstance(network, EfficientDet):
        msg = (
            f"'{source}' has head {network.config.head} and a {network.config.pyramid} pyramid from level {own} on, "
            f"and is asked for from level {level} on; only EfficientDet's bifpn of level 3 gets another level. Leave "
            "min_level out."
        )
        raise InputError(msg)
    finer = EfficientDet(replaced(network.config, min_level=level), classes=network.classes, **freezing)
    known = network.state_dict()
    state = {}
    for key, fresh in finer.state_dict().items():
        given = known.get(_key_of(key))
        state[key] = fresh if given is None or given.shape != fresh.shape else given
    finer.load_state_dict(state)
    return finer.train(network.training)


def _key_of(key: str) -> str:
    """The key of the same level, or of the finest of the kind, in the network without level 2."""
    match = _OF_LEVEL.fullmatch(key)
    if match is None:
        return key
    before, place, after = match.groups()
    if int(place) > 0:
        return f"{before}{int(place) - 1}{after}"
    # The second reading of level 3 had no lateral of its own, as the finest level is read once.
    return f"{before.replace('laterals_up', 'laterals_down')}0{after}"
