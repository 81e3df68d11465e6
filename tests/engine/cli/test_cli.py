"""The command line as its user meets it: runs and their folders, checkpoints, resuming, errors."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch._utils import ExceptionWrapper

import engine.cli.effdense_cli
from engine.cli.effdense_cli import user_message
from engine.cli.runs import Run, run_folder
from engine.errors import InputError
from engine.training.checkpoint_files import checkpoint_of_run
from tests.engine.toy import Broken, main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(monkeypatch):
    """The output of Lightning's loggers to the terminal."""
    stream = io.StringIO()
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            monkeypatch.setattr(handler, "stream", stream)
    return stream


def fails(capsys, command: str, *holds: str) -> None:
    """The command ends with status 2 and one line that holds the texts."""
    capsys.readouterr()
    assert main(command.split()) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ")
    for part in holds:
        assert part in said[-1]


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_a_run_leaves_everything_in_one_folder(here, said, capsys):
    assert main(["fit", "--run.name", "first", "--model.width", "5", "--model.optimizer.lr", "0.05"]) == 0
    folder = here / "runs/toy/first"
    names = {path.name.partition(".")[0] for path in folder.iterdir()}
    assert {"config", "versions", "metrics", "events", "checkpoints"} <= names

    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["width"] == 5
    assert config["model"]["optimizer"]["lr"] == 0.05
    assert config["model"]["schedule"]["name"] == "cosine"
    assert config["seed_everything"] == 0

    record = json.loads((folder / "versions.json").read_text())
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["command"].endswith("toy fit --run.name first --model.width 5 --model.optimizer.lr 0.05")

    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    scores = [float(row["val_score"]) for row in rows if row["val_score"]]
    rates = [float(row["lr-SGD/pg1"]) for row in rows if row["lr-SGD/pg1"]]
    assert len(scores) == 2
    assert len(rates) == 8

    # The monitored score is better when it is higher.
    (best,) = folder.glob("checkpoints/best*.ckpt")
    assert best.name == f"best-epoch{scores.index(max(scores)):03d}-val_score{max(scores):.4f}.ckpt"
    assert load(best)["global_step"] == 4 * (1 + scores.index(max(scores)))
    last = folder / "checkpoints/last.ckpt"
    assert not last.is_symlink()
    assert load(last)["global_step"] == 8
    assert "hyper_parameters" not in load(last)
    model = load(last)["effdense"]["model"]
    assert (model["size"], model["width"], model["optimizer"]["lr"]) == ("small", 5, 0.05)

    shown = said.getvalue() + capsys.readouterr().err
    assert "Results are in runs/toy/first; best checkpoint: runs/toy/first/checkpoints/best-" in shown
    for noise in ("Tip", "TPU", "Seed set", "deprecat", "LightningCLI's args"):
        assert noise not in shown

    # The saved configuration repeats the run, in a new folder.
    assert main(["fit", "--config", str(folder / "config.yaml"), "--run.name", "second"]) == 0
    again = load(here / "runs/toy/second/checkpoints/last.ckpt")
    for name, value in load(last)["state_dict"].items():
        assert torch.equal(value, again["state_dict"][name])


def test_runs_are_numbered_and_never_written_over(here, capsys):
    quick = ["fit", "--trainer.max_epochs", "1"]
    assert main(quick) == main(quick) == 0
    assert sorted(path.name for path in (here / "runs/toy").iterdir()) == ["version_0", "version_1"]
    assert main([*quick, "--run.name", "mine"]) == 0
    fails(capsys, "fit --run.name mine", "'runs/toy/mine' exists", "Choose another --run.name", "--ckpt_path last")


def test_fast_dev_run_and_no_logger_and_own_callbacks(here):
    assert main(["fit", "--trainer.fast_dev_run", "true"]) == 0
    assert not any((here / "runs").rglob("*.*")) if (here / "runs").exists() else True
    assert main(["fit", "--trainer.max_epochs", "1", "--trainer.logger", "false", "--run.name", "mute"]) == 0
    assert {path.name for path in (here / "runs/toy/mute").iterdir()} == {"checkpoints", "config.yaml", "versions.json"}
    unvalidated = ["--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1", "--run.name", "blind"]
    assert main(["fit", *unvalidated]) == 0
    assert [path.name for path in (here / "runs/toy/blind/checkpoints").iterdir()] == ["last.ckpt"]
    # The training ends before its first validation.
    assert main(["fit", "--trainer.check_val_every_n_epoch", "3", "--run.name", "early"]) == 0
    assert [path.name for path in (here / "runs/toy/early/checkpoints").iterdir()] == ["last.ckpt"]


