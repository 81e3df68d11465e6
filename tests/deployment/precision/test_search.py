"""The search for the groups that stay in float, with files whose losses are known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest

from deployment.precision.guard import Report, guarded
from deployment.precision.layers import Group, Layer, Operation, group_name, groups_of, last_layers, layer_name
from deployment.precision.report import table
from engine.errors import InputError

NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")


class Fake:
    """A file of eight groups; those in int8 stand in it."""

    groups = tuple(
        Group(name, (Layer(f"{name}.0", (f"{name}0",)), Layer(f"{name}.1", (f"{name}1",)))) for name in NAMES
    )

    def __init__(self, moved: Mapping[str, float]) -> None:
        self.moved = moved
        self.written = 0

    def write(self, path: Path, floats: Collection[str]) -> None:
        self.written += 1
        path.write_text("".join(name for name in NAMES if f"{name}0" not in floats))

    def deviations(self, many: Sequence[Collection[str]]) -> list[float]:
        every = {name for group in self.groups for name in group.operations}
        return [
            sum(self.moved.get(name[0], 0.0) / (1 if name.endswith("0") else 3) for name in every - set(floats))
            for floats in many
        ]


def search(tmp_path: Path, losses: Mapping[str, float], deviations: Mapping[str, float]) -> tuple[Report, str, Fake]:
    """The report and the file; losses add up over sets of groups that are in int8 together."""
    source = Fake(deviations)
    path = tmp_path / "file"

    def measure(file: Path) -> dict[str, float]:
        text = file.read_text()
        return {"AP": 0.6 - sum(loss for names, loss in losses.items() if set(names) & set(text))}

    report = guarded(source, {"AP": 0.6}, measure, path, 0.01, lambda line: None)
    return report, path.read_text(), source


def test_nothing_is_kept_without_need(tmp_path):
    report, text, source = search(tmp_path, {"a": 0.004, "d": 0.005}, {})
    assert (report.kept, text, source.written) == ((), "abcdefgh", 1)


def test_the_group_that_hurts_is_kept(tmp_path):
    report, text, _ = search(tmp_path, {"c": 0.2}, {"c": 3.0, "a": 0.5})
    assert [(each.group, list(each.layers)) for each in report.kept] == [("c", ["c.0", "c.1"])]
    assert text == "abdefgh"
    assert report.kept[0].loss_without == pytest.approx(0.2)
    assert report.loss_of(report.whole) == pytest.approx(0.2)
    assert report.loss_of(report.scores) == pytest.approx(0)
    assert "1 of 8 groups of layers stay in float" in table(report)


def test_groups_that_only_hurt_together_are_both_kept(tmp_path):
    # A value between two layers is rounded as long as one of them is in int8.
    report, text, _ = search(tmp_path, {"bc": 0.3}, {"b": 1.0, "c": 0.9})
    assert [each.group for each in report.kept] == ["b", "c"]
    assert text == "adefgh"


def test_groups_that_were_suspected_wrongly_are_int8_again(tmp_path):
    report, text, _ = search(tmp_path, {"e": 0.1}, {"a": 5.0, "h": 4.0, "e": 3.0})
    assert [each.group for each in report.kept] == ["e"]
    assert text == "abcdfgh"


def test_a_bound_that_cannot_be_met(tmp_path):
    with pytest.raises(InputError, match=r"int8 loses 0\.1000 with 4 of 8 groups of layers in float; 0\.01 is allowed"):
        search(tmp_path, {"abcdefgh": 0.1}, {})


@pytest.mark.parametrize(
    ("weight", "layer", "group"),
    [
        ("network.backbone.conv_stem.weight", "backbone.conv_stem", "backbone.conv_stem"),
        ("network.backbone.blocks.1.0.se.conv_reduce.weight", "backbone.blocks.1.0.se.conv_reduce",
         "backbone.blocks.1.0"),
        ("network.fpn.cells.2.top_down.0.conv.pointwise.weight", "fpn.cells.2.top_down.0.conv.pointwise",
         "fpn.cells.2"),
        ("ConvMulFusion_W_ConvBnFusion_W_network.class_head.convs.1.pointwise.weight_token_5_token_47",
         "class_head.convs.1.pointwise", "class_head.convs.1"),
        ("network.box_head.predict.depthwise.weight", "box_head.predict.depthwise", "box_head.predict"),
        ("network.detector.box_head.predict.depthwise.weight", "detector.box_head.predict.depthwise",
         "detector.box_head.predict"),
    ],
)  # fmt: skip
def test_names(weight, layer, group):
    assert layer_name(weight) == layer
    assert group_name(layer) == group


def test_what_stands_before_and_after_the_layers_is_never_int8():
    graph = [
        Operation("mean", None, ("images",)),
        Operation("size", None, ("images",)),
        Operation("stem", "network.stem.conv.weight", ("mean",)),
        Operation("relu", None, ("stem",)),
        Operation("up", None, ("relu", "size")),
        Operation("first", "network.head.convs.0.weight", ("up",)),
        Operation("second", "network.head.convs.0.weight", ("relu",)),
        Operation("join", None, ("first", "second")),
        Operation("decode", None, ("join", "size")),
    ]
    groups = groups_of(graph)
    assert [(group.name, sorted(group.operations)) for group in groups] == [
        ("stem.conv", ["relu", "stem", "up"]),
        ("head.convs.0", ["first", "second"]),
    ]
    assert last_layers(graph) == ("first", "second")
