"""Recordings: imported once into a store, read as batches.

Importing this package loads NumPy, not torch, pandas or Arrow.
"""

from msg3d_lab.data.clips import Clip
from msg3d_lab.data.importing import import_dataset
from msg3d_lab.data.loader import TestBatches, TrainBatches
from msg3d_lab.data.preprocess import prepare_3d
from msg3d_lab.data.sampling import uniform_sample
from msg3d_lab.data.store import Store, open_store, write_store
from msg3d_lab.data.streams import make_stream
from msg3d_lab.data.synthetic import load_synthetic

__all__ = [
    "Clip",
    "Store",
    "TestBatches",
    "TrainBatches",
    "import_dataset",
    "load_synthetic",
    "make_stream",
    "open_store",
    "prepare_3d",
    "uniform_sample",
    "write_store",
]
