"""What a prediction folder holds already: which sources are finished, made with which settings, and their areas."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.outputs import atomic_path, make_folder, write_json
from engine.prediction.manifest import Manifest
from segmentation.data.classes import MaskClasses
from segmentation.prediction.sources import JOURNAL_NAME

SETTINGS_NAME = "settings.json"
AREAS_NAME = "areas.csv"
AREA_COLUMNS = ("image", "class", "label_id", "pixels", "share", "area_m2")


@dataclass(frozen=True)
class Record:
    """One finished source.

    Attributes:
        source: absolute path.
        stamp: bytes and time of change (ns), by which a changed file is told.
        outputs: its files, relative to the folder.
        pixels: of each class, in the order of its rows.
        pixel_area_m2: square metres of a pixel, where a raster tells.
    """

    source: str
    stamp: tuple[int, int]
    outputs: tuple[str, ...]
    pixels: tuple[int, ...]
    pixel_area_m2: float | None = None


def stamp_of(path: Path) -> tuple[int, int]:
    """Bytes and time of change (ns) of a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


class Journal:
    """The finished sources of a folder: a line each, added as it is finished.

    Several processes may add at a time, and a line cut short by a crash only costs its source.

    Args:
        folder: made if it is missing.
        settings: plain values that decide what masks look like.
        outputs: files that will be written, relative to the folder.
        overwrite: whether to begin anew where the settings are others, or files are in the way.

    Raises:
        InputError: the folder cannot be written, has results of other settings, or files that `predict` did not
            write and would now.
    """

    def __init__(
        self, folder: str | Path, settings: Mapping[str, Any], outputs: Iterable[Path], *, overwrite: bool = False
    ) -> None:
        self.folder = make_folder(folder)
        self.settings = json.loads(json.dumps(settings))
        self.manifest = Manifest(self.folder / JOURNAL_NAME)
        self.classes: MaskClasses | None = None
        self._overwrite = overwrite
        known = self._read_settings()
        if overwrite:
            return
        if known is not None:
            self._refuse_others(known)
            return
        foreign = [path for path in outputs if (self.folder / path).exists()]
        if foreign:
            msg = (
                f"'{self.folder / foreign[0]}' would be replaced, and {len(foreign) - 1} more; they are none of "
                "predict's in this folder. Give another --output, or --overwrite true."
            )
            raise InputError(msg)

    def begin(self) -> None:
        """Write the settings, and the classes once they are known; one process does so, before any adds a line."""
        if self._overwrite:
            self.manifest.path.unlink(missing_ok=True)
        write_json(self.folder / SETTINGS_NAME, self.settings | {"classes": self.classes and self.classes.to_dict()})
        self.manifest.path.touch()

    def records(self) -> dict[str, Record]:
        """The finished sources, by absolute path."""
        found = {}
        for value in self.manifest.entries():
            try:
                record = Record(
                    value["source"], tuple(value["stamp"]), tuple(value["outputs"]), tuple(value["pixels"]),
                    value["pixel_area_m2"],
                )  # fmt: skip
            except (KeyError, TypeError):
                continue
            found[record.source] = record
        return found

    def finished(self, sources: Mapping[Path, Iterable[Path]]) -> set[Path]:
        """Those of the sources that need not be done again.

        Args:
            sources: each with the files it is to leave, relative to the folder.

        Raises:
            InputError: one would leave its files in the place of those of another source, such as `b/1.png` of those
                of `a/1.png`.
        """
        if self._overwrite:
            return set()
        records = self.records()
        owners = {output: record.source for record in records.values() for output in record.outputs}
        for path, wanted in sources.items():
            for output in (out.as_posix() for out in wanted):
                if owners.get(output, os.path.abspath(path)) != os.path.abspath(path):
                    msg = (
                        f"'{self.folder / output}' is the result of '{owners[output]}' and would be replaced by that "
                        f"of '{path}'. Give another --output, or --overwrite true."
                    )
                    raise InputError(msg)
        return {path for path, wanted in sources.items() if self._is_finished(records, path, wanted)}

    def _is_finished(self, records: Mapping[str, Record], path: Path, wanted: Iterable[Path]) -> bool:
        record = records.get(os.path.abspath(path))
        if record is None or record.stamp != stamp_of(path):
            return False
        return all(out.as_posix() in record.outputs and (self.folder / out).exists() for out in wanted)

    def add(self, record: Record) -> None:
        """Note a source as finished, after all of its files are written."""
        self.manifest.add(asdict(record))

    def write_areas(self) -> Path:
        """Write the table of all finished sources: a row for each class of each; returns its path."""
        assert self.classes is not None
        path = self.folder / AREAS_NAME
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(AREA_COLUMNS)
            for _, record in sorted(self.records().items()):
                total = max(1, sum(record.pixels))
                named = zip(self.classes.names, self.classes.label_ids, record.pixels, strict=True)
                area = record.pixel_area_m2
                source = Path(record.source)
                name = source.relative_to(Path.cwd()) if source.is_relative_to(Path.cwd()) else source
                for label, label_id, count in named:
                    square_metres = "" if area is None else f"{count * area:.2f}"
                    rows.writerow((name.as_posix(), label, label_id, count, f"{count / total:.6f}", square_metres))
        return path

    def _read_settings(self) -> dict[str, Any] | None:
        path = self.folder / SETTINGS_NAME
        if not path.exists():
            return None
        try:
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            stored = known.pop("classes", None)
            self.classes = MaskClasses.from_dict(stored) if stored else None
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            if self._overwrite:
                return None
            msg = f"'{path}' is not what predict wrote. Give another --output, or --overwrite true."
            raise InputError(msg) from error
        return known

    def _refuse_others(self, known: dict[str, Any]) -> None:
        own = self.settings
        other = [name for name in [*own, *known] if known.get(name) != own.get(name)]
        if other and self.records():
            name = other[0]
            given, there = (_shortened(values.get(name)) for values in (own, known))
            msg = (
                f"'{self.folder}' holds results of other settings: {name} was {there}, now {given}. "
                "Give another --output, or --overwrite true."
            )
            raise InputError(msg)


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
