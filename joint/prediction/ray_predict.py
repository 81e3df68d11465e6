"""Prediction over millions of images with Ray Data: `joint.prediction.predictor` in a pool of workers.

Ray gives images out as fast as workers take them, starts a killed worker again and repeats its images. The process
that the user started records the finished images, each once, so that a rerun does what is left. Workers write masks and
pictures themselves: all machines see images and output under the same paths. Images that failed are tried once more,
one by one, so that an image that kills its worker does not make others fail.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from detection.data.classes import BoxClasses
from detection.network.postprocess import Postprocess
from detection.prediction.predictor import DEFAULT_SCORE
from engine.checked import checked
from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError, OutputError
from engine.numbers import NonNegativeFloat, PositiveFloat, PositiveInt
from engine.prediction.canvas import CanvasPolicy, canvas_limit, canvas_words
from engine.prediction.failures import FAILED_NAME, failure_message
from engine.prediction.results import ResultFolder, write_source
from engine.prediction.sources import IMAGE, SourceFile, find_sources
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import read_checkpoint
from joint.prediction.found import JointFound
from joint.prediction.predictor import load
from joint.prediction.results import JointResults, settings_of
from joint.spec import SPEC
from segmentation.data.classes import MaskClasses

_BATCHES_PER_PIECE = 8  # a piece of work is repeated as a whole if its worker dies
_MOST_LOST = 200  # lost pieces before the run stops, as so many cannot come from single images
_RETRIES = 2  # of a piece: an image that kills its worker each time must not be tried for ever


@dataclass(frozen=True)
class Summary:
    """The outcome of a run.

    Attributes:
        images: number of all images that the source names.
        done: number of images that this run finished.
        failed: paths of the images that failed, with the reasons.
    """

    images: int
    done: int
    failed: dict[str, str]


@dataclass(frozen=True)
class Job:
    """The instructions for a worker, which are sent to other machines.

    Attributes:
        checkpoint: path of the checkpoint.
        folder: the output folder.
        results: the answers that are asked for, and the files to write.
        limit_hw: height and width of the full canvas.
        canvas: the canvas policy, `full` or `tight`.
        postprocess: the settings of the detector.
        device: the device of the network.
        torch_threads: threads of its computation on a CPU.
    """

    checkpoint: str
    folder: str
    results: JointResults
    limit_hw: tuple[int, int]
    canvas: CanvasPolicy
    postprocess: Postprocess
    device: str
    torch_threads: int


@dataclass(frozen=True)
class Pool:
    """How work is divided among workers.

    Attributes:
        workers: number of workers.
        gpus: GPUs for each worker.
        cpus: CPUs for each worker.
        threads: batches that each worker works on at a time.
        batch_size: images of a batch.
        alone: whether each image is a piece of its own, and each worker works on one image at a time.
    """

    workers: int
    gpus: float
    cpus: float
    threads: int
    batch_size: int
    alone: bool = False


class Worker:
    """Reads, computes and writes images; several threads may call it, but only one computes at a time."""

    def __init__(self, job: Job) -> None:
        import torch

        torch.set_num_threads(job.torch_threads)
        self.job = job
        self.predictor = load(job.checkpoint, job.device).with_settings(
            postprocess=job.postprocess, score_threshold=job.postprocess.score_threshold, canvas=job.canvas,
            image_size=job.limit_hw, detect=job.results.detect, segment=job.results.segment,
        )  # fmt: skip
        self._computing = Lock()

    def __call__(self, batch: dict[str, npt.NDArray[np.object_]]) -> dict[str, npt.NDArray[np.object_]]:
        """A line of JSON for each image: its record, the reason why it failed, or the reason why all images will fail.

        Args:
            batch: `path`, the path of each image, and `outputs`, its files as JSON.
        """
        sources = [os.path.abspath(path) for path in batch["path"].tolist()]
        try:
            entries = self._entries(
                sources, [list(map(Path, json.loads(names))) for names in batch["outputs"].tolist()]
            )
        except OutputError as error:  # a full disk, say
            entries = [{"source": source, "stop": str(error)} for source in sources]
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            entries = [{"source": source, "error": reason} for source in sources]
        return {"line": np.array([json.dumps(entry) for entry in entries], dtype=object)}

    def _entries(self, sources: Sequence[str], outputs: Sequence[Sequence[Path]]) -> list[dict[str, object]]:
        folder, results = Path(self.job.folder), self.job.results
        entries: list[dict[str, object]] = []
        images, places = [], []
        for place, source in enumerate(sources):
            try:
                images.append(self.predictor.reader(source))
                places.append(place)
            except InputError as error:
                entries.append({"source": source, "error": str(error)})
        samples = [self.predictor.prepare(image) for image in images]
        with self._computing:
            answers = self.predictor.run(samples)
        for place, image, answer in zip(places, images, answers, strict=True):
            file = SourceFile(Path(sources[place]), IMAGE)
            entries.append(write_source(folder, file, outputs[place], results, image, answer).entry())
        return entries


@checked
def predict_folder(
    ckpt_path: str,
    source: str | list[str],
    output: str = "predictions",
    score_threshold: float = DEFAULT_SCORE,
    canvas: CanvasPolicy = "full",
    image_size: int | None = None,
    detect: bool = True,
    segment: bool = True,
    pictures: bool = True,
    overwrite: bool = False,
    workers: PositiveInt | None = None,
    gpus: NonNegativeFloat | None = None,
    cpus: PositiveFloat = 1,
    threads: PositiveInt = 2,
    batch_size: PositiveInt = 4,
    address: str | None = None,
    progress: bool = True,
) -> Summary:
    """Find objects and classes of pixels in any number of images, on one machine or a Ray cluster.

    Images that are finished in the output folder are not done again.

    Args:
        ckpt_path: checkpoint, or `best` / `last` of the latest run.
        source: image, folder or glob, or a list of them.
        output: folder for the results.
        score_threshold: keep detections above this score.
        canvas: `full` computes every image on the canvas of training and validation; `tight` on one no larger than the
            image needs, which is faster.
        image_size: side of a square canvas in pixels; null takes the canvas that the detector was made for.
        detect: find objects.
        segment: find the classes of pixels.
        pictures: draw pictures with boxes over the colours of the classes.
        overwrite: start over in a folder that holds results of other settings.
        workers: number of workers; null takes one for each GPU of the cluster, or for each CPU if it has no GPU.
        gpus: share of a GPU for each worker; null takes 1 if the cluster has GPUs, else 0.
        cpus: CPUs for each worker.
        threads: batches that a worker works on at a time: it reads and writes one while it computes another.
        batch_size: images computed together.
        address: address of a running Ray cluster; null takes RAY_ADDRESS, a cluster that this machine is part of, or
            else this machine alone.
        progress: show a progress bar.
    """
    if not detect and not segment:
        msg = "neither objects nor classes of pixels are asked for. Leave --detect or --segment out."
        raise InputError(msg)
    checkpoint_path = _checkpoint(ckpt_path)
    model = read_checkpoint(checkpoint_path, "joint").model
    limit_hw = canvas_limit(tuple(model["detector"]["architecture"]["image_size"]), image_size)
    postprocess = replace(Postprocess(), score_threshold=score_threshold)
    boxes, masks = (model[part]["classes"] for part in ("detector", "segmenter"))
    results = JointResults(BoxClasses.from_dict(boxes), MaskClasses.from_dict(masks), detect, segment, pictures)
    settings = settings_of(checkpoint_path, canvas_words(limit_hw, canvas), postprocess, results)
    folder = ResultFolder(output, find_sources(source), results, settings, overwrite=overwrite, searched=source)
    if not folder.left:
        folder.failures.clear()
        if not folder.has_tables:
            folder.write_tables()
        return Summary(len(folder.sources), 0, {})
    folder.begin()
    ray = _start(address)
    gpus = float(ray.cluster_resources().get("GPU", 0) >= 1) if gpus is None else gpus
    job = Job(
        os.path.abspath(checkpoint_path), os.path.abspath(folder.path), results, limit_hw, canvas, postprocess,
        "cuda" if gpus else "cpu", max(1, int(cpus)),
    )  # fmt: skip
    pool = Pool(workers or _workers(ray, gpus, cpus), gpus, cpus, threads, batch_size)
    try:
        return _work(folder, job, pool, progress=progress)
    finally:
        folder.write_tables()


def _checkpoint(given: str) -> str:
    return str(found_source(given, "joint"))


def _start(address: str | None) -> Any:
    """The `ray` package, connected to a cluster.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to the makers of Ray, unless the user wants it
    try:
        import ray
        import ray.data
    except ImportError as error:
        msg = "Ray is not installed. Run: pip install 'effdense[ray]'"
        raise InputError(msg) from error
    if not ray.is_initialized():
        try:
            # Ray puts the working folder first on the path of its workers; it may hold a `detection/` of the user's.
            with contextlib.chdir(Path(__file__).parents[2]):
                ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            given = address or os.environ.get("RAY_ADDRESS") or "this machine"
            reason = " ".join(str(error).split())[:200]
            msg = f"cannot start Ray on {given}: {reason}. Give the --address of a running cluster, or leave it out."
            raise InputError(msg) from error
    return ray


