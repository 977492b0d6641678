import json
import pickle

import numpy as np
import pandas as pd
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data.formats.ntu.bodies import Track
from msg3d_lab.data.formats.ntu.skeleton_file import write_ntu_skeleton
from msg3d_lab.inference import read_frame, read_recordings

NTU, COCO, OPENPOSE = (skeletons.get(name) for name in ("ntu25", "coco17", "openpose18"))


def read_one(path, skeleton, **options):
    (found,) = read_recordings(path, skeleton=skeleton, **options)
    return found


def clip(*shape):
    return np.random.default_rng(0).normal(size=shape)


def openpose(joints, count):
    """OpenPose's JSON of one frame; BODY_25 has a joint between the hips, and six of the feet."""
    if count == 25:
        joints = np.concatenate([joints[:8], [[9, 9, 9]], joints[8:], np.full((6, 3), 9)])
    return {"people": [{"pose_keypoints_2d": joints.ravel().tolist()}]}


def test_arrays(tmp_path):
    np.save(tmp_path / "wave.npy", clip(2, 9, 25, 3))
    found = read_one(tmp_path / "wave.npy", NTU)
    assert found.id == "wave"
    assert np.array_equal(found.keypoints, clip(2, 9, 25, 3))


def test_skeleton_files(tmp_path):
    track = Track(7, np.arange(9), np.zeros(9, int), clip(9, 25, 3))
    path = write_ntu_skeleton(tmp_path / "any name.skeleton", [track], 9)
    found = read_one(path, NTU)
    np.testing.assert_allclose(found.keypoints[0], clip(9, 25, 3), atol=1e-6)
    with pytest.raises(ValueError, match="has 25 joints, the network wants the 17 joints"):
        read_one(path, COCO)


def test_long_tables_hold_several_recordings(tmp_path):
    x = clip(2, 4, 1, 17, 2)
    rows = [
        {"sample": f"s{s}", "frame": t, "person": 0, "joint": j, "x": a, "y": b}
        for s in range(2)
        for t in range(4)
        for j, (a, b) in enumerate(x[s, t, 0])
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "two.csv", index=False)
    pd.DataFrame(rows).to_parquet(tmp_path / "two.parquet")
    for name in ("two.csv", "two.parquet"):
        found = list(read_recordings(tmp_path / name, skeleton=COCO))
        assert [recording.id for recording in found] == ["s0", "s1"]
        np.testing.assert_allclose(found[1].keypoints, x[1].swapaxes(0, 1))


@pytest.mark.parametrize("style", ["names", "from 0", "from 1"])
def test_wide_tables(tmp_path, style):
    x = clip(4, 17, 3)
    columns = {}
    for j, name in enumerate(COCO.joints):
        for c, (axis, short) in enumerate((("x", "x"), ("y", "y"), ("visibility", "v"))):
            first = {"from 0": 0, "from 1": 1}.get(style, 0)
            label = (
                f"{name.replace(' ', '_').upper()}_{axis}"
                if style == "names"
                else f"{short}{j + first}"
            )
            columns[label] = x[:, j, c]
    pd.DataFrame({"timestamp": range(4), **columns}).to_csv(tmp_path / "w.csv", index=False)
    np.testing.assert_allclose(read_one(tmp_path / "w.csv", COCO).keypoints, x[None])


def test_a_wide_table_without_a_joint_is_refused(tmp_path):
    pd.DataFrame({"nose_x": [1.0], "nose_y": [1.0]}).to_csv(tmp_path / "w.csv", index=False)
    with pytest.raises(ValueError, match="no column for x of joint 'left eye'"):
        read_one(tmp_path / "w.csv", COCO)


@pytest.mark.parametrize("count", [18, 25])
def test_folders_of_openpose(tmp_path, count):
    x = np.abs(clip(12, 18, 3))
    for t in range(12):
        document = openpose(x[t], count) if t != 5 else {"people": []}
        (tmp_path / f"v_{t}_keypoints.json").write_text(json.dumps(document))
    found = read_one(tmp_path, OPENPOSE).keypoints
    assert found.shape == (1, 12, 18, 3)
    assert not found[0, 5].any()
    np.testing.assert_allclose(found[0, 11], x[11])  # in the order of numbers, not of letters
    named = read_one(tmp_path, COCO).keypoints
    wrist = COCO.joints.index("left wrist"), OPENPOSE.joints.index("left wrist")
    np.testing.assert_allclose(named[0, 11, wrist[0]], x[11, wrist[1]])


