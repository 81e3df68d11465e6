"""From a program of torch.export to a .tflite file, run by the Python of an environment of its own.

That environment holds LiteRT's converter, which needs an older PyTorch than this project, and none of this project's
packages, so that this script imports none of them. Arguments: the .pt2 file, the file to write, the precision, and
for int8 a .npy file with images (N, H, W, 3) uint8.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator


def main(source: str, target: str, precision: str, images: str | None = None) -> None:
    """Convert, and quantise as asked."""
    import litert_torch
    import torch

    class Program(torch.nn.Module):
        """A program as a plain module: its own one refuses `eval`, which the converter calls."""

        def __init__(self) -> None:
            super().__init__()
            program = torch.export.load(source)
            self.sample = program.example_inputs[0]
            self._computed = (program.module(),)  # in a tuple, which torch does not search for modules

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found: tuple[torch.Tensor, ...] = self._computed[0](image)
            return found

    module = Program().eval()
    litert_torch.convert(module, module.sample).export(target)
    _exact_resizing(target)
    if precision == "float16":
        _half(target)
    elif precision == "int8":
        assert images is not None
        _integers(target, images)


def _half(path: str) -> None:
    """Keep weights in float16."""
    from ai_edge_quantizer import quantizer, recipe_manager

    recipes = recipe_manager.RecipeManager()
    recipes.add_weight_only_config(
        regex=".*", operation_name="*", num_bits=16, algorithm_key=recipe_manager.AlgorithmName.FLOAT_CASTING
    )
    work = quantizer.Quantizer(path)
    work.load_quantization_recipe(recipes.get_quantization_recipe())
    work.quantize().export_model(path, overwrite=True)


def _integers(path: str, images: str) -> None:
    """Keep weights and values in int8, by the ranges that images give."""
    import numpy as np
    from ai_edge_quantizer import quantizer, recipe

    work = quantizer.Quantizer(path)
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = work.calibrate({"serving_default": _Samples(images)}, num_threads=os.cpu_count() or 1)
    # All that an image can hold, and not only what these images hold.
    for name in ranges:
        if name.endswith("args_0"):
            ranges[name] = {key: np.full_like(ranges[name][key], end) for key, end in (("min", -1), ("max", 1))}
    work.quantize(ranges).export_model(path, overwrite=True)


class _Samples:
    """Images in the range of the input, one at a time; the ranges are kept, and not the images."""

    def __init__(self, path: str) -> None:
        import numpy as np

        self._images = np.load(path, mmap_mode="r")

    def __iter__(self) -> Iterator[dict[str, object]]:
        for image in self._images:
            yield {"args_0": image[None].astype("float32") / 127.5 - 1.0}

    def __len__(self) -> int:
        return len(self._images)


def _exact_resizing(path: str) -> None:
    """Let nearest-neighbour resizing take the cells that PyTorch takes: those at floor(i * from / to).

    The converter writes it with centres of half a pixel, which is the same at exactly twice the size but not from 3
    cells to 5. The operator without them is also the older one, which compilers for small devices know.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    schema = flatbuffer_utils.schema_fb
    model = flatbuffer_utils.read_model(path)
    nearest = {
        index
        for index, code in enumerate(model.operatorCodes)
        if code.builtinCode == schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR
    }
    for graph in model.subgraphs:
        for operator in graph.operators:
            if operator.opcodeIndex in nearest:
                operator.builtinOptions.halfPixelCenters = False
    for index in nearest:
        model.operatorCodes[index].version = 2
    flatbuffer_utils.write_model(model, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
