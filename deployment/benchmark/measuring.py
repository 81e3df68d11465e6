"""The whole measurement: networks, files, accuracy, rounds, report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from deployment.benchmark.accuracy import Data
from deployment.benchmark.candidates import Candidate, Precision, Runtime, Size, Subject, all_candidates
from deployment.benchmark.files import Wishes, bytes_of, file_of
from deployment.benchmark.members import cost_of, subjects_of
from deployment.benchmark.report import write_report
from deployment.benchmark.results import row_of
from deployment.benchmark.rounds import Journal, Workers, run_rounds, workers
from deployment.benchmark.worker import Order
from deployment.compare import patches
from deployment.running.inductor import is_asked
from engine.errors import InputError
from engine.hardware.machine import load, machine
from engine.outputs import atomic_path
from engine.prediction.sources import IMAGES, find_sources

FEW_BOXES, ALL_BOXES = 0.3, 0.001  # scores from which boxes are answers, and down to which AP is measured
_MADE_HW = (480, 640)  # the picture that is made where none is given


@dataclass(frozen=True)
class Plan:
    """What is asked for; see `deployment.benchmark.command.benchmark`."""

    output: Path
    ckpt_paths: tuple[str, ...]
    members: tuple[str, ...]
    image_sizes: tuple[Size, ...]
    batch_sizes: tuple[int, ...]
    runtimes: tuple[Runtime, ...]
    precisions: tuple[Precision, ...]
    threads: tuple[int, ...]
    picture: Path | None
    data: Data
    nms: Literal["inside", "outside"] | None
    score_threshold: float | None
    calibration: str | None
    rounds: int
    repeats: int
    overwrite: bool


def measure(plan: Plan, *, progress: bool = False) -> str:
    """Measure what is asked for, write the report and return it as text.

    A candidate that cannot be exported or computed is left out, and the report says why.

    Args:
        plan: what is asked for.
        progress: whether to show bars on a terminal.

    Raises:
        InputError: a file is missing or damaged, the folder holds another measurement, or no candidate can be measured.
    """
    plan.data.check()
    picture = _picture(plan)
    threads = plan.threads or (torch.get_num_threads(),)
    subjects = subjects_of(plan.ckpt_paths, plan.members)
    candidates = all_candidates(
        subjects, plan.runtimes or ("torch", "onnx"), plan.precisions or ("float32",), plan.image_sizes,
        plan.batch_sizes, threads,
    )  # fmt: skip
    check_used(plan, subjects, candidates)
    wishes = _wishes(plan)
    settings: dict[str, object] = {
        "machine": machine(),
        "picture": hashlib.sha256(picture.read_bytes()).hexdigest(),
        "nms": wishes.nms,
        "score_threshold": wishes.score_threshold,
    }
    if is_asked():
        settings["compile_int8"] = True
    journal = Journal(plan.output, settings, overwrite=plan.overwrite)
    failures: dict[str, str] = {}
    busy = load()
    orders = _orders(plan, candidates, wishes, picture, failures, progress)
    with workers() as pool:
        scores = _scores(plan, orders, journal, pool, failures, progress)
        run_rounds(
            orders, journal, pool, rounds=plan.rounds, repeats=plan.repeats, failures=failures, progress=progress
        )
    labels = {each.key: f"{each.label} threads {each.threads}" for each in candidates}
    left_out = {labels[key]: why for key, why in failures.items()}
    measured = journal.measured()
    ran = [order for order in orders if order.candidate.key in measured and order.candidate.key not in failures]
    if not ran:
        if not plan.rounds and len(orders) > len(failures):
            return f"{len(orders)} candidates are ready in '{plan.output}'; give --rounds to measure them."
        why = next(iter(left_out.values()), "rounds is 0")
        msg = f"none of {len(candidates)} candidates could be measured. Change what the first lacks: {why}"
        raise InputError(msg)
    rows = [
        row_of(
            order.candidate,
            measured[order.candidate.key],
            **_facts(order.candidate, journal),
            file_bytes=bytes_of(order.candidate, order.file),
            scores=scores.get(order.candidate.answers_key, {}),
        )
        for order in ran
    ]
    notes = [f"{plan.rounds} rounds in turns, {plan.repeats} runs each; picture '{picture.name}'"]
    if is_asked():
        notes.append(".pt2 files in int8 are compiled")
    if busy is not None and busy > 0.5:
        notes.append(f"the machine was busy: {busy:.1f} processes wanted to compute when the measurement began")
    return write_report(plan.output, rows, settings, left_out, notes)


def check_used(plan: Plan, subjects: Sequence[Subject], candidates: Sequence[Candidate]) -> None:
    """Do nothing if every option can apply to one of the networks.

    Args:
        plan: what is asked for.
        subjects: the networks.
        candidates: the rows of the table.

    Raises:
        InputError: one of them cannot apply to any.
    """
    boxes = {"detection", "joint"}
    trained = [each.task for each in subjects if each.kind != "member"]
    made = [each for each in candidates if each.subject.kind != "file"]
    exported = any(each.runtime != "torch" and each.subject.task in boxes for each in made)
    pixels = "trained network of pixels; untrained members have no mIoU"
    options = {
        "runtimes": (plan.runtimes, made, "network that is exported here; a file has its own"),
        "precisions": (plan.precisions, made, "network that is exported here; a file has its own"),
        "image_sizes": (plan.image_sizes, [each for each in subjects if each.fixed_hw is None], "file of open size"),
        "nms": (plan.nms, exported, "network with boxes that is exported here"),
        "score_threshold": (plan.score_threshold, boxes & {each.task for each in subjects}, "network with boxes"),
        "calibration": (plan.calibration, any(each.precision == "int8" for each in made), "file in int8 to export"),
        "annotations": (plan.data.annotations, boxes & {*trained}, "trained network with boxes; members have no AP"),
        "masks": (plan.data.masks, {"segmentation", "joint"} & {*trained}, pixels),
        "labels": (plan.data.labels, "classification" in trained, "trained classifier; members have no top-1"),
    }
    for name, (given, used, wanted) in options.items():
        if given not in (None, ()) and not used:
            msg = f"{name} is given, but there is no {wanted}. Leave it out."
            raise InputError(msg)


def _orders(
    plan: Plan,
    candidates: Sequence[Candidate],
    wishes: Wishes,
    picture: Path,
    failures: dict[str, str],
    progress: bool,
) -> list[Order]:
    from tqdm import tqdm

    orders = []
    for candidate in tqdm(candidates, desc="files", leave=False, disable=None if progress else True):
        try:
            file = file_of(candidate, plan.output / "files", wishes)
        except InputError as error:
            failures[candidate.key] = str(error)
            continue
        orders.append(Order(candidate, file, wishes.score_threshold, picture, plan.data))
    return orders


def _scores(
    plan: Plan,
    orders: Sequence[Order],
    journal: Journal,
    pool: Workers,
    failures: dict[str, str],
    progress: bool,
) -> dict[str, dict[str, float]]:
    """Accuracy by the candidates' `answers_key`; untrained networks have none."""
    from tqdm import tqdm

    found: dict[str, dict[str, float]] = {}
    for order in orders:
        candidate = order.candidate
        wanted = candidate.subject.kind != "member" and plan.data.fits(candidate.subject.task)
        if not wanted or candidate.answers_key in found:
            continue
        with tqdm(desc=candidate.label, unit="picture", leave=False, disable=None if progress else True) as bar:

            def compute() -> dict[str, float]:
                return pool.of(order)[0].scores(tell)  # noqa: B023  (called within the turn)

            def tell() -> None:
                bar.update()

            try:
                found[candidate.answers_key] = journal.kept("scores", f"{candidate.answers_key} {plan.data}", compute)
            except InputError as error:
                failures[candidate.key] = str(error)
                pool.drop(candidate)
    return found


