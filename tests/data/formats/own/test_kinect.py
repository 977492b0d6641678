import numpy as np
import pytest
from made_recordings import left_out, read_clips, recording, write_labels

from msg3d_lab import skeletons
from msg3d_lab.data import open_store, prepare_3d, read_ntu_skeleton
from msg3d_lab.data.checks import check_source
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.formats.skeleton_file import write_ntu_skeleton

NTU = skeletons.get("ntu25")


def test_skeleton_files_of_own_names(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for seed, name in enumerate(("sit", "stand")):
        tracks, frames = recording(bodies=1, seed=seed)
        write_ntu_skeleton(folder / f"{name}.skeleton", tracks, frames)
    (folder / "empty.skeleton").write_text("1\n0\n")
    (folder / "broken.skeleton").write_text("3\n")
    labels = dict.fromkeys(("sit", "stand", "empty", "broken"), "down,train,1")
    write_labels(folder / "labels.csv", **labels)
    path = import_dataset(
        folder, dataset="mine", layout="ntu25", out=tmp_path / "s.arrow", progress=False
    )
    store = open_store(path)
    assert store.ids == ["sit", "stand"]
    assert list(store.left_out["reason"]) == ["cannot be read", "nobody in any frame"]
    expected = prepare_3d(read_ntu_skeleton(folder / "sit.skeleton"), NTU)
    np.testing.assert_array_equal(store.keypoints(0), expected)
    with pytest.raises(ValueError, match="25 joints of the Kinect, coco17 has 17: expected --lay"):
        read_clips(folder, layout="coco17")


@pytest.fixture
def pku(tmp_path):
    """A video of 30 frames with three actions, the last of which is not in it."""
    videos, labels = tmp_path / "skeleton", tmp_path / "labels"
    videos.mkdir()
    labels.mkdir()
    video = np.random.default_rng(0).uniform(0.5, 2, (30, 2, 25, 3)).round(4)
    video[:15, 1] = 0
    np.savetxt(videos / "0002-L.txt", video.reshape(30, 150), fmt="%.4f")
    (videos / "0003-M.txt").write_text("")
    (labels / "0002-L.txt").write_text("7,2,12,2\n43,14,30,1\n7,90,99,2\n")
    (tmp_path / "cross-subject.txt").write_text(
        "Training videos:\n0002-L, 0002-M\n\nValidataion videos:\n0003-M\n"
    )
    return videos, labels, video


def test_pku_mmd_is_cut_into_its_actions(pku):
    videos, labels, video = pku
    found = read_clips(videos, layout="ntu25", labels=labels, prepare="none")
    first, second = list(found.clips)[:2]
    assert (first.id, second.id) == ("0002-L-0", "0002-L-1")
    np.testing.assert_allclose(first.keypoints, video[2:12, :1].swapaxes(0, 1), atol=1e-6)
    np.testing.assert_allclose(second.keypoints, video[14:30].swapaxes(0, 1), atol=1e-6)
    assert (first.label, second.label, found.label_names) == (0, 1, ("7", "43"))
    assert (first.splits, first.camera) == (("xsub_train",), 0)
    assert [name for name, _ in left_out(found)] == ["0002-L-2", "0003-M"]
    kinds = {p.kind for p in check_source(videos, layout=NTU, labels=labels, progress=False)}
    assert "recordings without a label" in kinds


def test_pku_mmd_explains_what_it_cannot_read(pku, tmp_path):
    videos, labels, _ = pku
    (videos / "0002-L.txt").write_text("1 2 3\n")
    found = read_clips(videos, layout="ntu25", labels=labels)
    assert "line 1: expected 150 numbers" in next(iter(found.clips)).detail
    (labels / "0002-L.txt").write_text("seven\n")
    with pytest.raises(ValueError, match="line 1: expected class,start,end,confidence, found 'sev"):
        read_clips(videos, layout="ntu25", labels=labels)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no text file of .* has a label file of its name"):
        read_clips(videos, layout="ntu25", labels=tmp_path / "none")