def _workers(ray: Any, gpus: float, cpus: float) -> int:
    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1) / cpus))


def _work(folder: ResultFolder[JointFound], job: Job, pool: Pool, *, progress: bool) -> Summary:
    """Do the images that are left, try failed ones once more, one by one, and record each as finished or failed."""
    from tqdm import tqdm

    items = {
        os.path.abspath(folder.sources[index].path): json.dumps([path.as_posix() for path in folder.outputs[index]])
        for index in folder.left
    }
    reasons: dict[str, str] = {}
    with tqdm(total=len(items), unit="image", disable=None if progress else True) as bar:
        for turn in (pool, replace(pool, threads=1, batch_size=1, alone=True)):
            for entry in _entries(_lines(items, job, turn) if items else ()):
                source = entry["source"]
                if source not in items:  # images that a killed worker had already reported are reported again
                    continue
                if "error" in entry:
                    reasons[source] = entry["error"]
                    continue
                folder.journal.manifest.add(entry)
                del items[source]
                bar.update()
    failed = {source: reasons.get(source, f"it killed its worker {_RETRIES + 1} times.") for source in sorted(items)}
    for source, reason in failed.items():
        folder.failures.add(source, reason)
    return Summary(len(folder.sources), len(folder.left) - len(failed), failed)


