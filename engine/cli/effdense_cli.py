"""The command line of a task: LightningCLI with short errors, own run folders and settings from checkpoints."""

from __future__ import annotations

import logging
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from engine.cli.early import prepare
from engine.cli.given.callbacks import ADDITIONS
from engine.cli.given.recipe import with_recipe
from engine.cli.help import RECIPE
from engine.cli.parser import ShortErrorParser, trainer_fault, user_message
from engine.cli.runs import (
    Progress,
    RandomState,
    Run,
    SaveRun,
    check_counts,
    claim_run,
    keep_metrics,
    run_folder,
)
from engine.data.module import SplitData
from engine.distributed import is_first_process
from engine.errors import InputError
from engine.exports.files import Runtime, check_untrained, is_exported, open_exported
from engine.hardware.devices import check_devices
from engine.hardware.precision import chosen_precision
from engine.logging.loggers import make_loggers, make_own
from engine.logging.pictures import run_pictures
from engine.recipes.rules import GivenRecipe
from engine.settings import refuse_conflicts, without
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import checkpoint_of_run, given_path
from engine.training.checkpoints import Checkpoint, read_checkpoint
from engine.training.claims import Claim
from engine.training.keeping import BestCheckpoint, make_checkpointing
from engine.training.plugins import SyncBatchNorm
from engine.training.task import DenseTask
from engine.training.whole_files import WholeFiles

_Part = TypeVar("_Part")

# Messages that come at every run, or that are about things which this command line decides itself.
_NOISE = re.compile(
    "|".join(
        (
            "Tip: For seamless cloud",
            "TPU available|HPU available|IPU available",
            "Seed set to",
            "to estimate number of stepping batches",
            "`Trainer.fit` stopped: `max_(epochs|steps)=",
            "Restoring states from the checkpoint path",
            "Found current_model_state in the checkpoint",
            "args parameter is intended to run from within Python",
            "logs directory .* exists and is not empty",
            "Checkpoint directory .* exists and is not empty",
            "smaller than the logging interval",
            "Total length of `.*` across ranks is zero",
            r"could not find the monitored key in the returned metrics",
            "does not have many workers which may be a bottleneck",
            "This DataLoader will create",
            "callbacks used to create the checkpoint need to be provided",
            "LeafSpec",
            "model that overrides the configure_model callback",
            "in eval mode at the start of training",
        )
    )
)


