"""Data sets: imported once into a store, read as batches of clips.

Arrow and pandas are loaded when they are needed, not when these modules are imported.
"""

from msg3d_lab.data.batches.augment import Augment
from msg3d_lab.data.batches.loader import TestBatches, TrainBatches
from msg3d_lab.data.batches.sampling import uniform_sample
from msg3d_lab.data.batches.streams import make_stream
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.ntu.raw import read_ntu_skeleton
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.preprocess import prepare_3d
from msg3d_lab.data.store import Store, open_store, write_store
from msg3d_lab.data.synthetic.dataset import load_synthetic

__all__ = [
    "Augment",
    "Clip",
    "LeftOut",
    "Store",
    "TestBatches",
    "TrainBatches",
    "import_dataset",
    "load_synthetic",
    "make_stream",
    "open_store",
    "prepare_3d",
    "read_ntu_skeleton",
    "uniform_sample",
    "write_store",
]
