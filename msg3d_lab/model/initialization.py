"""Initial weights as the published programs draw them."""

from __future__ import annotations

from typing import Literal

from torch import nn

from msg3d_lab.model.ms_tcn import MSTCN
from msg3d_lab.model.msg3d import MSG3D

Initialization = Literal["pytorch", "openmmlab", "pyskl"]
_FC_STD = 0.01


def initialize(net: MSG3D, kind: Initialization) -> None:
    """Draw a new network's weights again, where a published program does not leave them to PyTorch.

    - "pytorch" (the author's code): as they are.
    - "openmmlab" (mmaction2): the convolutions of every `MSTCN`, also those of its residual
      connection, are normal with standard deviation sqrt(2 / (output channels * kernel area))
      (Kaiming, fan out) and bias 0; the classifier is normal with 0.01 and bias 0.
    - "pyskl": the classifier only.

    mmaction2's branches have a first convolution each. Here those of a layer are one, `reduce`; its
    output channels are counted branch by branch.

    Args:
        net: the network; its weights change in place.
        kind: whose rule.

    Source: mmaction2 `projects/msg3d/models/msg3d_utils.py` (MSTCN) and
        `mmaction/models/heads/gcn_head.py`; pyskl `pyskl/models/heads/simple_head.py`.
    """
    if kind == "pytorch":
        return
    nn.init.normal_(net.fc.weight, std=_FC_STD)
    nn.init.zeros_(net.fc.bias)
    if kind == "pyskl":
        return
    for layer in net.modules():
        if not isinstance(layer, MSTCN):
            continue
        for conv in layer.modules():
            if isinstance(conv, nn.Conv2d):
                own = layer.width if conv is layer.reduce.conv else conv.out_channels
                area = conv.kernel_size[0] * conv.kernel_size[1]
                nn.init.normal_(conv.weight, std=(2 / (own * area)) ** 0.5)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
