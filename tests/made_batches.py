"""Training and test batches of a store, with everything as keywords."""

from msg3d_lab.data.batches.assemble import Assembler
from msg3d_lab.data.batches.loader import TestBatches, TrainBatches


def _assembler(store, options):
    names = ("stream", "clip_len", "num_persons", "sampling", "rescale", "bone_scores")
    return Assembler(store, **{name: options.pop(name) for name in names if name in options})


def train_batches(store, indices, **options):
    return TrainBatches(_assembler(store, options), indices, **options)


def clips_to_test(store, indices, **options):
    return TestBatches(_assembler(store, options), indices, **options)
