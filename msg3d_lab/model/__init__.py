"""MS-G3D: its layers, the network and its checkpoints."""

from msg3d_lab.model.block import STGCBlock
from msg3d_lab.model.checkpoints import convert, load_model, save_model
from msg3d_lab.model.fused import fuse
from msg3d_lab.model.g3d import G3D, MultiWindowG3D
from msg3d_lab.model.ms_gcn import MSGCN
from msg3d_lab.model.ms_tcn import MSTCN
from msg3d_lab.model.msg3d import MSG3D

__all__ = [
    "G3D",
    "MSG3D",
    "MSGCN",
    "MSTCN",
    "MultiWindowG3D",
    "STGCBlock",
    "convert",
    "fuse",
    "load_model",
    "save_model",
]
