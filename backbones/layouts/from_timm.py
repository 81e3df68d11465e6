"""timm's own layout, which is also this project's: `conv_stem.weight`, `blocks.{stage}.{block}.conv_pw.weight`."""

from __future__ import annotations

from backbones.layouts.layout import Layout
from backbones.layouts.members import Member


class _Timm(Layout):
    def keys(self, member: Member) -> dict[str, str]:
        return {key: key for key in member.shapes}


# `efficientnet_b0` and `tf_efficientnet_b0` have the same keys and shapes, so these do not tell the padding.
TIMM = _Timm("timm", stem="conv_stem.weight", block="blocks.{number}.{index}.")
