"""All tiles of large images as samples of validation and test; what is found in them is merged image by image."""

from __future__ import annotations

from pathlib import Path

from torch.utils.data import Dataset

from detection.data.dataset import BoxImages, Sample
from detection.data.tiles.cutting import TiledImages, shown_boxes
from engine.large.options import InTiles
from engine.large.tile_canvas import TileCanvas
from engine.reading.reader import filled

# The share of an object that a tile has to show for its loss, the number that training takes by itself. Scores do not
# depend on it: they compare whole images.
MIN_VISIBLE = 0.1


class WholeTileSet(Dataset[Sample]):
    """Every tile of every image, on its canvas; a sample's `image_id` is the number of the tile.

    Args:
        images: the set.
        tiles: the tiles.
        cell: see `InTiles.tiling`.
    """

    def __init__(self, images: BoxImages, tiles: InTiles, cell: int) -> None:
        assert tiles.window is not None
        assert images.canvas_hw is not None  # files that lay pictures out themselves refuse tiles
        self.images = images
        side = min(images.canvas_hw)
        self.lay = TileCanvas(side, tiles.window, images.fill_color)
        self.tiles = TiledImages(images, tiles, side, cell)

    @property
    def name(self) -> str:
        """What messages call the set."""
        return self.images.name

    def image_path(self, index: int) -> Path:
        """The file of a tile's image."""
        return self.images.image_path(self.tiles.place(index)[0])

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, number: int) -> Sample:
        index, _ = self.tiles.place(number)
        area = self.tiles.area(number)
        pixels = self.tiles.read(index, area)
        image = filled(pixels, self.images.read.fill_color)
        laid = self.lay(image)
        boxes, class_ids = self.images.usable_boxes(index)
        shown = shown_boxes(boxes, class_ids, area, MIN_VISIBLE)
        size_hw = (area[3] - area[1], area[2] - area[0])
        letterbox = laid.letterbox
        return Sample(
            laid.image.numpy(), letterbox.to_canvas(shown.boxes_xyxy), shown.class_ids, number, letterbox.scale,
            size_hw, pixels.valid, views=tuple(lay(image) for lay in self.images.views),
        )  # fmt: skip