def _facts(candidate: Candidate, journal: Journal) -> dict[str, int | None]:
    def compute() -> dict[str, float]:
        cost = cost_of(candidate.subject, candidate.size_hw)
        return {} if cost is None else {"parameters": cost.parameters, "macs": cost.macs}

    numbers = journal.kept("cost", candidate.network_key, compute)
    return {name: int(numbers[name]) if name in numbers else None for name in ("parameters", "macs")}


def _wishes(plan: Plan) -> Wishes:
    score = plan.score_threshold
    if score is None:
        score = FEW_BOXES if plan.data.annotations is None else ALL_BOXES
    images = () if plan.calibration is None else tuple(file.path for file in find_sources(plan.calibration, IMAGES))
    return Wishes(plan.nms or "inside", score, images)


def _picture(plan: Plan) -> Path:
    if plan.picture is not None:
        if not plan.picture.is_file():
            msg = f"there is no picture '{plan.picture}'. Give a photograph, or leave it out."
            raise InputError(msg)
        return plan.picture
    path = plan.output / "picture.jpg"
    if not path.is_file():
        pixels = patches(1, _MADE_HW)[0].permute(1, 2, 0).numpy()
        with atomic_path(path) as temporary:
            Image.fromarray(pixels).save(temporary, quality=90)
    return path