def test_saving_within_epochs_needs_data_that_can_go_on_there(here, capsys):
    said = ("run.save_steps is 3", "can only be resumed from the end of an epoch", "Leave it")
    fails(capsys, "fit --run.save_steps 3", *said)
    fails(capsys, "fit --run.save_steps 0", "run.save_steps is '0'; allowed: a whole number, at least 1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the run `runs/toy/wide` of width 7."""
    folder = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(folder)
    try:
        network = ["--model.width", "7", "--model.size", "large", "--model.optimizer.lr", "0.05"]
        assert main(["fit", "--run.name", "wide", *network]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def in_trained(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


@pytest.mark.by_default(
    "last-validate",
    "best-predict --source a.jpg",
    "runs/toy/wide/checkpoints/last.ckpt-predict --source a.jpg",
    "best-test",
)
@pytest.mark.parametrize("command", ["validate", "test", "predict --source a.jpg"])
@pytest.mark.parametrize("which", ["last", "best", "runs/toy/wide/checkpoints/last.ckpt"])
def test_the_network_comes_from_the_checkpoint(in_trained, capsys, command, which):
    # The toy has no data for `test`: Lightning refuses it after the network is built.
    assert main([*command.split(), "--ckpt_path", which]) == (2 if command == "test" else 0)
    if command.startswith("predict"):
        source, size, width, path = (in_trained / "out").read_text().split()
        assert (source, size, width) == ("a.jpg", "large", "7")
        assert Path(path).name.startswith(Path(which).stem)


def test_a_validated_score_is_the_one_logged_in_training(in_trained, capsys):
    assert main(["validate", "--ckpt_path", "best", "--verbose", "true"]) == 0
    (best,) = Path("runs/toy/wide/checkpoints").glob("best*")
    score = float(best.stem.rpartition("val_score")[2])
    shown = [line for line in capsys.readouterr().out.splitlines() if "val_score" in line][-1]
    assert float(shown.split()[-2 if shown.endswith("│") else -1]) == pytest.approx(score, abs=1e-4)
    assert [path.name for path in Path("runs/toy").iterdir()] == ["wide"]


def test_what_is_asked_wins_or_errs(in_trained, capsys):
    last = "--ckpt_path runs/toy/wide/checkpoints/last.ckpt"
    fails(capsys, f"validate {last} --model.width 5", "model.width is 5", "has 7", "Leave model.width out")
    # Even where it equals the parser's default.
    fails(capsys, f"validate {last} --model.size small", "model.size is 'small'", "has 'large'")
    Path("other.yaml").write_text("model:\n  width: 5\n")
    fails(capsys, f"validate {last} --config other.yaml", "model.width is 5", "has 7")
    assert main(f"validate {last} --model.width 7 --model.dropout 0.5".split()) == 0


def test_a_resumed_training_keeps_its_optimiser_or_errs(trained, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    # The state of the optimiser would silently bring the old learning rate back.
    fails(capsys, "fit --ckpt_path last --model.optimizer.lr 0.01", "model.optimizer.lr is 0.01", "has 0.05")
    assert main(["validate", "--ckpt_path", "last", "--model.optimizer.lr", "0.01"]) == 0
    assert main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"]) == 0
    config = yaml.safe_load(Path("runs/toy/wide/config.yaml").read_text())
    assert (config["model"]["width"], config["model"]["optimizer"]["lr"]) == (7, 0.05)


def test_checkpoints_that_do_not_fit(in_trained, capsys, monkeypatch):
    torch.save({"w": torch.ones(1)}, "bare.ckpt")
    content = load(Path("runs/toy/wide/checkpoints/last.ckpt"))
    content["effdense"]["task"] = "segmentation"
    torch.save(content, "other.ckpt")
    fails(capsys, "validate --ckpt_path bare.ckpt", "'bare.ckpt'", "bare state dict")
    fails(capsys, "fit --ckpt_path other.ckpt", "segmentation checkpoint", "python -m segmentation")
    fails(capsys, "validate --ckpt_path runs/toy/wide/checkpoints/lasst.ckpt", "Did you mean 'last.ckpt'?")
    fails(capsys, "validate --ckpt_path https://example.org/a.ckpt", "there is no checkpoint")
    fails(capsys, "validate", "needs trained weights", "--ckpt_path")
    fails(capsys, "validate --ckpt_path last --run.name wid", "Did you mean 'wide'?")
    content["effdense"]["model"]["size"] = "huge"
    content["effdense"]["task"] = "toy"
    torch.save(content, "huge.ckpt")
    fails(capsys, "validate --ckpt_path huge.ckpt", "model.size is 'huge'", "'small', 'large'")


def test_lightnings_own_settings_of_a_checkpoint_are_not_used(in_trained):
    """Its command line would read the whole file once more for them, and let them override everything."""
    content = load(Path("runs/toy/wide/checkpoints/last.ckpt"))
    torch.save({**content, "hyper_parameters": {"width": 5}}, "others.ckpt")
    assert main(["predict", "--source", "a.jpg", "--ckpt_path", "others.ckpt"]) == 0
    assert (in_trained / "out").read_text().split()[:3] == ["a.jpg", "large", "7"]


def test_nothing_to_resume_is_an_error(here, capsys):
    for which in ("last", "best"):
        fails(capsys, f"fit --ckpt_path {which}", f"--ckpt_path {which}", "no run with checkpoints in 'runs/toy'")


def test_an_interrupted_run_resumed_equals_an_uninterrupted_one(here):
    # The data are shuffled and neurons dropped by torch's global random state.
    command = ["fit", "--trainer.max_epochs", "4", "--model.dropout", "0.3", "--data.by_epoch", "false", "--run.name"]
    crash = ["--trainer.callbacks+", "tests.engine.toy.Crash", "--trainer.callbacks.epoch", "2"]
    assert main([*command, "whole"]) == 0
    with pytest.raises(RuntimeError, match="power cut"):
        main([*command, "cut", *crash])
    assert main([*command, "cut", "--ckpt_path", "last"]) == 0
    whole, cut = (load(here / f"runs/toy/{name}/checkpoints/last.ckpt") for name in ("whole", "cut"))
    assert whole["global_step"] == cut["global_step"] == 16
    for part in ("state_dict", "current_model_state"):
        for name, value in whole[part].items():
            assert torch.equal(value, cut[part][name]), (part, name)
    assert whole["lr_schedulers"] == cut["lr_schedulers"]
    best = [sorted(path.name for path in (here / f"runs/toy/{run}/checkpoints").iterdir()) for run in ("whole", "cut")]
    assert best[0] == best[1]
    # Nothing written before the interruption is lost.
    kept = {path.name for path in (here / "runs/toy/cut").iterdir()}
    assert {"config.yaml", "config.1.yaml", "metrics.csv", "metrics.1.csv", "versions.1.json"} <= kept


def test_resuming_from_another_file_starts_a_new_folder(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    run = Run(root=str(tmp_path / "runs"))
    last = trained / "runs/toy/wide/checkpoints/last.ckpt"
    assert run_folder(run, "toy", last) == tmp_path / "runs/toy/version_0"
    assert run_folder(Run(), "toy", last) == Path("runs/toy/wide")
    assert run_folder(Run(), "toy", checkpoint_of_run("runs", "toy", None, "best")) == Path("runs/toy/version_0")


def test_a_folder_that_cannot_be_written(here, capsys):
    (here / "runs").write_text("a file")
    fails(capsys, "fit", "cannot write into 'runs/toy'")


def test_bad_data_are_told_without_a_traceback(here, capsys):
    fails(capsys, "fit --data.broken true", "error: 'a.jpg' is not an image. Remove it.")


def test_an_error_of_a_data_worker_loses_its_traceback():
    # DataLoader treats the exception of a worker like this; its shutdown would then take five seconds more.
    try:
        Broken()[0]
    except InputError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(InputError, match="Traceback") as caught:
        wrapped.reraise()
    assert user_message(caught.value) == "'a.jpg' is not an image. Remove it."


def test_errors_are_found_among_the_causes_and_faults_are_not_hidden():
    def chain(cause: Exception) -> Exception:
        try:
            raise RuntimeError from cause
        except RuntimeError as error:
            return error

    assert user_message(chain(InputError("bad file"))) == "bad file"
    assert user_message(MisconfigurationException("no loader")) == "no loader"
    assert user_message(chain(KeyError("x"))) is None


@pytest.mark.slow
def test_bad_data_in_a_worker_are_told_without_a_traceback(here, capsys):
    fails(capsys, "fit --data.broken true --data.workers 1", "error: 'a.jpg' is not an image. Remove it.")


def test_the_traceback_can_be_asked_for(here, monkeypatch):
    monkeypatch.setenv("EFFDENSE_DEBUG", "1")
    with pytest.raises(InputError, match="no command"):
        main([])


def test_an_interruption_says_how_to_go_on(here, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.cli.effdense_cli, "claim_run", interrupt)
    assert main(["fit"]) == 130
    assert "--ckpt_path last" in capsys.readouterr().err


def test_help_and_the_printed_configuration(here, capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 40
    assert all(name in shown for name in ("fit", "validate", "predict"))
    assert main(["fit", "--print_config", "--model.width", "9"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["width"] == 9
    assert config["ema"]["decay"] == 0.9998
