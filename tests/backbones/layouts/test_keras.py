"""Keras' files against the real library on its torch backend: equal logits with preprocessing, and no code is run."""

import io
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from backbones.features import EfficientNetFeatures
from backbones.layouts.files import read
from backbones.layouts.members import member
from backbones.layouts.recognise import recognise
from backbones.weights.convert import convert
from engine.errors import InputError
from tests.backbones.foreign import assert_close, randomised_keras

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

KINDS = (".weights.h5", ".keras", ".h5")


def build(kind, size=64, **settings):
    import keras

    settings = {"weights": None, "input_shape": (size, size, 3), "classifier_activation": None, **settings}
    return randomised_keras(getattr(keras.applications, kind)(**settings))


def save(model, folder, kind):
    path = folder / f"model{kind}"
    (model.save_weights if kind == ".weights.h5" else model.save)(path)
    return path


def pixels(size=64):
    return np.random.default_rng(1).uniform(0, 255, (2, size, size, 3)).astype("float32")


def output(model, values):
    with torch.no_grad():
        return torch.as_tensor(model(values, training=False)).detach().cpu()


@torch.no_grad()
def ours(path, folder, values, head=True):
    """The classifier of a converted file on pixels in 0..255, normalised as its metadata says."""
    metadata = convert(path, folder / "converted.safetensors")
    network = timm.create_model(metadata.name).eval()
    left_out = network.load_state_dict(safetensors.torch.load_file(folder / "converted.safetensors"), strict=False)
    assert not left_out.unexpected_keys
    assert all(key.startswith("classifier.") or "num_batches" in key for key in left_out.missing_keys)
    mean, std = (torch.tensor(values)[:, None, None] for values in (metadata.mean, metadata.std))
    x = (torch.from_numpy(values).permute(0, 3, 1, 2) / 255 - mean) / std
    return network(x) if head else network.forward_features(x).permute(0, 2, 3, 1), metadata


@pytest.fixture(scope="module")
def b0():
    return build("EfficientNetB0")


