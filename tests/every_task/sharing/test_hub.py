"""Networks pushed to a hub and pulled from it are the same to the last bit; what could run code is refused."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.hub.addresses import HubAddress
from engine.hub.remote import fetched
from engine.tasks import find_task
from tests.detection.small import command
from tests.every_task.sharing.hub_server import Repository

DATA = Path(__file__).parents[2] / "before/data"
PICTURE = min((DATA / "pictures").glob("*.png"))
TASKS = ("detection", "segmentation", "joint")


def load(task: str, source: str | Path, **given: Any) -> Any:
    return importlib.import_module(task).load(source, **given)


def same_bits(one: torch.nn.Module, other: torch.nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        assert value.dtype == states[1][name].dtype
        assert torch.equal(
            value.contiguous().view(-1).view(torch.uint8), states[1][name].contiguous().view(-1).view(torch.uint8)
        ), name


def arrays(answer: Any) -> list[np.ndarray]:
    parts = [getattr(answer, name, None) for name in ("found", "segmented")]
    parts = [part for part in parts if part is not None] or [answer]
    names = ("boxes_xyxy", "scores", "category_ids", "class_ids")
    return [getattr(part, name) for part in parts for name in names if hasattr(part, name)]


@pytest.fixture(scope="module")
def cars() -> Any:
    """A detector."""
    return load("detection", DATA / "detection.ckpt", fold=False)


@pytest.mark.by_default("detection")
@pytest.mark.parametrize("task", TASKS)
def test_pushed_and_pulled_is_the_same_network(task, hub, tmp_path):
    own = load(task, DATA / f"{task}.ckpt", fold=False)
    commit = own.push_to_hub("me/small-network", licence="apache-2.0", private=True)
    repository = hub.repositories["me/small-network"]
    assert repository.private
    assert commit == f"{hub.url}/me/small-network/commit/{repository.branches['main']}"
    assert set(repository.files()) == {"README.md", "config.json", "model.safetensors"}
    pulled = load(task, "hf://me/small-network", fold=False)
    same_bits(own.network, pulled.network)
    assert pulled.settings() == own.settings()
    folded = [load(task, source).predict(PICTURE) for source in (DATA / f"{task}.ckpt", "hf://me/small-network")]
    for one, other in zip(*map(arrays, folded), strict=True):
        np.testing.assert_array_equal(one, other)
    # Pulled and shared again, the weights are the same file.
    pulled.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == repository.files()["model.safetensors"]
    assert json.loads((tmp_path / "again/config.json").read_text())["effdense"]["licence"] == "apache-2.0"


def test_the_files_of_one_commit_are_fetched_once(cars, hub):
    cars.push_to_hub("hf://me/cars")
    fetched(HubAddress("me/cars"))
    hub.requests.clear()
    fetched(HubAddress("me/cars"))
    assert not [one for one in hub.requests if "/cdn/" in one]
    first = hub.repositories["me/cars"].branches["main"]
    hub.repositories["me/cars"].add({"config.json": b"{}"})
    same_bits(load("detection", f"hf://me/cars@{first}", fold=False).network, cars.network)
    with pytest.raises(InputError, match="describes no network of this program"):
        load("detection", "hf://me/cars")


@pytest.mark.by_default(
    "alone-pytorch_model.bin",
    "beside-optimizer.pickle",
    "alone-x.pkl",
    "beside-x.pth",
    "beside-weights.PT",
    "alone-old/last.ckpt",
)
@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "old/last.ckpt", "weights.PT", "x.pth", "x.pkl", "optimizer.pickle"]
)
@pytest.mark.parametrize("beside", [{}, {"model.safetensors": b"x", "config.json": b"{}"}], ids=["alone", "beside"])
def test_a_repository_with_a_pickle_is_refused_and_nothing_of_it_fetched(name, beside, cars, hub):
    repository = hub.repositories["me/risky"] = Repository()
    repository.add({name: b"never read", **beside})
    with pytest.raises(InputError, match=rf"^hf://me/risky has '{name}', a pickle, which could run code .* refused"):
        load("detection", "hf://me/risky")
    assert not [one for one in hub.requests if "resolve" in one]
    with pytest.raises(InputError, match="a pickle, for which others refuse it"):
        cars.push_to_hub("me/risky")
    assert not [one for one in hub.requests if "commit" in one]


def test_what_a_hub_cannot_give_is_one_short_error(cars, hub, monkeypatch):
    hub.repositories["me/empty"] = Repository()
    hub.repositories["me/empty"].add({"README.md": b"# soon"})
    hub.repositories["me/large"] = Repository()
    hub.repositories["me/large"].add({"config.json": bytes(9 << 20), "model.safetensors": b"x"})
    for address, said in {
        "hf://me/none": rf"there is no hf://me/none on {hub.url}, or it is private\. Check its name, or run",
        "hf://me/empty": r"hf://me/empty has no model\.safetensors\. Give a repository that push_to_hub filled\.",
        "hf://me/empty@v9": r"hf://me/empty@v9 has no such revision",
        "hf://me/large": r"config\.json of 9,437,184 bytes; allowed are 8,388,608",
        "hf://me": "'hf://me' names no repository of a hub. Give hf://owner/name",
        "hf://me/../../etc": "names no repository",
        "hf://me/a/model.safetensors": "names no repository",
    }.items():
        with pytest.raises(InputError, match=said) as error:
            load("segmentation", address)
        assert "\n" not in str(error.value)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InputError, match=rf"{hub.url} does not allow this for hf://me/cars \(status 401\)"):
        cars.push_to_hub("me/cars")


def test_without_the_network_what_was_fetched_is_there(cars, hub, monkeypatch):
    from huggingface_hub import constants

    cars.push_to_hub("me/cars")
    fetched(HubAddress("me/cars"))
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    same_bits(load("detection", "hf://me/cars", fold=False).network, cars.network)
    assert not hub.requests
    with pytest.raises(InputError, match="hf://me/other is not on this machine, and HF_HUB_OFFLINE is set"):
        load("detection", "hf://me/other")


def test_no_hub_is_one_short_error(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"^http://127\.0\.0\.1:9 failed with hf://me/cars: .*Check the connection"):
        load("detection", "hf://me/cars")


def test_without_the_library_its_package_and_command_are_named(cars, monkeypatch):
    from engine.exports import extras

    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    said = r"needs the package huggingface_hub, which is not installed\. Run: pip install 'effdense\[hub\]'"
    with pytest.raises(InputError, match=said):
        load("detection", "hf://me/cars")
    with pytest.raises(InputError, match=said):
        cars.push_to_hub("me/cars")


def test_the_command_line_shares_and_takes_a_network(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = find_task("detection")
    said = command(f"share --ckpt_path {DATA}/detection.ckpt --to hf://me/cars --licence mit", spec)
    assert said.code == 0, said.err
    assert said.out.startswith(f"Shared in hf://me/cars: {hub.url}/me/cars/commit/")
    outputs = []
    for number, source in enumerate((DATA / "detection.ckpt", "hf://me/cars")):
        line = f"predict --ckpt_path {source} --source {PICTURE} --output out{number} --trainer.accelerator cpu"
        said = command(f"{line} --score_threshold 0.05 --pictures false", spec)
        assert said.code == 0, said.err
        outputs.append(json.loads(Path(f"out{number}/detections.json").read_text())["annotations"])
    assert outputs[0] == outputs[1] != []
    said = command("fit --config detection/demo --ckpt_path hf://me/cars", spec)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "'hf://me/cars' is a shared network, without the state of a training" in said.err
    said = command(f"share --ckpt_path {DATA}/detection.ckpt --to hf://me/cars --licence none,of(them)", spec)
    assert said.code == 2
    assert "Invalid metadata in README.md" in said.err


@pytest.mark.parametrize(
    ("text", "repo_id", "revision"),
    [("me/x", "me/x", None), ("hf://a.b/c_d-e@v1.0", "a.b/c_d-e", "v1.0"), ("hf://a/b@refs/pr/4", "a/b", "refs/pr/4")],
)
def test_addresses(text, repo_id, revision):
    assert HubAddress.read(text) == HubAddress(repo_id, revision)
