"""An importer of text files a1_s2.txt: a line per frame, x, y, z of 20 joints."""

import io

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats import zip_or_folder
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings
from msg3d_lab.data.preprocess import center_on

MOVES = Dataset("moves", "Moves", ("nw-ucla20",), label_names=("jump", "wave"), protocols=("xsub",))


def read_clip(file):
    """Make a clip of one file."""
    action, subject = (int(part[1:]) for part in file.id.split("_"))
    content = zip_or_folder.read_member(file)
    joints = np.loadtxt(io.BytesIO(content), ndmin=2).reshape(1, -1, 20, 3)
    split = "xsub_train" if subject % 2 else "xsub_val"
    return Clip(file.id, center_on(joints, 1), action - 1, (split,), subject=subject)


def read_clips(sources, *, dataset):
    """List the clips of folders and zips; each is read later."""
    files = zip_or_folder.list_members(sources, suffix=".txt")
    return Recordings(
        clips=LazyClips(files, read_clip),
        skeleton=skeletons.get("nw-ucla20"),
        preparation={"name": "center_on", "sha256": zip_or_folder.digest_members(files)},
    )


IMPORTER = Importer(
    title="a folder or zip of moves",
    datasets=(MOVES,),
    is_source=lambda path: zip_or_folder.has_members(path, lambda name: name.endswith(".txt")),
    read=read_clips,
)