class EffDenseCLI(LightningCLI):
    """LightningCLI for one task.

    Args:
        spec: The task.
        args: The command line after the program's name.
        program: How the program is called, such as `python -m detection`.
        started: Takes this object before the command runs, so that its claim can be given back after an error.
    """

    def __init__(
        self, spec: TaskSpec, args: Sequence[str], program: str, started: list[EffDenseCLI] | None = None
    ) -> None:
        if started is not None:
            started.append(self)
        self.spec = spec
        self.arguments = list(args)
        self.checkpoint: Checkpoint | None = None
        self.exported: Runtime | None = None
        self.folder: Path | None = None
        self.claim: Claim | None = None
        self.program = program
        prepared = prepare(spec, self.arguments)
        for note in prepared.notes:
            rank_zero_info(note)
        self.words, chosen = with_recipe(spec, prepared.words)
        for line in chosen:
            rank_zero_info(line)
        # argparse's own usage would list a hundred options before the help.
        usages = {name: {"usage": f"{program} {name} --config FILE --option value …"} for name in self.subcommands()}
        super().__init__(
            _class(spec.module, LightningModule),
            _class(spec.data, LightningDataModule),
            save_config_callback=SaveRun,
            trainer_class=_class(spec.trainer, Trainer),
            trainer_defaults=dict(spec.trainer_defaults),
            seed_everything_default=0,
            parser_kwargs={"allow_abbrev": False, "prog": self.program, "description": spec.title, **usages},
            parser_class=ShortErrorParser,
            args=self.words,
            auto_configure_optimizers=False,
            # Lightning's own metadata would override, silently, what the command line asks for.
            load_from_checkpoint_support=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # of this object's command line
        """The command that is asked for, as parsers take long, without the option that reads checkpoints unsafely."""
        every = LightningCLI.subcommands()
        return {name: {*every[name], "weights_only"} for name in ({*self.arguments[:1]} & every.keys() or every)}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed and the run's folder."""
        super().add_default_arguments_to_parser(parser)
        parser.add_class_arguments(Run, "run")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the groups of what may be added to a training, such as the weight averaging."""
        for name, addition in ADDITIONS.items():
            parser.add_lightning_class_args(_class(addition.path, Callback), name)
        parser.add_argument("--recipe", type=GivenRecipe, default=None, help=RECIPE)

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Leave Lightning's table of results out, as the task prints its own; `--verbose true` shows it."""
        super().setup_parser(*args, **kwargs)
        assert isinstance(self.parser, ShortErrorParser)
        assert self.parser.commands is not None
        for command in {"validate", "test"} & self.subcommands().keys():
            self.parser.commands.choices[command].set_defaults(verbose=False)

    def needs_checkpoint(self, command: str, settings: Namespace) -> bool:
        """Whether a command without --ckpt_path is refused, because its network would be untrained.

        Args:
            command: The command.
            settings: All settings of the command; pretrained weights take the place of a checkpoint.
        """
        return command in ("validate", "test", "predict") and settings["model"].get("pretrained") is None

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, find the checkpoint, and take the network's settings from it.

        Raises:
            InputError: the command line or the checkpoint is wrong, or a setting contradicts the checkpoint.
        """
        super().parse_arguments(parser, args)
        command = self.config["subcommand"]
        settings = self.config[command]
        for group in ("trainer", "model", "data", "run"):
            if not isinstance(settings.get(group), Namespace):
                msg = f"{group} is '{settings.get(group)}', but is a group. Give its options below it: {group}: {{…}}."
                raise InputError(msg)
        check_counts(settings)
        given = settings.get("ckpt_path")
        if given is None:
            if self.needs_checkpoint(command, settings):
                msg = f"{command} needs trained weights. Give --ckpt_path FILE, or --ckpt_path best of the latest run."
                raise InputError(msg)
            return
        if given in ("best", "last"):
            run = Run(**settings["run"].as_dict())
            given = checkpoint_of_run(run.root, self.spec.name, run.name, given, self.spec.monitor_mode)
        path = given_path(given, fitting=command == "fit")
        model, first = self._exported_model(path, command) if is_exported(path) else self._stored_model(path)
        asked = parser.parse_args(self.words, defaults=False)[command].get("model")
        asked = asked.as_dict() if isinstance(asked, Namespace) else asked
        names = [*self.spec.checkpoint_args, *(self.spec.resume_args if command == "fit" else ())]
        stored = {name: model[name] for name in names if name in model}
        refuse_conflicts(asked, stored, path)
        shaping = {name: model[name] for name in self.spec.answer_args if name in model}
        taken = {**stored, **without(shaping, asked), **first}
        restored = None if self.checkpoint is None else str(path)
        self.config = parser.parse_object({command: {"model": taken, "ckpt_path": restored}}, self.config)

    def _parse_ckpt_path(self) -> None:
        """Leave out that Lightning reads the whole checkpoint again, for its hyper-parameters, which are not used."""

    def _stored_model(self, path: Path) -> tuple[Mapping[str, object], dict[str, object]]:
        """The settings of a checkpoint's network, which Lightning restores."""
        self.checkpoint = read_checkpoint(path, self.spec.name)
        return self.checkpoint.model, {}

    def _exported_model(self, path: Path, command: str) -> tuple[Mapping[str, object], dict[str, object]]:
        """The settings of the network in a file of another runtime, which the task opens as its pretrained one.

        Raises:
            InputError: a training is asked for, or the file is none of this task.
        """
        check_untrained(str(path), fitting=command == "fit")
        self.exported = open_exported(path, self.spec.name)  # kept, so that the task need not open it again
        return self.exported.about.model, {"pretrained": str(path)}

    def instantiate_classes(self) -> None:
        """Make the trainer, the task and the data; the task is told whether a checkpoint replaces its first weights."""
        super().instantiate_classes()
        if isinstance(self.model, DenseTask):
            # Lightning's trainer knows it only when the network is built already.
            self.model.restores = self.checkpoint is not None

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Build the trainer; a training also gets its run folder, loggers, learning-rate log and checkpoints.

        Raises:
            InputError: the trainer refuses its settings.
        """
        settings = self.config_init[self.subcommand]["trainer"]
        check_devices(settings["accelerator"], settings["devices"])
        callbacks = settings["callbacks"] or []
        callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]
        if settings["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(Progress())
        if self.subcommand == "fit" and not settings["fast_dev_run"]:
            self.folder = folder = self._run_folder()
            keep_metrics(folder)
            self.save_config_kwargs = {"folder": folder, "program": self.program, "arguments": self.arguments}
            callbacks.append(RandomState())
            if make_own(self._run().log, settings["logger"]):
                kwargs["logger"] = make_loggers(self._run().log, folder, self.spec.name)
            if settings["logger"] is not False:
                callbacks.append(LearningRateMonitor(logging_interval="step"))
            if settings["enable_checkpointing"] is not False:
                validated = settings["limit_val_batches"] != 0 and self._has_validation()
                if not validated:
                    rank_zero_info(
                        "there is no validation, so no checkpoint is the best: use --ckpt_path last, or give a "
                        "validation set."
                    )
                monitor, mode = self.spec.monitor, self.spec.monitor_mode
                callbacks += make_checkpointing(folder, monitor, mode, validated, self._save_steps())
        else:
            self.save_config_callback = None
            kwargs.setdefault("enable_checkpointing", False)
            kwargs.setdefault("logger", settings["logger"] or False)
        if settings["enable_model_summary"] is None:
            # Lightning's summary would be one row with empty columns; the task says in one line what it trains.
            kwargs["enable_model_summary"] = False
        if self._run().pictures and not settings["fast_dev_run"] and self.subcommand != "predict":
            callbacks += run_pictures(self.spec, self.folder, self.checkpoint.path if self.checkpoint else None)
        kwargs["precision"], note = chosen_precision(
            settings["precision"], settings["accelerator"], training=self.subcommand == "fit"
        )
        if note is not None:
            rank_zero_info(note)
        plugins = settings["plugins"] or []
        plugins = list(plugins) if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(WholeFiles())
        if settings["sync_batchnorm"]:
            plugins.append(SyncBatchNorm())
        kwargs["plugins"] = plugins
        try:
            return super().instantiate_trainer(**kwargs, callbacks=callbacks)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise InputError(trainer_fault(error)) from error

    def _has_validation(self) -> bool:
        return not isinstance(self.datamodule, SplitData) or self.datamodule.has("val")

    def after_fit(self) -> None:
        """Say where the results are, or that there was nothing left to do."""
        if isinstance(self.model, DenseTask) and not self.model.began:
            done = "all epochs of this training are done" if self.checkpoint else "there is nothing to train"
            rank_zero_info(
                f"{done}: trainer.max_epochs is {self.trainer.max_epochs}, max_steps {self.trainer.max_steps}. Give a "
                "larger --trainer.max_epochs to go on."
            )
            return
        if self.folder is not None:
            kept = [c for c in self.trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)]
            best = kept[0].best_model_path if kept else ""
            what = f"; best checkpoint: {os.path.relpath(best)}" if best else ""
            rank_zero_info(f"Results are in {self.folder}{what}")

    def _run(self) -> Run:
        return Run(**self.config[self.subcommand]["run"].as_dict())

    def _save_steps(self) -> int | None:
        steps = self._run().save_steps
        if steps is not None and not self.spec.resumes_within_epochs:
            msg = (
                f"run.save_steps is {steps}, but a training of {self.spec.name} can only be resumed from the end of an "
                "epoch. Leave it out."
            )
            raise InputError(msg)
        return steps

    def _run_folder(self) -> Path:
        resumed = self.checkpoint.path if self.checkpoint else None
        if not is_first_process():  # the first process tells the others where checkpoints are
            return run_folder(self._run(), self.spec.name, resumed)
        self.claim = claim_run(self._run(), self.spec.name, resumed)
        return self.claim.folder


def _class(path: str, base: type[_Part]) -> type[_Part]:
    """The class that a spec names by its import path."""
    found = pkgutil.resolve_name(path)
    if not isinstance(found, type) or not issubclass(found, base):
        msg = f"{path} is no {base.__name__}"
        raise TypeError(msg)
    return found


class _NoNoise(logging.Filter):
    """Drops the records that match `_NOISE`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _NOISE.search(record.getMessage())


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out the messages of Lightning and its helpers that come at every run and that no user can act on."""
    noise = _NoNoise()
    handlers = [h for name in ("lightning", "lightning.pytorch", "lightning.fabric") for h in _handlers(name)]
    for handler in handlers:
        handler.addFilter(noise)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f"(?s).*({_NOISE.pattern})")
            # Lightning 2.6 calls functions that jsonargparse 5 will drop; pyproject.toml keeps jsonargparse below 5.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(noise)


def _handlers(logger: str) -> list[logging.Handler]:
    return logging.getLogger(logger).handlers


def run_cli(spec: TaskSpec, argv: Sequence[str], program: str, started: list[EffDenseCLI] | None = None) -> int:
    """Run a command of a task's trainer, and print an error of the user as one message on stderr.

    Args:
        spec: The task.
        argv: The command and its options.
        program: How the program is called, such as `python -m detection`.
        started: Takes the command line's object, which holds the task and its data after the command.

    Returns:
        The exit status: 0, 2 after a wrong input, 130 after an interruption.
    """
    started = [] if started is None else started
    try:
        with quiet():
            EffDenseCLI(spec, argv, program, started)
    except SystemExit as leaving:
        # Lightning exits in this way after an interrupted training.
        if isinstance(leaving.__context__, KeyboardInterrupt):
            return _interrupted()
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        message = user_message(error)
        if message is None or os.environ.get("EFFDENSE_DEBUG") == "1":
            raise
        sys.stderr.write(f"error: {message}\n")
        return 2
    finally:
        for cli in started:
            if cli.claim is not None:
                cli.claim.release()
    return 0


def _interrupted() -> int:
    sys.stderr.write("interrupted; resume a training with --ckpt_path last\n")
    return 130
