"""Which network a file holds, recognised by its name or else by its keys; and the files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detection.weights.effdet_layout import export_effdet
from detection.weights.load import load_pretrained
from detection.weights.published import PUBLISHED, UNSUPPORTED, ZYLO, Published, name_of_file
from tests.detection.weights.test_weights import TINY, State, message_of, save, tiny


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        PUBLISHED, "tf_efficientdet_tiny", Published("tf_efficientdet_tiny-00000000.pth", "lite0", TINY)
    )


@pytest.fixture(scope="module")
def state() -> State:
    return export_effdet(tiny(), redundant_bias=True)


@pytest.mark.usefixtures("published")
def test_file_of_another_layout(tmp_path: Path, state: State) -> None:
    path = save(tiny().state_dict(), tmp_path / "own.pth")
    message = message_of(load_pretrained, path, layout_of="tf_efficientdet_tiny")
    assert f"'{path}' is a bare state dict of this project" in message
    path = save(tiny().backbone.state_dict(), tmp_path / "backbone.pth")
    assert "is not a detector in effdet's, zylo117's or this project's layout" in message_of(load_pretrained, path)
    renamed = {key.replace("class_net", "classnet"): value for key, value in state.items()}
    message = message_of(load_pretrained, save(renamed, tmp_path / "renamed.pth"))
    assert "The nearest is effdet's, but 'class_net.predict.conv_pw.bias' is missing" in message
    assert "has no place: classnet." in message


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_networks_on_other_backbones_are_refused_by_name(tmp_path: Path, state: State, name: str) -> None:
    path = save(state, tmp_path / f"{UNSUPPORTED[name][0]}-01234567.pth")
    for source, layout_of in ((name, None), (path, None), (tmp_path / "best.pth", name)):
        message = message_of(load_pretrained, source, layout_of=layout_of)
        assert f"is effdet's {name}, on a " in message
        assert message.endswith(" backbone. Only EfficientNet backbones are read.")


@pytest.mark.usefixtures("published")
def test_file_whose_name_does_not_tell(tmp_path: Path, state: State) -> None:
    model = load_pretrained(save(state, tmp_path / "best.pth"))
    assert (model.config.name, model.config.fpn_channels, model.config.padding) == ("lite0", 16, "same")


def test_file_of_twins_asks_which(
    tmp_path: Path, state: State, published: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Published("tf_efficientdet_other-00000000.pth", "lite0", TINY | {"mean": (0.4, 0.4, 0.4)})
    monkeypatch.setitem(PUBLISHED, "tf_efficientdet_other", other)
    path = save(state, tmp_path / "best.pth")
    message = message_of(load_pretrained, path)
    assert f"'{path}' fits tf_efficientdet_tiny and tf_efficientdet_other alike" in message
    assert "layout_of" in message
    for name, mean in (("tf_efficientdet_tiny", 0.5), ("tf_efficientdet_other", 0.4)):
        assert load_pretrained(path, layout_of=name).config.mean == (mean,) * 3
        assert load_pretrained(save(state, tmp_path / f"{name}.pth")).config.mean == (mean,) * 3


def test_file_with_the_name_of_another_network(tmp_path: Path, state: State, published: None) -> None:
    message = message_of(load_pretrained, save(state, tmp_path / "tf_efficientdet_lite0.pth"))
    assert "does not fit lite0" in message
    assert message.endswith("Its keys are those of tf_efficientdet_tiny.")


def test_network_of_no_published_size_names_the_nearest(tmp_path: Path, state: State) -> None:
    message = message_of(load_pretrained, save(state, tmp_path / "best.pth"))
    assert f"'{tmp_path / 'best.pth'}' is in effdet's layout but none of its published networks." in message
    assert "The nearest is tf_efficientdet_lite0; the file has fpn_channels 16, not 64, fpn_cells 1, not 3" in message


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_file_names_tell_their_network(name: str) -> None:
    path = Path("folder", PUBLISHED[name].file)
    assert name_of_file(path) == name
    assert name_of_file(Path("folder", f"{name}.safetensors")) == name


def test_other_file_names() -> None:
    assert name_of_file(Path("best.pth")) is None
    assert name_of_file(Path("efficientdet_d0")) == "efficientdet_d0"
    for name in ZYLO:
        assert name_of_file(Path(f"{name}.pth")) == name
        assert name_of_file(Path(f"{name}_12_34500.pth")) == name


def test_files_of_which_a_key_is_odd(tmp_path: Path, state: State, published: None) -> None:
    weight = {key: value for key, value in state.items() if key != "class_net.predict.conv_pw.weight"}
    assert "fpn_channels 0, not " in message_of(load_pretrained, save(weight, tmp_path / "best.pth"))
    scalar = state | {"class_net.predict.conv_pw.bias": torch.tensor(1.0)}
    path = save(scalar, tmp_path / "best.pth")
    assert "shapes differ" in message_of(load_pretrained, path, layout_of="tf_efficientdet_tiny")
