"""Made-up recordings: own tables, arrays and labels, and tracks of raw NTU files."""

import numpy as np
import pandas as pd

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.ntu.bodies import Track
from msg3d_lab.data.formats.own import recordings as own_data
from msg3d_lab.data.formats.own.options import OwnData

NAMES = ("hip", "chest", "left hand", "right hand")
MINE = Dataset("mine", title="mine", layouts=(), label_names=(), protocols=())
ID = 72057594037931101  # of a body, above 2^53: as float64 it would be ...104


def read_clips(source, **options):
    return own_data.read_clips([source], dataset=MINE, own=OwnData(**options))


def rows(sample, keypoints, axes=("x", "y", "z"), *, persons=None, joints=NAMES, start=0):
    """A frame of rows, one for each joint that is not all zeros."""
    table = []
    for m, t, v in np.argwhere(keypoints.any(axis=-1)):
        row = {"sample": sample, "frame": t + start, "person": m if persons is None else persons[m]}
        row |= {"joint": joints[v]} | dict(zip(axes, keypoints[m, t, v], strict=True))
        table.append(row)
    return pd.DataFrame(table)


def body(persons=1, frames=3, channels=3, seed=0, V=4):
    shape = (persons, frames, V, channels)
    return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)


def write_labels(path, **samples):
    """sample=label, or sample="label,splits,subject"."""
    lines = [
        f"{name},{value}{',' * (2 - str(value).count(','))}" for name, value in samples.items()
    ]
    path.write_text("\n".join(["sample,label,splits,subject", *lines]) + "\n")
    return path


def clips(found):
    return [clip for clip in found.clips if isinstance(clip, Clip)]


def left_out(found):
    return [(c.id, c.reason) for c in found.clips if isinstance(c, LeftOut)]


def recording(num_frames=6, bodies=2, seed=0):
    """Tracks of everybody in every frame but the third, where nobody is."""
    rng = np.random.default_rng(seed)
    frames = np.delete(np.arange(num_frames), 2)
    return [
        Track(
            ID + place,
            frames,
            np.full(len(frames), place),
            # Tall enough for a standing person.
            rng.uniform([-0.4, -1, 2], [0.4, 1, 4], (len(frames), 25, 3)).round(7),
        )
        for place in range(bodies)
    ], num_frames
