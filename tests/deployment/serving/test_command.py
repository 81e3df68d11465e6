"""`python -m deployment serve`: its errors are one short line, and it ends well."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from deployment.__main__ import main
from deployment.serving.limits import Limits
from deployment.serving.predicting import open_predictor
from engine.errors import InputError
from tests.deployment.networks import picture
from tests.deployment.serving.running import Server, photo
from tests.house.source import ROOT


@pytest.fixture
def wrong(capsys):
    def run(*words):
        assert main(["serve", *words]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        return said

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--ckpt_path"),
        (("--ckpt_path", "x.ckpt", "--port", "70000"), "0 to 65535"),
        (("--ckpt_path", "x.ckpt", "--batch_size", "0"), "at least 1"),
        (("--ckpt_path", "x.ckpt", "--wait_ms", "-1"), "at least 0"),
        (("--ckpt_path", "x.ckpt", "--client_seconds", "0"), "above 0"),
        (("--ckpt_path", "x.ckpt", "--batchsize", "2"), "Did you mean 'batch_size'?"),
        (("--ckpt_path", "x.ckpt", "--task", "detect"), "detection"),
        (("--ckpt_path", "no.ckpt", "--port", "0"), "there is no checkpoint 'no.ckpt'"),
        (("--ckpt_path", "no.onnx", "--port", "0"), "there is no file 'no.onnx'"),
        (("--ckpt_path", "best", "--port", "0"), "Give --task"),
        (("--ckpt_path", "x.ckpt", "--host", "999.1.1.1"), "Give another --host or --port"),
    ],
)
def test_wrong_options(wrong, monkeypatch, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in wrong(*words)


def test_a_port_that_is_taken(wrong):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1, port {port}" in wrong("--ckpt_path", "x.ckpt", "--port", port)


def test_a_missing_package_is_named(wrong, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert "pip install 'effdense[serve]'" in wrong("--ckpt_path", "x.ckpt")


def test_limits_are_checked_from_python_too():
    with pytest.raises(InputError, match="queue is 0; allowed: a whole number, at least 1"):
        Limits(queue=0)


@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_a_checkpoint_says_its_task(ckpt, task):
    predictor, found = open_predictor(ckpt(task), None, "cpu", None if task == "segmentation" else 0.6)
    assert found == task
    answer = predictor.predict(picture(96, 128))
    assert answer.size_hw == (96, 128)
    boxes = getattr(answer, "found", answer)
    assert task == "segmentation" or all(boxes.scores > 0.6)


def test_wrong_settings_of_the_network(ckpt):
    with pytest.raises(InputError, match=r"score_threshold is 0.6, but .* finds classes of pixels"):
        open_predictor(ckpt("segmentation"), None, "cpu", 0.6)
    with pytest.raises(InputError, match=r"device 'cuda:99' cannot be used: .* Give cpu"):
        open_predictor(ckpt("detection"), None, "cuda:99", None)
    with pytest.raises(InputError, match=r"device 'tpu' cannot be used: .* Give cpu"):
        open_predictor(ckpt("detection"), None, "tpu", None)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_the_command_answers_and_ends_with_a_signal(exported, ckpt, task, number):
    source = exported(task, "onnx") if number == signal.SIGTERM else ckpt(task)
    command = [sys.executable, "-m", "deployment", "serve", "--ckpt_path", str(source), "--port", "0", "--wait_ms", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        line = process.stdout.readline()
        assert line.startswith(f"{task} with "), process.stderr.read()
        server = Server(int(line.rpartition(":")[2]), None, None)
        until = time.monotonic() + 20
        while True:
            try:
                assert server.send("GET", "/health").status == 200
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.1)
        said = server.send(body=photo(150, 210))
        assert said.status == 200
        assert said.json()["task"] == task
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
