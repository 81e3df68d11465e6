"""A network that is shared: what is written of it into a folder, and sent to a hub."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from engine.distillation.teachers import SETTINGS as LESSONS
from engine.hub.addresses import HubAddress
from engine.hub.folder import CARD, CONFIG, FORMAT, WEIGHTS, read_about
from engine.hub.remote import pushed
from engine.hub.weights import write_shared
from engine.reports.contents import Chart
from engine.sharing.card import Subject, Words, card
from engine.sharing.run import RunFacts, facts_of
from engine.tasks import TaskSpec
from engine.training.checkpoints import Checkpoint


@dataclass(frozen=True, eq=False)
class Shared:
    """A network with all that is told of it.

    Attributes:
        spec: its task.
        model: the settings that shape its answers, as plain values.
        state: its weights by the names that a checkpoint has.
        versions: of the packages that it was written with.
        run: what its run tells; None without one.
        licence: that is stated for it; empty without one.
    """

    spec: TaskSpec
    model: Mapping[str, object]
    state: Mapping[str, Tensor]
    versions: Mapping[str, str]
    run: RunFacts | None = None
    licence: str = ""

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, spec: TaskSpec) -> Shared:
        """The network of a checkpoint, or one that was shared before.

        Raises:
            InputError: the files of its run cannot be read.
        """
        licence = ""
        if checkpoint.path.is_dir():
            licence = str(read_about(checkpoint.path).get("licence") or "")
        model = shaping(checkpoint.model, spec)
        return cls(spec, model, checkpoint.state_dict, checkpoint.versions, facts_of(checkpoint, spec), licence)


def shaping(model: Mapping[str, object], spec: TaskSpec) -> dict[str, object]:
    """The settings that shape a network's answers; those of a training stay behind, and with them names of files."""
    names = [name for name in (*spec.checkpoint_args, *spec.answer_args) if name != LESSONS]
    return {name: model[name] for name in names if name in model}


def save(shared: Shared, folder: str | Path, words: Words, source: str | None = None) -> list[str]:
    """Write a network into a folder.

    Args:
        shared: the network.
        folder: where to; a network that was shared in it before is replaced.
        words: what only the one who shares it can say.
        source: what its card calls it; None is the folder's name.

    Returns:
        The names of the files.

    Raises:
        InputError: the folder has files of others, or cannot be written.
    """
    source = source or Path(folder).resolve().name
    words = {**words, "licence": words.get("licence") or shared.licence or None}
    charts = () if shared.run is None else shared.run.charts
    named = {f"training_{number}.png": chart for number, chart in enumerate(charts, 1)}
    subject = Subject(
        source.rpartition("/")[2], source, shared.spec, shared.model, sum(one.numel() for one in shared.state.values()),
        shared.versions, shared.run, {name: chart.title for name, chart in named.items()},
    )  # fmt: skip
    about: dict[str, object] = {
        "format": FORMAT, "task": shared.spec.name, "model": shared.model, "versions": shared.versions,
        "licence": words["licence"],
    }  # fmt: skip
    texts: dict[str, str | bytes] = {CARD: card(subject, words)}
    texts.update({name: _png(chart) for name, chart in named.items()})
    write_shared(folder, about, shared.state, texts)
    return [WEIGHTS, CONFIG, *texts]


def push(shared: Shared, address: HubAddress, words: Words, *, private: bool) -> str:
    """Send a network to a hub; returns the address of the commit.

    Raises:
        InputError: see `engine.hub.remote.pushed`.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = save(shared, folder, words, str(address))
        return pushed(address, Path(folder), names, private=private)


def _png(chart: Chart) -> bytes:
    from engine.analysis.figures import draw_chart  # which waits for matplotlib

    file = io.BytesIO()
    Image.fromarray(draw_chart(chart)).save(file, "PNG", optimize=True)
    return file.getvalue()