@pytest.fixture(scope="module")
def saved(b0, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    return {kind: save(b0, folder, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_b0_gives_its_logits(saved, b0, tmp_path, kind):
    logits, metadata = ours(saved[kind], tmp_path, pixels())
    assert_close(logits, output(b0, pixels()))
    size = 224 if kind == ".weights.h5" else 64  # without a configuration, Keras' own
    assert metadata.input_size == (3, size, size)
    assert (metadata.name, metadata.padding, metadata.norm_eps) == ("tf_efficientnet_b0", "same", 1e-3)
    assert metadata.source == "Keras"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "size"),
    [
        ("EfficientNetV2B0", "tf_efficientnetv2_b0", 65),
        pytest.param("EfficientNetB1", "tf_efficientnet_b1", 65, marks=pytest.mark.slow),
        pytest.param("EfficientNetV2S", "tf_efficientnetv2_s", 64, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("suffix", [".weights.h5", pytest.param(".h5", marks=pytest.mark.slow)])
def test_others_give_their_logits(tmp_path, kind, name, size, suffix):
    model = build(kind, size)
    logits, metadata = ours(save(model, tmp_path, suffix), tmp_path, pixels(size))
    assert_close(logits, output(model, pixels(size)))
    assert metadata.name == name
    expected = (128 / 255,) * 3 if kind == "EfficientNetV2S" else None
    assert expected is None or (metadata.mean, metadata.std) == (expected, expected)


@pytest.mark.parametrize("kind", [pytest.param(".weights.h5", marks=pytest.mark.slow), ".h5"])
def test_published_b0_has_a_second_scaling(saved, tmp_path, monkeypatch, kind):
    import keras

    # weights="imagenet" builds another network than weights=None: one more layer in front of the stem.
    fetched = "keras.src.applications.efficientnet.file_utils.get_file"
    monkeypatch.setattr(fetched, lambda *_, **__: str(saved[".weights.h5"]))
    settings = {"weights": "imagenet", "input_shape": (64, 64, 3), "include_top": True, "classifier_activation": None}
    model = keras.applications.EfficientNetB0(**settings | {"input_shape": (224, 224, 3)})
    path = save(model, tmp_path, kind)
    logits, _ = ours(path, tmp_path, pixels(224))
    assert_close(logits, output(model, pixels(224)))


def test_published_statistics_are_those_of_imagenet(b0, tmp_path):
    import keras

    norm = next(layer for layer in b0.layers if layer.name.startswith("normalization"))
    before = [variable.numpy() for variable in norm.weights]
    try:
        norm.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), *before[2:]])
        nested = keras.Sequential([keras.Input((64, 64, 3)), b0])
        metadata = convert(save(nested, tmp_path, ".h5"), tmp_path / "converted.safetensors")
    finally:
        norm.set_weights(before)
    assert metadata.mean == pytest.approx((0.485, 0.456, 0.406))
    # That model has one scaling, but in a file that does not list its layers the published values are used.
    assert metadata.std == pytest.approx((0.229, 0.224, 0.225), rel=1e-4)


@pytest.mark.parametrize("kind", [".h5", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[:2])])
def test_backbone_of_a_larger_model(tmp_path, kind):
    import keras

    body = build("EfficientNetB0", include_top=False)
    model = keras.Sequential(
        [keras.Input((64, 64, 3)), body, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    path = save(model, tmp_path, kind)
    features, metadata = ours(path, tmp_path, pixels(), head=False)
    assert_close(features, output(body, pixels()))
    assert metadata.name == "tf_efficientnet_b0"


def test_features_take_a_keras_file(saved, b0, tmp_path):
    import keras

    features = EfficientNetFeatures("tf_efficientnet_b0", weights=saved[".h5"], levels=(5,)).eval()
    middle = keras.Model(b0.input, b0.get_layer("block7a_project_bn").output)
    mean_std = read(saved[".h5"]).preprocessing
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean_std.mean, mean_std.std))
    x = (torch.from_numpy(pixels()).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        assert_close(features(x)[0].permute(0, 2, 3, 1), output(middle, pixels()))


def test_another_normalisation_is_told(saved):
    with pytest.warns(UserWarning, match="were trained with mean and std .*; give these to the network"):
        EfficientNetFeatures("tf_efficientnet_b0", weights=saved[".h5"])


def test_symmetric_members_are_refused(saved):
    with pytest.raises(
        InputError, match=r"Keras pad as TensorFlow does, efficientnet_b0 does not\. Take tf_efficientnet_b0"
    ):
        EfficientNetFeatures("efficientnet_b0", weights=saved[".h5"])


def as_keras_2(source, target):
    """The same variables as Keras 2 wrote them: `stem_conv/stem_conv/kernel:0`, and depthwise kernels by that name."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:

        def copy(path, thing):
            if hasattr(thing, "dtype"):
                path = path.replace("dwconv/kernel", "dwconv/depthwise_kernel").removeprefix("model_weights/")
                new[f"{path}:0"] = thing[()]

        old.visititems(copy)


def test_keras_2(saved, tmp_path):
    as_keras_2(saved[".h5"], tmp_path / "old.h5")
    old, new = read(tmp_path / "old.h5"), read(saved[".h5"])
    assert old.state.keys() == new.state.keys()
    assert all(torch.equal(old.state[key], new.state[key]) for key in new.state)
    assert old.preprocessing.mean == new.preprocessing.mean


def without_names(source, target):
    """The same `.keras` file as a Keras that wrote no names of layers into the weights."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        weights = io.BytesIO(old.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            file.visititems(lambda _, thing: thing.attrs.pop("name", None) and None)
        new.writestr("model.weights.h5", weights.getvalue())
        new.writestr("config.json", old.read("config.json"))
    return weights.getvalue()


def test_a_file_without_names_is_read_by_its_order(saved, tmp_path):

    weights = without_names(saved[".keras"], tmp_path / "nameless.keras")
    nameless, named = read(tmp_path / "nameless.keras"), read(saved[".keras"])
    assert all(torch.equal(nameless.state[key], named.state[key]) for key in named.state)
    assert nameless.preprocessing == named.preprocessing
    (tmp_path / "nameless.weights.h5").write_bytes(weights)  # without the configuration nothing tells the order
    with pytest.raises(InputError, match=r"no layer of a Keras EfficientNet by name; save it again as \.keras"):
        read(tmp_path / "nameless.weights.h5")


class TestHostileFiles:
    def test_lambda_layers(self, tmp_path):
        import keras

        mark = tmp_path / "mark"
        code = keras.layers.Lambda(eval(f"lambda x: [open({str(mark)!r}, 'w').close(), x][1]"), output_shape=(2,))
        model = keras.Sequential([keras.Input((2,)), code])
        for kind in (".keras", ".h5"):
            path = save(model, tmp_path, kind)
            mark.unlink(missing_ok=True)
            with pytest.raises(InputError, match="holds a Lambda layer, which is code"):
                read(path)
            assert not mark.exists()
        loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)  # the payload is live
        loaded(np.ones((1, 2)))
        assert mark.exists()

    def test_values_from_other_files(self, tmp_path):
        secret = tmp_path / "secret"
        secret.write_bytes(b"\0" * 4 * 27 * 32)
        with h5py.File(tmp_path / "weights.h5", "w") as file:
            group = file.create_group("stem_conv/stem_conv")
            group.create_dataset("kernel:0", (3, 3, 3, 32), "f4", external=[(str(secret), 0, 4 * 27 * 32)])
        with pytest.raises(InputError, match="takes values from other files"):
            read(tmp_path / "weights.h5")

    @pytest.mark.parametrize("options", [{}, {"chunks": (1024, 1024), "compression": "gzip"}])
    def test_arrays_far_larger_than_the_file(self, tmp_path, options):
        with h5py.File(tmp_path / "weights.h5", "w") as file:
            group = file.create_group("stem_conv/stem_conv")
            group.create_dataset("kernel:0", (1 << 18, 1 << 18), "f4", **options)  # 256 GiB
        assert (tmp_path / "weights.h5").stat().st_size < 100_000
        with pytest.raises(InputError, match="would unpack"):
            read(tmp_path / "weights.h5")

    def test_many_arrays_count_together(self, tmp_path):
        with h5py.File(tmp_path / "weights.h5", "w") as file:
            group = file.create_group("stem_conv/stem_conv")
            for number in range(20):
                group.create_dataset(f"kernel{number}:0", (100_000,), "f8", chunks=(1000,))
        with pytest.raises(InputError, match="would unpack"):
            read(tmp_path / "weights.h5")

    @pytest.mark.parametrize("lacking", ["config.json", "model.weights.h5"])
    def test_incomplete_archives(self, saved, tmp_path, lacking):
        with zipfile.ZipFile(saved[".keras"]) as old, zipfile.ZipFile(tmp_path / "part.keras", "w") as new:
            for name in {"config.json", "model.weights.h5"} - {lacking}:
                new.writestr(name, old.read(name))
        with pytest.raises(InputError, match=f"no complete .keras file: {lacking} is missing"):
            read(tmp_path / "part.keras")

    def test_truncated(self, saved, tmp_path):
        for kind, path in saved.items():
            cut = tmp_path / f"cut{kind}"
            cut.write_bytes(path.read_bytes()[:100_000])
            with pytest.raises(InputError, match="damaged, cut short or no weight file"):
                read(cut)

    def test_another_network(self, tmp_path):
        import keras

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        with pytest.raises(InputError, match="holds no layer of a Keras EfficientNet"):
            read(save(model, tmp_path, ".h5"))

    def test_without_h5py(self, saved, monkeypatch):
        def missing(name):
            raise ImportError(name)

        monkeypatch.setattr("backbones.layouts.keras_files.importlib.import_module", missing)
        with pytest.raises(InputError, match=r"h5py reads\. Install it: pip install 'effdense\[keras\]'"):
            read(saved[".h5"])


MEMBERS = {
    **{f"EfficientNetB{i}": f"tf_efficientnet_b{i}" for i in range(8)},
    **{f"EfficientNetV2B{i}": f"tf_efficientnetv2_b{i}" for i in range(4)},
    **{f"EfficientNetV2{size}": f"tf_efficientnetv2_{size.lower()}" for size in "SML"},
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), MEMBERS.items())
def test_names_and_shapes_of_every_member(kind, name):
    import keras

    with keras.device("meta"):
        model = getattr(keras.applications, kind)(weights=None, include_top=True)
    state = {}
    for layer in model.layers:
        for variable in layer.weights if not layer.name.startswith("normalization") else ():
            state[f"{layer.name}/{variable.name}"] = torch.empty(variable.shape, device="meta")
    found = recognise(state)
    assert found.nearest().name == name
    keys = found.layout.keys(member(name))
    wanted = {keys[key] for key in keys if not key.endswith("num_batches_tracked")}
    assert wanted == set(state)
    for key in keys:
        if keys[key] in state:
            assert tuple(found.layout.tensor(key, state[keys[key]]).shape) == member(name).shapes[key], key
