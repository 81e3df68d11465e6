"""A .tflite file as a tree of objects that can be changed, and written again.

The format is a flatbuffer; its schema comes with the runtime, as `ai_edge_litert.schema_py_generated`
(tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engine.errors import InputError, UnreadableError
from engine.exports.extras import needed

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[np.generic]
IDENTIFIER = b"TFL3"
# The version of an operator whose values are int8 (tensorflow/lite/tools/versioning/op_version.cc); of others it is 2.
_INT8_VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "QUANTIZE": 1, "RESHAPE": 1, "SQUEEZE": 1, "MUL": 3,
}  # fmt: skip


class Model:
    """A model with one graph.

    Args:
        content: the bytes of the file.
        path: the file, for messages.

    Raises:
        UnreadableError: it is no .tflite file.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        needed("ai_edge_litert", extra="litert")
        from ai_edge_litert import schema_py_generated

        self.schema = schema_py_generated
        if content[4:8] != IDENTIFIER:
            msg = f"'{path}' is no .tflite file. Give one that `python -m deployment export` wrote."
            raise UnreadableError(msg)
        try:
            self.tree = self.schema.ModelT.InitFromPackedBuf(content, 0)
            self.graph = self.tree.subgraphs[0]
            self._take_in(content)
        except Exception as error:  # of many kinds, for a damaged file
            msg = f"'{path}' is damaged: it ends early or holds no graph. Export it again."
            raise UnreadableError(msg) from error
        self._names = {
            value: name for name, value in vars(self.schema.BuiltinOperator).items() if isinstance(value, int)
        }
        self._types = {value: name for name, value in vars(self.schema.TensorType).items() if isinstance(value, int)}

    def _take_in(self, content: bytes) -> None:
        """Make constants that lie behind the tree, as the quantiser writes large ones, a part of it."""
        for buffer in self.tree.buffers:
            if buffer.offset > 1:  # 1 is a place that is still to be filled
                buffer.data = np.frombuffer(content, dtype=np.uint8, count=buffer.size, offset=buffer.offset)
                buffer.offset = buffer.size = 0

    @classmethod
    def read(cls, path: Path) -> Model:
        """Read a file.

        Raises:
            InputError: it is missing or damaged.
        """
        try:
            return cls(path.read_bytes(), path)
        except OSError as error:
            msg = f"cannot read '{path}': {error.strerror or error}. Check its rights, or give another file."
            raise InputError(msg) from error

    def to_bytes(self) -> bytes:
        """The bytes of a file."""
        import flatbuffers

        builder = flatbuffers.Builder(1024)
        builder.Finish(self.tree.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def operator_name(self, operator: schema.OperatorT) -> str:
        """The name of an operator, such as CONV_2D; of a custom one, its own."""
        code = self.tree.operatorCodes[operator.opcodeIndex]
        name: str = self._names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        return code.customCode.decode() if name == "CUSTOM" else name

    def version(self, operator: schema.OperatorT) -> int:
        """The version of an operator."""
        return int(self.tree.operatorCodes[operator.opcodeIndex].version)

    def type_name(self, index: int) -> str:
        """The number type of a tensor, such as INT8."""
        name: str = self._types[self.graph.tensors[index].type]
        return name

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of a tensor."""
        shape = self.graph.tensors[index].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def is_constant(self, index: int) -> bool:
        """Whether a tensor is stored in the file."""
        data = self.tree.buffers[self.graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def quantisation(self, index: int) -> tuple[float, int] | None:
        """Scale and zero point of a whole tensor; None if it has none, or one for each channel."""
        found = self.graph.tensors[index].quantization
        if found is None or found.scale is None or len(found.scale) != 1:
            return None
        return float(found.scale[0]), int(found.zeroPoint[0])

    def add_tensor(
        self,
        name: str,
        type_name: str,
        shape: Sequence[int],
        *,
        data: Array | None = None,
        quantisation: tuple[float, int] | None = None,
    ) -> int:
        """Add a tensor, a constant if `data` is given, and return its index."""
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape = name, np.array(shape, dtype=np.int32)
        tensor.type = vars(self.schema.TensorType)[type_name]
        tensor.buffer = 0
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), dtype=np.uint8)
            self.tree.buffers.append(buffer)
            tensor.buffer = len(self.tree.buffers) - 1
        if quantisation is not None:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale = np.array(quantisation[:1], dtype=np.float32)
            tensor.quantization.zeroPoint = np.array(quantisation[1:], dtype=np.int64)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def add_operator(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        version: int = 1,
        options: bytes | None = None,
        table: str | None = None,
        first: bool = False,
        **fields: object,
    ) -> None:
        """Add an operator at the end, or as the first.

        Args:
            name: of a built-in operator, or of a custom one with `options`.
            inputs: indices of tensors.
            outputs: indices of tensors.
            version: of the operator.
            options: a flexbuffer, of a custom operator.
            table: the schema's table of options of a built-in operator that has one, such as `AddOptions`.
            first: put it in front of all.
            fields: of the table, where they are not zero.
        """
        operator = self.schema.OperatorT()
        operator.inputs, operator.outputs = np.array(inputs, dtype=np.int32), np.array(outputs, dtype=np.int32)
        code = self.schema.OperatorCodeT()
        builtin = "CUSTOM" if options is not None else name
        code.builtinCode = vars(self.schema.BuiltinOperator)[builtin]
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # of files from before more than 127 existed
        code.version = version
        if options is not None:
            code.customCode = name
            operator.customOptions = np.frombuffer(options, dtype=np.uint8)
            operator.customOptionsFormat = self.schema.CustomOptionsFormat.FLEXBUFFERS
        if table is not None:
            operator.builtinOptionsType = vars(self.schema.BuiltinOptions)[table]
            operator.builtinOptions = vars(self.schema)[f"{table}T"]()
            for field, value in fields.items():
                setattr(operator.builtinOptions, field, value)
        self.tree.operatorCodes.append(code)
        operator.opcodeIndex = len(self.tree.operatorCodes) - 1
        self.graph.operators.insert(0 if first else len(self.graph.operators), operator)

    def add_metadata(self, name: str, content: bytes) -> None:
        """Store bytes under a name."""
        entry, buffer = self.schema.MetadataT(), self.schema.BufferT()
        buffer.data = np.frombuffer(content, dtype=np.uint8)
        self.tree.buffers.append(buffer)
        entry.name, entry.buffer = name, len(self.tree.buffers) - 1
        self.tree.metadata = [*(self.tree.metadata or []), entry]

    def metadata(self) -> dict[str, bytes]:
        """All that is stored under names."""
        entries = self.tree.metadata or []
        return {_text(entry.name): bytes(self.tree.buffers[entry.buffer].data) for entry in entries}

    def name_ends(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Name the graph's inputs and outputs, and make them its one signature."""
        signature = self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        pairs: list[list[schema.TensorMapT]] = []
        for names, indices in ((inputs, self.graph.inputs), (outputs, self.graph.outputs)):
            pairs.append([])
            for name, index in zip(names, indices, strict=True):
                self.graph.tensors[index].name = name
                entry = self.schema.TensorMapT()
                entry.name, entry.tensorIndex = name, int(index)
                pairs[-1].append(entry)
        signature.inputs, signature.outputs = pairs
        self.tree.signatureDefs = [signature]

    def set_int8_versions(self) -> None:
        """Give the operators on int8 the versions that TensorFlow gives them, which older readers ask for."""
        versions: dict[int, int] = {}
        for operator in self.graph.operators:
            name = self.operator_name(operator)
            # The first value of a split is the axis; those of others come first.
            if "INT8" in {self.type_name(int(index)) for index in operator.inputs[:2] if index >= 0}:
                usual = _INT8_VERSIONS.get(name, 2)
                versions[operator.opcodeIndex] = max(usual, versions.get(operator.opcodeIndex, 0))
        for index, version in versions.items():
            code = self.tree.operatorCodes[index]
            half = code.builtinCode == self.schema.BuiltinOperator.RESIZE_BILINEAR
            code.version = max(version, code.version) if half else version


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