def _entries(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The entries that the workers report.

    Raises:
        InputError: no image can be done, or Ray stops.
    """
    try:
        for line in lines:
            entry = json.loads(line)
            if "stop" in entry:
                raise InputError(entry["stop"])
            yield entry
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()
        msg = f"Ray stopped: {reason[0]} {reason[-1] if len(reason) > 1 else ''}".rstrip()
        raise InputError(msg) from error


def _lines(items: Mapping[str, str], job: Job, pool: Pool) -> Iterator[str]:
    """The lines that the workers report for the images, in any order.

    Args:
        items: paths of images with their files as JSON.
        job: the instructions for workers.
        pool: how work is divided among workers.
    """
    import ray.data

    count, at_least = len(items), 4 * pool.workers * pool.threads
    pieces = max(math.ceil(count / (_BATCHES_PER_PIECE * pool.batch_size)), min(count, at_least))
    pieces = count if pool.alone else pieces
    rows = [{"path": path, "outputs": outputs} for path, outputs in items.items()]
    dataset = ray.data.from_items(rows, override_num_blocks=pieces)
    # Ray's messages about lost pieces are not needed: the summary lists them.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    dataset.context.enable_progress_bars = False
    dataset.context.max_errored_blocks = _MOST_LOST
    with warnings.catch_warnings():
        # From 2.64 on, Ray will accept no number of retries; pyproject.toml keeps it below that version.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        answers = dataset.map_batches(
            Worker,
            fn_constructor_args=(job,),
            batch_size=pool.batch_size,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(
                size=min(pool.workers, pieces),
                max_tasks_in_flight_per_actor=1 if pool.alone else pool.threads + 1,
                max_concurrent_calls_per_actor=pool.threads,
                enable_true_multi_threading=pool.threads > 1,
            ),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
    return (str(row["line"]) for row in answers.iter_rows())


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run; returns 2 after one short line of error, or if an image failed, else 0."""

    def act() -> None:
        arguments = parse_function(predict_folder, f"{program('joint')} ray", argv, __doc__, renamed=SPEC.renamed)
        summary = predict_folder(**arguments)
        output, before = arguments["output"], summary.images - summary.done - len(summary.failed)
        sys.stdout.write(f"{summary.done} images done, {before} were finished before: {output}\n")
        if summary.failed:
            raise InputError(failure_message(summary.failed, summary.images, Path(output, FAILED_NAME)))

    return run_command(act)
