"""A model card: the README of a shared network, with the metadata that a model hub reads.

The metadata are those of the hub's documentation (huggingface.co/docs/hub/model-cards#model-card-metadata), the scores
those of its model index. Every number comes from the run or the network; what is not known is said to be so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import yaml

from engine.sharing.run import RunFacts
from engine.tasks import TaskSpec

LIBRARY = "effdense"
_MOST_CLASSES = 100
# Settings of a network, or of its parts, that say what it is in a few words; config.json has them all.
_TELLING = ("member", "head", "norms", "backbone", "image_size", "output_stride")
_UNSAFE = re.compile(r"([\\`*_\[\]<>|#])")


class Words(TypedDict, total=False):
    """What only the one who shares a network can say of it; each is a text, and None says nothing.

    Attributes:
        licence: its identifier on the hub, such as apache-2.0.
        data: what it was trained on, in place of the names of the run's files.
        intended_use: what it is for.
        limits: what it is not for, and where it is known to be wrong.
    """

    licence: str | None
    data: str | None
    intended_use: str | None
    limits: str | None


@dataclass(frozen=True, eq=False)
class Subject:
    """What a card is about.

    Attributes:
        name: its title.
        source: what `load` takes: an address of a hub, or the name of its folder.
        spec: its task.
        model: the network's settings.
        weights: how many numbers it has.
        versions: of the packages that it was written with.
        run: what its run tells; None without one.
        pictures: the pictures of its curves: names of files, each with what it shows.
    """

    name: str
    source: str
    spec: TaskSpec
    model: Mapping[str, object]
    weights: int
    versions: Mapping[str, str]
    run: RunFacts | None
    pictures: Mapping[str, str] = field(default_factory=dict)


def card(subject: Subject, words: Words) -> str:
    """The text of a card in Markdown, behind its metadata in YAML."""
    metadata = yaml.safe_dump(_metadata(subject, words), sort_keys=False, allow_unicode=True)
    parts = (
        f"# {_plain(subject.name)}",
        f"{_one_line(subject)}\n\n{_network(subject)}",
        f"## Use\n\n{_use(subject)}",
        f"## Intended use\n\n{words.get('intended_use') or _intended(subject)}",
        f"## Limits\n\n{words.get('limits') or _limits(subject)}",
        f"## Data\n\n{words.get('data') or _data(subject.run)}",
        f"## Recipe\n\n{_recipe(subject)}",
        f"## Scores\n\n{_scores(subject)}",
        f"## Licence\n\n{_licence(words)}",
    )
    return f"---\n{metadata}---\n\n" + "\n\n".join(parts) + "\n"


def class_names(model: object) -> list[str]:
    """The names of all classes in a network's settings, of its parts one after the other; rows without one are left."""
    if not isinstance(model, Mapping):
        return []
    found: list[str] = []
    for name, value in model.items():
        if name == "classes" and isinstance(value, Mapping) and isinstance(value.get("names"), list | tuple):
            found += [str(one) for one in value["names"] if one]
        else:
            found += class_names(value)
    return list(dict.fromkeys(found))


def _metadata(subject: Subject, words: Words) -> dict[str, object]:
    tags = subject.spec.hub_tags
    found: dict[str, object] = {"library_name": LIBRARY, "tags": [LIBRARY, *tags]}
    if tags:
        found["pipeline_tag"] = tags[0]
    if licence := words.get("licence"):
        found["license"] = licence
    run = subject.run
    if run is not None and run.scores and tags:
        data = words.get("data") or next(iter(run.data.values()), "not stated")
        metrics = [{"type": name, "value": value} for name, value in run.scores.items()]
        result = {"task": {"type": tags[0]}, "dataset": {"name": data, "type": "own"}, "metrics": metrics}
        found["model-index"] = [{"name": subject.name, "results": [result]}]
    return found


def _one_line(subject: Subject) -> str:
    names = class_names(subject.model)
    listed = ", ".join(map(_plain, names[:_MOST_CLASSES])) + ("" if len(names) <= _MOST_CLASSES else ", …")
    return (
        f"A {subject.spec.name} network of {len(names)} classes: {listed}."
        if names
        else f"A {subject.spec.name} network."
    )


def _network(subject: Subject) -> str:
    rows = {**dict(_telling(subject.model)), "weights": f"{subject.weights / 1e6:.2f} million numbers"}
    return _table(("Network", ""), rows)


def _telling(model: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in model.items():
        if name in _TELLING and value is not None and not isinstance(value, Mapping):
            yield f"{prefix}{name}", " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        elif isinstance(value, Mapping) and name != "classes":
            yield from _telling(value, prefix if name == "architecture" else f"{prefix}{name}.")


def _use(subject: Subject) -> str:
    task, source = subject.spec.name, subject.source
    hub = "[hub]" if source.startswith("hf://") else ""
    return (
        f"```\npip install 'effdense{hub}'\n"
        f"python -m {task} predict --ckpt_path {source} --source IMAGE|FOLDER --output predictions\n```\n\n"
        f"```python\nfrom {task} import load\n\nnetwork = load({source!r})\nfound = network.predict('image.jpg')\n"
        f"found.draw('image.jpg').save('found.jpg')\n```\n\n"
        f"A training begins with it by `--model.pretrained {source}`."
    )


def _intended(subject: Subject) -> str:
    return f"{subject.spec.name.capitalize()} of these classes in images like those that it was trained on (see Data)."


def _limits(subject: Subject) -> str:
    scored = "The scores below are those of one validation set" if _has_scores(subject) else "No scores are stated"
    return (
        f"{scored}; how it does on images of other cameras, places, seasons or sizes was not measured. Measure it on "
        f"images of your own with `python -m {subject.spec.name} validate` before anything depends on it. It was not "
        "examined for uses in which a mistake can harm people."
    )


def _data(run: RunFacts | None) -> str:
    return "Not stated." if run is None or not run.data else _table(("Option", "Value"), run.data)


def _recipe(subject: Subject) -> str:
    run, versions = subject.run, subject.versions
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    if run is None:
        return f"Not stated. Written with {_plain(made)}."
    commit = f", commit {run.commit[:12]}" if run.commit else ""
    curves = "".join(f"\n\n![{_plain(shown)}]({name})" for name, shown in subject.pictures.items())
    return f"{_table(('Option', 'Value'), run.recipe)}\n\nTrained with {_plain(made + commit)}.{curves}"


def _has_scores(subject: Subject) -> bool:
    return subject.run is not None and bool(subject.run.scores)


def _scores(subject: Subject) -> str:
    run = subject.run
    if run is None or not run.scores:
        return "Not stated."
    rows = {name: f"{value:.4f}" for name, value in run.scores.items()}
    return f"{_table(('Score', 'Value'), rows)}\n\nMeasured on the validation set of the run, by these weights."


def _licence(words: Words) -> str:
    return _plain(words.get("licence") or "") or "Not stated: ask the one who shared it before you use it."


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    lines = (f"| {_plain(name)} | {_plain(value)} |" for name, value in rows.items())
    return "\n".join((f"| {head[0]} | {head[1]} |", "|---|---|", *lines))


def _plain(text: str) -> str:
    """A text on one line in which nothing is markup."""
    return _UNSAFE.sub(r"\\\1", " ".join(text.split()))
