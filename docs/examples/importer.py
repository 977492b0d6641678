"""An importer of text files a1_s2.txt: a line per frame, x, y, z of 20 joints."""

import io

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings
from msg3d_lab.data.formats.zip_or_folder import (
    digest_members,
    has_members,
    list_members,
    read_member,
)
from msg3d_lab.data.preprocess import center_on

MOVES = Dataset(
    name="moves",
    title="Moves",
    layouts=("nw-ucla20",),
    label_names=("jump", "wave"),
    protocols=("xsub",),
)


def read_clip(file):
    """Make a clip of one file."""
    action, subject = (int(part[1:]) for part in file.id.split("_"))
    joints = np.loadtxt(io.BytesIO(read_member(file)), ndmin=2).reshape(1, -1, 20, 3)
    split = "xsub_train" if subject % 2 else "xsub_val"
    return Clip(file.id, center_on(joints, 1), action - 1, (split,), subject=subject)


def read_clips(sources, *, dataset):
    """List the clips of folders and zips; each is read later."""
    files = list_members(sources, suffix=".txt")
    return Recordings(
        clips=LazyClips(files, read_clip),
        count=len(files),
        skeleton=skeletons.get("nw-ucla20"),
        channels=3,
        preparation={"name": "center_on", "format": "moves", "sha256": digest_members(files)},
    )


IMPORTER = Importer(
    title="a folder or zip of moves",
    datasets=(MOVES,),
    is_source=lambda path: has_members(path, lambda name: name.endswith(".txt")),
    read=read_clips,
)
