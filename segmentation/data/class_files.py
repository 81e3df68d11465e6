"""Class lists as users write them: a list of names, a mapping, or a YAML file that holds either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from engine.archives import parse_yaml
from engine.errors import InputError, check_choice
from segmentation.data.classes import MaskClasses

_KEYS = ("names", "label_ids", "colors")
_EXAMPLE = "Give names such as [background, nucleus], or a mapping with names, label_ids and colors."


def read_class_list(path: Path) -> MaskClasses:
    """The class list of a YAML or JSON file.

    Raises:
        InputError: the file is missing, not YAML, or not a class list.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"class list '{path}' does not exist. Check the path."
        raise InputError(msg) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"cannot read class list '{path}': {' '.join(str(error).split())}. Give a YAML file."
        raise InputError(msg) from error
    return class_list(content, f"'{path}'")


def class_list(given: object, what: str = "the class list") -> MaskClasses:
    """The class list of a list of names, or of a mapping with `names` and optionally `label_ids` and `colors`.

    Args:
        given: the list or mapping.
        what: what messages call it.

    Raises:
        InputError: it is neither, has another key, or its entries are not names, numbers or colours.
    """
    content: Mapping[str, object] = given if isinstance(given, Mapping) else {"names": given}
    for key in content:
        check_choice(f"{what}: key", key, _KEYS)
    names = _checked(content.get("names"), f"{what}: names")
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        # YAML reads an unquoted no, on or 1 as something other than text.
        msg = f"{what}: the name {wrong[0]!r} is not text. Put it in quotes."
        raise InputError(msg)
    label_ids = _checked(content.get("label_ids") or (), f"{what}: label_ids")
    colors = [_checked(color, f"{what}: colors") for color in _checked(content.get("colors") or (), f"{what}: colors")]
    numbers = [*label_ids, *(value for color in colors for value in color)]
    if any(type(number) is not int for number in numbers) or any(len(color) != 3 for color in colors):
        msg = f"{what}: give whole numbers as label_ids, and three for each of the colors, such as [220, 20, 60]."
        raise InputError(msg)
    return MaskClasses.from_dict(
        {
            "names": [name for name in names if isinstance(name, str)],
            "label_ids": [value for value in label_ids if isinstance(value, int)],
            "colors": [[value for value in color if isinstance(value, int)] for color in colors],
        }
    )


def _checked(given: object, what: str) -> list[object]:
    if not isinstance(given, list | tuple):
        msg = f"{what} is {given!r}, not a list. {_EXAMPLE}"
        raise InputError(msg)
    return list(given)
