"""Files that cannot be used: each gives one short and correct error, and none runs code."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision

from backbones.features import EfficientNetFeatures
from backbones.layouts.files import read_state_dict
from backbones.weights.convert import convert
from backbones.weights.load import load_backbone_weights
from engine.errors import InputError
from tests.backbones.foreign import randomised

LITE0 = "tf_efficientnet_lite0"
DAMAGED = "damaged, cut short or no weight file"


@pytest.fixture(scope="module")
def lite0():
    return randomised(timm.create_model(LITE0)).state_dict()


@pytest.fixture(scope="module")
def features():
    return EfficientNetFeatures(LITE0)


def changed(change):
    def write(path, state):
        torch.save(change(dict(state)), path)

    return write


def truncated(path, state):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_safetensors(path, state):
    safetensors.torch.save_file(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_zip(path, _):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")


def quantised(state):
    weight = state["conv_stem.weight"]
    return {**state, "conv_stem.weight": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)}


def dynamically_quantised(state):
    return {**state, "classifier._packed_params.dtype": torch.qint8}


def as_int8(state):
    return {**state, "conv_stem.weight": state["conv_stem.weight"].to(torch.int8)}


def renamed(state):
    return {key.replace("conv_stem", "stem"): tensor for key, tensor in state.items()}


def renamed_inside(state):
    return {key.replace("blocks.1.", "stages.1."): tensor for key, tensor in state.items()}


def with_nan(state):
    return {**state, "bn1.bias": torch.full_like(state["bn1.bias"], torch.nan)}


def with_infinity(state):
    return {**state, "blocks.0.0.bn1.running_var": state["blocks.0.0.bn1.running_var"] / 0}


def optimizer_only(state):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    return {"epoch": 3, "optimizer": optimizer.state_dict()}


def lacking(state):
    state.pop("blocks.2.0.conv_pw.weight")
    return state


BAD = {
    "empty": ("x.pth", lambda path, _: path.write_bytes(b""), r"is empty\. Download or save it again"),
    "empty safetensors": ("x.safetensors", lambda path, _: path.write_bytes(b""), "is empty"),
    "truncated": ("x.pth", truncated, DAMAGED),
    "truncated safetensors": ("x.safetensors", truncated_safetensors, DAMAGED),
    "text": ("x.pth", lambda path, _: path.write_text("weights, honestly"), DAMAGED),
    "web page": ("x.pth", lambda path, _: path.write_text("\n<!DOCTYPE html><html>404</html>"), "is a web page"),
    "git lfs": ("x.pth", lambda path, _: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "other zip": ("x.pth", other_zip, "is a zip archive of something else"),
    "folder": ("x.pth", lambda path, _: path.mkdir(), r"is a folder\. Give the file in it"),
    "suffix": ("x.onnx", lambda path, _: path.write_bytes(b"x"), "unknown suffix; allowed are .safetensors"),
    "missing": ("x.pth", lambda path, _: None, "does not exist"),
    "no state dict": ("x.pth", changed(lambda _: {"a": 1}), "holds no state dict"),
    "no names": ("x.pth", changed(lambda state: list(state.values())), "holds no state dict"),
    "optimizer only": ("x.pth", changed(optimizer_only), "holds an optimizer's state and no weights"),
    "bare optimizer": (
        "x.pth", changed(lambda state: optimizer_only(state)["optimizer"]), "holds an optimizer's state and no weights",
    ),
    "quantised": ("x.pth", changed(quantised), "holds a quantised network"),
    "dynamically quantised": ("x.pth", changed(dynamically_quantised), "holds a quantised network"),
    "int8": ("x.pth", changed(as_int8), r"1 key not floating point \(conv_stem.weight is int8\)"),
    "nan": ("x.pth", changed(with_nan), r"1 key not finite \(bn1.bias\)"),
    "infinite": ("x.pth", changed(with_infinity), r"1 key not finite \(blocks.0.0.bn1.running_var\)"),
    "lacking": ("x.pth", changed(lacking), r"1 key missing \(blocks.2.0.conv_pw.weight\)"),
    "renamed": (
        "x.pth", changed(renamed),
        r"fits no known layout; nearest is timm's as lite0: 1 key missing \(conv_stem.weight\); "
        r"1 key unexpected \(stem.weight\)\.",
    ),
    "renamed inside": (
        "x.pth", changed(renamed_inside),
        r"30 keys missing \(blocks.1.0.conv_pw.weight, .*, .*, \.\.\.\); "
        r"36 keys unexpected \(stages.1.0.conv_pw.weight, .*, .*, \.\.\.\)",
    ),
    "wrong library": (
        "x.pth", lambda path, _: torch.save(torchvision.models.efficientnet_b0().state_dict(), path),
        r"torchvision pad symmetrically, tf_efficientnet_lite0 does not\. Take efficientnet_b0\.",
    ),
    "wrong member": (
        "x.pth", lambda path, _: torch.save(timm.create_model("efficientnet_b1").state_dict(), path),
        r"holds efficientnet_b1 or tf_efficientnet_b1\. Ask for that\.",
    ),
    "another family": (
        "x.pth", lambda path, _: torch.save(torchvision.models.resnet18().state_dict(), path),
        "fits no known layout; nearest is .*: .* missing .*unexpected",
    ),
    "nothing alike": (
        "x.pth", changed(lambda _: {"encoder.query": torch.ones(2), "encoder.key": torch.ones(2)}),
        r"has no key of an EfficientNet .* its first keys are key, query\.",
    ),
    "unknown block": (
        "x.pth", changed(lambda state: {**state, "blocks.6.1.conv_pw.weight": torch.ones(1)}),
        r"1 key unexpected \(blocks.6.1.conv_pw.weight\)",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*quantize", "ignore:TypedStorage")
@pytest.mark.parametrize("kind", BAD)
def test_one_short_error_and_nothing_changed(tmp_path, lite0, features, kind):
    name, write, message = BAD[kind]
    path = tmp_path / name
    write(path, lite0)
    before = {key: tensor.clone() for key, tensor in features.state_dict().items()}
    with pytest.raises(InputError, match=message) as caught:
        load_backbone_weights(features, path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 400
    assert all(torch.equal(tensor, before[key]) for key, tensor in features.state_dict().items())
    with pytest.raises(InputError) as caught:
        convert(path, tmp_path / "out.safetensors", LITE0)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 400
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(tmp_path, lite0, dtype):
    state = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in lite0.items()}
    torch.save(state, tmp_path / "weights.pth")
    features = EfficientNetFeatures(LITE0, weights=tmp_path / "weights.pth")
    for key, tensor in features.state_dict().items():
        assert tensor.dtype == lite0[key].dtype
        assert torch.equal(tensor, state[key].to(tensor.dtype)), key


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def zip_pickle(path, mark, state):
    torch.save({**state, "payload": Payload(mark)}, path)


def legacy_pickle(path, mark, state):
    torch.save({**state, "payload": Payload(mark)}, path, _use_new_zipfile_serialization=False)


def bare_pickle(path, mark, _):
    path.write_bytes(pickle.dumps(Payload(mark), protocol=2))


def in_metadata(path, mark, state):
    """Beside the tensors, where a state dict keeps its version numbers."""
    wrapped = OrderedDict(state)
    wrapped._metadata = {"": Payload(mark)}
    torch.save(wrapped, path)


def beside_the_state_dict(path, mark, state):
    torch.save({"state_dict": state, "args": Payload(mark)}, path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".h5", ".keras"])
@pytest.mark.parametrize("write", [zip_pickle, legacy_pickle, bare_pickle, in_metadata, beside_the_state_dict])
def test_no_file_runs_code(tmp_path, lite0, write, suffix):
    path, mark = tmp_path / f"weights{suffix}", tmp_path / "mark"
    write(path, mark, {"conv_stem.weight": lite0["conv_stem.weight"]})
    with pytest.raises(InputError, match="could run code"):
        read_state_dict(path)
    with pytest.raises(InputError, match="could run code"):
        convert(path, tmp_path / "out.safetensors", LITE0)
    assert not mark.exists()
    if write is bare_pickle:  # the payload is live
        pickle.loads(path.read_bytes())
    else:
        with path.open("rb") as file:
            torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.filterwarnings("ignore:.*TorchScript", "ignore:.*torch.jit")
@pytest.mark.parametrize("scripted", [True, False])
def test_whole_modules(tmp_path, scripted):
    module = torch.nn.Linear(1, 1)
    path = tmp_path / "weights.pt"
    torch.jit.script(module).save(path) if scripted else torch.save(module, path)
    with pytest.raises(InputError, match=r"save only the state_dict\(\)"):
        read_state_dict(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable(tmp_path, lite0):
    torch.save(lite0, tmp_path / "weights.pth")
    (tmp_path / "weights.pth").chmod(0)
    with pytest.raises(InputError, match="permission denied"):
        read_state_dict(tmp_path / "weights.pth")


def test_content_counts_not_the_suffix(tmp_path, lite0):
    torch.save(lite0, tmp_path / "weights.safetensors")
    safetensors.torch.save_file(lite0, tmp_path / "weights.pth")
    for name in ("weights.safetensors", "weights.pth"):
        state = read_state_dict(tmp_path / name)
        assert all(torch.equal(state[key], lite0[key]) for key in lite0)
