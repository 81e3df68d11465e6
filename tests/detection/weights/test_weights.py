"""Published weights: folding, strictness, wrappers, and a real download from a server on this machine."""

from __future__ import annotations

import hashlib
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import effdet
import pytest
import safetensors.torch
import torch
from torch import Tensor

from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from detection.weights.effdet_layout import redundant_biases
from detection.weights.load import (
    PUBLISHED,
    Published,
    export_effdet,
    load_effdet,
    load_network,
    load_pretrained,
    strip_wrappers,
)
from engine.errors import InputError

TINY: dict[str, Any] = {"image_size": (128, 128), "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
NOBODY = "http://127.0.0.1:9"  # the discard port, where no server listens
State = dict[str, Tensor]


def tiny(num_classes: int = 3, member: str = "lite0") -> EfficientDet:
    torch.manual_seed(0)
    return EfficientDet(member, num_classes, **TINY).eval()


@pytest.fixture(scope="module")
def exported() -> State:
    return export_effdet(tiny(), redundant_bias=True)


@pytest.fixture
def state(exported: State) -> State:
    """A tiny detector's weights in effdet's layout, redundant biases included."""
    return {key: value.clone() for key, value in exported.items()}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """A published detector small enough for a test."""
    monkeypatch.setitem(
        PUBLISHED, "tf_efficientdet_tiny", Published("tf_efficientdet_tiny-00000000.pth", "lite0", TINY)
    )


def save(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


def message_of(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """The one short message that a call fails with."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 900  # the longest list: all published names
    return message


@pytest.mark.parametrize("member", ["lite0", "d0"])
@torch.no_grad()
def test_biases_in_front_of_batch_norms_are_folded_exactly(member: str) -> None:
    config = effdet.get_efficientdet_config(f"tf_efficientdet_{member}")
    config.update(image_size=(128, 128), fpn_channels=16, fpn_cell_repeats=1, box_class_repeats=1, num_classes=3)
    theirs = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    generator = torch.Generator().manual_seed(1)
    ours = tiny(member=member)
    biases = dict(redundant_biases(ours))
    full = theirs.state_dict()
    assert set(biases) <= set(full)
    # 8 nodes, 6 laterals, one convolution in each head.
    assert len(biases) == 8 + 6 + 2
    for key in biases:
        full[key].normal_(generator=generator)
    load_effdet(ours, full, "random")
    images = torch.randint(0, 256, (1, 3, 128, 128), generator=generator)
    for found, expected in zip(ours(images), theirs(ours.normalise(images)), strict=True):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_missing_key(state: State) -> None:
    del state["fpn.cell.0.fnode.0.after_combine.conv.conv_dw.weight"]
    message = message_of(load_effdet, tiny(), state, "file.pth")
    assert "'file.pth' does not fit lite0: 1 keys are missing" in message
    assert "fpn.cell.0.fnode.0.after_combine.conv.conv_dw.weight" in message


def test_unexpected_key(state: State) -> None:
    state["seg_net.conv.weight"] = torch.zeros(1)
    assert "1 have no place (seg_net.conv.weight)" in message_of(load_effdet, tiny(), state, "file.pth")


@pytest.mark.parametrize(
    "key", ["class_net.predict.conv_pw.weight", "fpn.cell.0.fnode.0.after_combine.conv.conv_pw.bias"]
)
def test_wrong_shape_loads_nothing(state: State, key: str) -> None:
    state[key] = state[key][:1]
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state["backbone.conv_stem.weight"] += 1
    message = message_of(load_effdet, model, state, "file.pth")
    assert f"1 shapes differ ({key} (1," in message
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_values_that_are_not_finite(state: State) -> None:
    state["box_net.predict.conv_pw.bias"][3] = float("nan")
    message = message_of(load_effdet, tiny(), state, "file.pth")
    assert "not finite (box_net.predict.conv_pw.bias)" in message


def test_wrong_member(state: State) -> None:
    other = EfficientDet("lite0", 3, **TINY | {"fpn_cells": 2})
    assert "Check the member and the file." in message_of(load_effdet, other, state, "file.pth")
    wider = EfficientDet("lite0", 3, **TINY | {"fpn_channels": 24})
    assert "shapes differ" in message_of(load_effdet, wider, state, "file.pth")


def test_unknown_names() -> None:
    message = message_of(load_pretrained, "tf_eficientdet_d4")
    assert "'tf_eficientdet_d4' is unknown; allowed: tf_efficientdet_d0, " in message
    assert "Did you mean 'tf_efficientdet_d4'?" in message
    message = message_of(load_pretrained, "best.pth", layout_of="tf_efficientdet_d44")
    assert "Did you mean 'tf_efficientdet_d4'?" in message


def test_batch_norms_by_level_first(state: State) -> None:
    """effdet's two ways of numbering the batch norms of its heads give the same network."""
    shaken = {key: value + 0.01 * torch.rand_like(value) if "bn_rep" in key and value.is_floating_point() else value
              for key, value in state.items()}  # fmt: skip
    turned = {re.sub(r"bn_rep\.(\d)\.(\d)\.bn\.", r"bn_rep.\2.\1.", key): value for key, value in shaken.items()}
    first, second = tiny(), tiny()
    load_effdet(first, shaken, "by repeat")
    load_effdet(second, turned, "by level")
    found = second.state_dict()
    assert all(torch.equal(found[key], value) for key, value in first.state_dict().items())
    again = export_effdet(second, redundant_bias=True, level_first=True)
    assert set(again) == set(turned)


@pytest.mark.parametrize("name", ["tf_efficientdet_d0-0123abcd.pth", "tf_efficientdet_d0.safetensors"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    assert "does not exist" in message_of(load_pretrained, tmp_path / name)


def folded(state: State) -> State:
    model = tiny()
    load_effdet(model, state, "state")
    return model.state_dict()


@pytest.mark.by_default("plain", "ema", "bench", "safetensors")
@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("wrapping", ["plain", "module", "model", "state_dict", "ema", "bench", "safetensors"])
def test_wrappers(tmp_path: Path, state: State, wrapping: str) -> None:
    expected = folded(state)
    path = tmp_path / ("tf_efficientdet_tiny" + (".safetensors" if wrapping == "safetensors" else ".pth"))
    content: Any = state
    if wrapping in ("module", "model"):
        content = {f"{wrapping}.{key}": value for key, value in state.items()}
    elif wrapping == "bench":  # DetBenchTrain stores its anchors beside the model
        content = {f"model.{key}": value for key, value in state.items()} | {"anchors.boxes": torch.zeros(5, 4)}
    elif wrapping == "state_dict":
        content = {"epoch": 3, "arch": "tiny", "state_dict": state}
    elif wrapping == "ema":
        content = {"state_dict": {key: value * 0 for key, value in state.items()}, "state_dict_ema": state}
    if wrapping == "safetensors":
        safetensors.torch.save_file(content, path)
    else:
        save(content, path)
    model = load_pretrained(path)
    assert not model.training
    assert model.config.fpn_channels == 16
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_prefixes_are_stripped_but_no_name_that_begins_alike() -> None:
    one = torch.zeros(1)
    given = {"module.model.fpn.x": one, "model.module.box_net.y": one, "modelling.z": one, "anchors.boxes": one}
    assert set(strip_wrappers(given)) == {"fpn.x", "box_net.y", "modelling.z"}


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(("count", "first", "last"), [(80, "class_1", 80), (90, "person", 90), (7, "class_1", 7)])
def test_class_count_comes_from_the_file(tmp_path: Path, count: int, first: str, last: int) -> None:
    path = save(export_effdet(tiny(count), redundant_bias=True), tmp_path / "tf_efficientdet_tiny.pth")
    classes = load_pretrained(path).classes
    assert len(classes) == count
    assert (classes.names[0], classes.category_ids[-1]) == (first, last)
    assert classes == BoxClasses.numbered(count)


@pytest.mark.usefixtures("published")
def test_settings_that_hold_no_weights(tmp_path: Path, state: State) -> None:
    path = save(state, tmp_path / "tf_efficientdet_tiny.pth")
    model = load_network(path, image_size=(256, 384), freezing={"frozen_stages": -1})
    assert model.config.image_size == (256, 384)
    assert not any(p.requires_grad for p in model.backbone.parameters())


class Opens:
    """Calls `open` when it is unpickled, as an attack would call something worse."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.target), "w")


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("plain_pickle", [False, True])
def test_file_that_would_run_code_is_refused(tmp_path: Path, state: State, plain_pickle: bool) -> None:
    victim = tmp_path / "written.txt"
    path = tmp_path / "tf_efficientdet_tiny.pth"
    content = {"state_dict": state, "extra": Opens(victim)}
    if plain_pickle:
        path.write_bytes(pickle.dumps({"extra": Opens(victim)}, protocol=2))
    else:
        save(content, path)
    assert str(path) in message_of(load_pretrained, path)
    assert not victim.exists()


class Server:
    """Serves files from memory and remembers the requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                body = outer.files.get(self.path.removeprefix("/mirror/"))
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/mirror/"

    def stop(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mirror on this machine, and an empty hub folder at `tmp_path / "hub"`."""
    before = torch.hub._hub_dir
    torch.hub.set_dir(tmp_path / "hub")
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    running = Server()
    monkeypatch.setenv("EFFDENSE_WEIGHTS_URL", running.url)
    yield running
    running.stop()
    torch.hub._hub_dir = before


def publish(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: Path, state: State, digits: str | None = None
) -> str:
    """Put a file on the server and into the table; `digits` in place of the file's own hash. Returns its name."""
    body = save(state, path).read_bytes()
    path.unlink()
    file = f"tf_efficientdet_tiny-{digits or hashlib.sha256(body).hexdigest()[:8]}.pth"
    server.files[file] = body
    monkeypatch.setitem(PUBLISHED, "tf_efficientdet_tiny", Published(file, "lite0", TINY))
    return file


def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_download_once(
    server: Server, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = publish(server, monkeypatch, tmp_path / "state.pth", state)
    expected = folded(state)
    for _ in range(2):
        model = load_network("tf_efficientdet_tiny")
        assert all(torch.equal(model.state_dict()[key], value) for key, value in expected.items())
        assert "tf_efficientdet_tiny: Apache-2.0" in capsys.readouterr().out
        assert server.requests == [f"/mirror/{file}"]
        assert cached(tmp_path / "hub") == [file]
    # Found on the disk without any server.
    monkeypatch.setenv("EFFDENSE_WEIGHTS_URL", NOBODY)
    assert len(load_network("tf_efficientdet_tiny").classes) == 3


def test_wrong_override_costs_no_download(
    server: Server, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, monkeypatch, tmp_path / "state.pth", state)
    assert "Did you mean 'image_size'?" in message_of(load_pretrained, "tf_efficientdet_tiny", imagesize=256)
    assert server.requests == []


def test_download_with_another_hash_leaves_nothing(
    server: Server, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = publish(server, monkeypatch, tmp_path / "state.pth", state, digits="0123abcd")
    message = message_of(load_pretrained, "tf_efficientdet_tiny")
    assert f"'{server.url}{file}' arrived with another hash than it should have" in message
    assert cached(tmp_path / "hub") == []


def test_cached_file_that_was_damaged(
    server: Server, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = publish(server, monkeypatch, tmp_path / "state.pth", state)
    load_pretrained("tf_efficientdet_tiny")
    (stored,) = (path for path in (tmp_path / "hub").rglob("*.pth"))
    stored.write_bytes(stored.read_bytes()[:-100])
    message = message_of(load_pretrained, "tf_efficientdet_tiny")
    assert re.search(rf"'{stored}' has the hash [0-9a-f]{{8}}, its name says {file[-12:-4]}\. Delete it", message)


def test_file_that_the_server_does_not_have(
    server: Server, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, monkeypatch, tmp_path / "state.pth", state)
    server.files.clear()
    message = message_of(load_pretrained, "tf_efficientdet_tiny")
    assert "cannot download" in message
    assert "Not Found" in message
    assert cached(tmp_path / "hub") == []


def test_server_down(server: Server, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    file = publish(server, monkeypatch, tmp_path / "state.pth", state)
    monkeypatch.setenv("EFFDENSE_WEIGHTS_URL", NOBODY)
    message = message_of(load_pretrained, "tf_efficientdet_tiny")
    assert f"cannot download '{NOBODY}/{file}'" in message
    assert "refused" in message
    assert f"Put the file at '{tmp_path / 'hub' / 'checkpoints' / file}'" in message
    assert server.requests == []
    assert cached(tmp_path / "hub") == []


@pytest.mark.parametrize("mirror", ["", "mirror", "htp://mirror"])
def test_mirror_that_is_no_address(
    server: Server, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    publish(server, monkeypatch, tmp_path / "state.pth", state)
    monkeypatch.setenv("EFFDENSE_WEIGHTS_URL", mirror)
    assert "cannot download" in message_of(load_pretrained, "tf_efficientdet_tiny")


def test_folder_that_bears_the_name_is_no_file(
    server: Server, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, monkeypatch, tmp_path / "state.pth", state)
    (tmp_path / "tf_efficientdet_tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(load_pretrained("tf_efficientdet_tiny").classes) == 3
    assert len(server.requests) == 1
