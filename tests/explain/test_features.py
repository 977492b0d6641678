import numpy as np
import pytest
import torch

from msg3d_lab.explain.baselines import make_baseline, mean_pose
from msg3d_lab.explain.features import make_features, replace_features

T = 6


def test_features_cover_every_joint_and_frame_once(toy_skeleton_with_parts):
    for by, count in (("joint", 5), ("part", 3), ("segment", 3), ("joint_x_segment", 15)):
        features = make_features(by, toy_skeleton_with_parts, num_frames=T, num_segments=3)
        assert len(features) == count == len(set(features.names))
        np.testing.assert_array_equal(np.unique(features.index), np.arange(count))
    assert features.names[1] == "hip, frames 2 to 3"
    assert features.index[2, 0] == 1
    names = make_features("part", toy_skeleton_with_parts, num_frames=T).names
    assert names == ("arms", "trunk", "other")


def test_features_are_replaced_in_all_persons_unless_kept(toy_skeleton):
    clips = torch.randn(5, 2, T, 5, 3)
    features = make_features("joint", toy_skeleton, num_frames=T)
    kept = torch.ones(5, 5, dtype=torch.bool)
    kept[2, 4] = False
    found = replace_features(clips, torch.zeros_like(clips), kept, features)
    expected = clips.clone()
    expected[2, :, :, 4] = 0
    assert torch.equal(found, expected)


def test_baselines_in_closed_form():
    x = torch.zeros(2, 2, 4, 3, 2)
    x[:, 0] = torch.arange(4.0)[:, None, None] + 1
    x[0, 1, 2:] = torch.tensor([5.0, 7.0])[:, None, None]
    pose = mean_pose(x)
    assert pose[0].unique().tolist() == [2.5]
    assert pose[1].unique().tolist() == [6.0]
    held = make_baseline(x, "first_frame")
    assert held[:, 0].unique().tolist() == [1.0]
    assert held[0, 1, :, 0, 0].tolist() == [0, 0, 5, 5]
    assert held[1, 1].abs().max() == 0
    mean = make_baseline(x, "mean_pose")
    assert mean[0, 1, :, 0, 0].tolist() == [0, 0, 6, 6]
    assert make_baseline(x, "removed").abs().max() == 0
    assert mean_pose(torch.zeros(1, 2, 4, 3, 2)).abs().max() == 0


def test_baselines_refuse():
    clips = torch.ones(1, 2, T, 5, 3)
    with pytest.raises(ValueError, match="unknown baseline 'blur'"):
        make_baseline(clips, "blur")


def test_features_refuse(toy_skeleton):
    with pytest.raises(ValueError, match="1 to 6 segments of 6 frames, found 7"):
        make_features("segment", toy_skeleton, num_frames=6, num_segments=7)
    with pytest.raises(ValueError, match="importance by 'bone'"):
        make_features("bone", toy_skeleton, num_frames=6)
    with pytest.raises(ValueError, match="toy5 has no body parts"):
        make_features("part", toy_skeleton, num_frames=6)