def test_the_persons_with_the_highest_scores_are_kept():
    joints = np.ones((18, 3))
    people = [openpose(joints * (1, 1, score), 18)["people"][0] for score in (0.1, 0.9, 0.5)]
    found = read_frame({"people": people}, OPENPOSE, num_persons=2)
    assert found[:, 0, 2].tolist() == [0.9, 0.5]


def test_mediapipe_landmarks(tmp_path):
    x = clip(5, 17, 4)
    frames = [
        {"pose_landmarks": [dict(zip(("x", "y", "z", "visibility"), j, strict=True)) for j in row]}
        for row in x.tolist()
    ]
    (tmp_path / "m.json").write_text(json.dumps(frames))
    np.testing.assert_allclose(read_one(tmp_path / "m.json", COCO).keypoints, x[None])


def test_nw_ucla_and_kinetics_clips(tmp_path):
    x = clip(5, 20, 3)
    (tmp_path / "a01.json").write_text(json.dumps({"skeletons": x.tolist(), "label": 1}))
    found = read_one(tmp_path / "a01.json", skeletons.get("nw-ucla20"))
    np.testing.assert_allclose(found.keypoints, x[None])
    person = {"pose": [0.5, 0.25] * 18, "score": [0.8] * 18}
    document = {"data": [{"frame_index": 1, "skeleton": [person]}]}
    (tmp_path / "k.json").write_text(json.dumps(document))
    found = read_one(tmp_path / "k.json", OPENPOSE)
    assert found.image_size == (1, 1)
    assert found.keypoints[0, 0, 3].tolist() == [0.5, 0.25, 0.8]


def test_openmmlab_annotations(tmp_path):
    one = {
        "frame_dir": "S001",
        "keypoint": clip(1, 6, 17, 2).astype(np.float16),
        "keypoint_score": np.ones((1, 6, 17), np.float16),
        "img_shape": (1080, 1920),
        "label": 3,
    }
    (tmp_path / "one.pkl").write_bytes(pickle.dumps(one, protocol=2))
    (tmp_path / "all.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": [one, one]}))
    found = read_one(tmp_path / "one.pkl", COCO)
    assert (found.id, found.image_size, found.keypoints.shape) == (
        "S001",
        (1080, 1920),
        (1, 6, 17, 3),
    )
    assert len(list(read_recordings(tmp_path / "all.pkl", skeleton=COCO))) == 2
    bare = {"keypoint": one["keypoint"][0].tolist(), "label": -1}  # as unlabelled data have it
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps([bare]))
    found = read_one(tmp_path / "bare.pkl", COCO)
    assert (found.id, found.keypoints.shape) == ("bare-0", (1, 6, 17, 2))
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps([{"keypoint": one["keypoint"][0, 0]}]))
    with pytest.raises(ValueError, match=r"bad.pkl, bad-0: expected an array 'keypoint'"):
        read_one(tmp_path / "bad.pkl", COCO)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is not JSON"),
        ({"frames": []}, "expected a list of frames"),
        ([[[1, 2]] * 5], "frame 0: expected the 17 joints of coco17"),
        ([{"hands": []}], "expected a frame with 'people'"),
        ([{"people": [{}]}], "expected 'pose_keypoints_2d'"),
    ],
)
def test_other_json_is_refused_with_a_reason(tmp_path, document, message):
    path = tmp_path / "x.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(ValueError, match=message):
        read_one(path, COCO)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_one(tmp_path / "none.npy", COCO)
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="of no format that can be predicted"):
        read_one(tmp_path / "x.mp4", COCO)
    with pytest.raises(ValueError, match="holds no JSON files"):
        read_one(tmp_path, COCO)
