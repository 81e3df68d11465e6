"""Whether a file's tensors fit a network: every key, every shape, every value; and one short message if not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from torch import Tensor

from engine.errors import InputError


def check_keys(state: Mapping[str, Tensor], needed: Set[str], optional: Set[str], origin: str, name: str) -> None:
    """Check that a file has every needed key, except optional ones, and no other key.

    Args:
        state: tensors of the file.
        needed: keys of the network.
        optional: keys that the file may have or not.
        origin: what a message calls the file.
        name: what a message calls the network.

    Raises:
        InputError: a key is missing, or there is one too many.
    """
    missing = sorted(needed - set(state) - optional)
    unexpected = sorted(set(state) - needed - optional)
    if missing or unexpected:
        msg = (
            f"'{origin}' does not fit {name}: {len(missing)} keys are missing ({few(missing)}), "
            f"{len(unexpected)} have no place ({few(unexpected)}). Check the member and the file."
        )
        raise InputError(msg)


def check_shapes(state: Mapping[str, Tensor], needed: Mapping[str, Tensor], origin: str, name: str) -> None:
    """Check that the tensors of a file have the shapes of the network's tensors of the same keys.

    Raises:
        InputError: a shape differs.
    """
    pairs = ((key, tensor.shape, needed[key].shape) for key, tensor in state.items() if key in needed)
    wrong = [f"{key} {tuple(has)} for {tuple(needs)}" for key, has, needs in pairs if has != needs]
    if wrong:
        msg = f"'{origin}' does not fit {name}: {len(wrong)} shapes differ ({few(wrong)})."
        raise InputError(msg)


def check_finite(state: Mapping[str, Tensor], origin: str) -> None:
    """Check that all values of a file are finite.

    Raises:
        InputError: a tensor holds NaN or infinity.
    """
    broken = [key for key, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        msg = f"'{origin}' holds values that are not finite ({few(broken)}). Take an earlier checkpoint."
        raise InputError(msg)


def few(names: Iterable[str]) -> str:
    """The first two names, as a message lists them."""
    names = list(names)
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "") if names else "none"
