import shutil

import numpy as np
import pytest
from made_recordings import left_out, read_clips

from msg3d_lab import skeletons
from msg3d_lab.data.checks import check_source
from msg3d_lab.data.formats.own.options import OwnData

NTU = skeletons.get("ntu25")


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
    packed = shutil.make_archive(str(labels), "zip", labels)
    for given in (labels, packed):
        own = OwnData(labels=given)
        problems = check_source(videos, NTU, own, progress=False)
        assert "recordings without a label" in {p.kind for p in problems}
        assert len(list(read_clips(videos, layout="ntu25", labels=given).clips)) == 4


def test_pku_mmd_explains_what_it_cannot_read(pku, tmp_path):
    videos, labels, _ = pku
    (videos / "0002-L.txt").write_text("1 2 3\n")
    found = read_clips(videos, layout="ntu25", labels=labels)
    assert "expected lines of 150 numbers" in next(iter(found.clips)).detail
    (labels / "0002-L.txt").write_text("seven\n")
    with pytest.raises(ValueError, match=r"expected lines class,start,end,confidence \(.*seven"):
        read_clips(videos, layout="ntu25", labels=labels)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no text file of .* has a label file of its name"):
        read_clips(videos, layout="ntu25", labels=tmp_path / "none")
