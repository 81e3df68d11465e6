"""The class list: which row of the network's output means which category of the annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, TypedDict

from engine.errors import InputError

ClassRows: TypeAlias = Literal["contiguous", "by_id"]

# The 80 categories of COCO 2017 by id; the ten ids missing from 1..90 were never annotated (cocodataset.org).
COCO_NAMES: dict[int, str] = dict(
    pair
    for block in (
        "1 person,2 bicycle,3 car,4 motorcycle,5 airplane,6 bus,7 train,8 truck,9 boat,10 traffic light",
        "11 fire hydrant,13 stop sign,14 parking meter,15 bench,16 bird,17 cat,18 dog,19 horse,20 sheep,21 cow",
        "22 elephant,23 bear,24 zebra,25 giraffe,27 backpack,28 umbrella,31 handbag,32 tie,33 suitcase",
        "34 frisbee,35 skis,36 snowboard,37 sports ball,38 kite,39 baseball bat,40 baseball glove,41 skateboard",
        "42 surfboard,43 tennis racket,44 bottle,46 wine glass,47 cup,48 fork,49 knife,50 spoon,51 bowl,52 banana",
        "53 apple,54 sandwich,55 orange,56 broccoli,57 carrot,58 hot dog,59 pizza,60 donut,61 cake,62 chair",
        "63 couch,64 potted plant,65 bed,67 dining table,70 toilet,72 tv,73 laptop,74 mouse,75 remote,76 keyboard",
        "77 cell phone,78 microwave,79 oven,80 toaster,81 sink,82 refrigerator,84 book,85 clock,86 vase",
        "87 scissors,88 teddy bear,89 hair drier,90 toothbrush",
    )
    for pair in ((int(entry.split(" ", 1)[0]), entry.split(" ", 1)[1]) for entry in block.split(","))
)


class StoredClasses(TypedDict):
    """A class list as a checkpoint stores it."""

    names: list[str]
    category_ids: list[int]


@dataclass(frozen=True)
class BoxClasses:
    """Names and COCO category ids by output row; a row that no category uses has an empty name.

    Raises:
        InputError: there is no class, the lengths differ, or a category id occurs twice.

    >>> BoxClasses(("dog", "cat"), (3, 7)).class_id_by_category[7]
    1
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.category_ids) or not self.names:
            msg = f"a class list needs one name per category id; got {len(self.names)} and {len(self.category_ids)}"
            raise InputError(msg)
        if len(set(self.category_ids)) != len(self.category_ids):
            twice = sorted({i for i in self.category_ids if self.category_ids.count(i) > 1})
            msg = f"category ids {twice} occur more than once. Give every category its own id."
            raise InputError(msg)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def named(self) -> bool:
        """Whether the names are known, and not only numbers that `numbered` wrote as names."""
        given = [(name, i) for name, i in zip(self.names, self.category_ids, strict=True) if name]
        return any(name != f"class_{i}" for name, i in given)

    @cached_property
    def class_id_by_category(self) -> Mapping[int, int]:
        """Output row by COCO category id."""
        return {category_id: row for row, category_id in enumerate(self.category_ids)}

    @classmethod
    def in_order(cls, categories: Iterable[tuple[str, int]]) -> BoxClasses:
        """One row per category, name and id, in ascending order of id; ids may start anywhere and have gaps.

        >>> BoxClasses.in_order([("cat", 7), ("dog", 3)])
        BoxClasses(names=('dog', 'cat'), category_ids=(3, 7))

        Raises:
            InputError: there is no category, or an id occurs twice.
        """
        ordered = sorted(categories, key=lambda category: category[1])
        return cls(tuple(name for name, _ in ordered), tuple(category_id for _, category_id in ordered))

    @classmethod
    def coco90(cls) -> BoxClasses:
        """The 90 rows of the published checkpoints: row = category id - 1 (google/automl label map)."""
        ids = tuple(range(1, 91))
        return cls(tuple(COCO_NAMES.get(i, "") for i in ids), ids)

    @classmethod
    def numbered(cls, count: int) -> BoxClasses:
        """Classes without known names: `class_1` ... with ids from 1; 90 classes are taken to be COCO's."""
        if count == 90:
            return cls.coco90()
        return cls(tuple(f"class_{i}" for i in range(1, count + 1)), tuple(range(1, count + 1)))

    def covers(self, other: BoxClasses) -> bool:
        """Whether every category of `other` has a row here, under the same id and name."""
        rows = self.class_id_by_category
        return all(
            category_id in rows and self.names[rows[category_id]] == name
            for name, category_id in zip(other.names, other.category_ids, strict=True)
            if name
        )

    def to_dict(self) -> StoredClasses:
        """Plain lists, as a checkpoint stores them."""
        return {"names": list(self.names), "category_ids": list(self.category_ids)}

    @classmethod
    def from_dict(cls, stored: StoredClasses) -> BoxClasses:
        """The inverse of `to_dict`."""
        return cls(tuple(stored["names"]), tuple(stored["category_ids"]))
