from __future__ import annotations

import logging
import platform
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from msg3d_lab import skeletons
from msg3d_lab.data import load_synthetic, prepare_3d
from msg3d_lab.data.clips import check_clip
from msg3d_lab.data.datasets import ntu_splits
from msg3d_lab.data.store import open_store
from msg3d_lab.data.synthetic import dataset as synthetic
from msg3d_lab.data.synthetic.dataset import CLASSES, evidence, generate, record

NTU = skeletons.get("ntu25")
NAMES = [action.name for action in CLASSES]
PELVIS, WRISTS, HANDS, ANKLES = 0, (6, 10), (7, 11), (14, 18)
UP = 1  # in the camera's frame


def sample_ids(name, subjects=range(1, 41, 3), camera=2):
    action = NAMES.index(name) + 1
    return [
        f"S{(subject - 1) // 10 + 1:03d}C{camera:03d}P{subject:03d}R001A{action:03d}"
        for subject in subjects
    ]


def performances(name):
    """The actor's keypoints of several clips, turned as prepare_3d does, and their evidence."""
    for sample_id in sample_ids(name):
        keypoints, truth = record(sample_id)
        yield prepare_3d(keypoints, NTU)[0].astype(np.float64), truth


def event(x, truth):
    return x[slice(*truth.frames)]


def sides(truth):
    """Which arm (0 left, 1 right) and which leg carry the action."""
    return int(10 in truth.joints), int(18 in truth.joints)


def test_generate_gives_clips_named_and_split_like_ntus():
    clips = list(generate(subjects=[1, 3]))
    assert len(clips) == len({clip.id for clip in clips}) == 2 * 3 * 16
    for clip in clips:
        check_clip(clip, num_joints=25, channels=3, num_classes=16)
        assert 40 <= clip.keypoints.shape[1] <= 110
        assert clip.id[4:12] == f"C{clip.camera:03d}P{clip.subject:03d}"
        assert ("xsub_train" in clip.splits) == (clip.subject == 1)
        assert ("xview_val" in clip.splits) == (clip.camera == 1)


def test_generate_makes_the_same_clips_again():
    first, again = (next(generate(subjects=[5])).keypoints for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_generate_repeats_each_action_differently():
    clips = list(generate(2, subjects=[5]))
    assert len(clips) == 2 * 3 * 16
    once, again = (c.keypoints for c in clips if c.camera == 1 and c.label == 0)
    assert once.shape != again.shape or abs(once - again).max() > 0.01


def test_generate_looks_through_three_cameras():
    """Before preparation the shoulders point where the camera's angle says."""
    angles = []
    for camera in (1, 2, 3):
        bodies = [record(i)[0][0, 0] for i in sample_ids("sit down", range(1, 41), camera)]
        across = [body[4] - body[8] for body in bodies]
        angles.append(np.rad2deg(np.median([np.arctan2(-x[2], -x[0]) for x in across])))
    np.testing.assert_allclose(angles, [-45, 0, 45], atol=10)


def test_record_is_in_metres_before_the_camera():
    for sample_id in sample_ids("wave"):
        keypoints, _ = record(sample_id)
        actor = keypoints[0]
        assert actor[..., 2].min() > 1.5
        assert actor[..., 2].max() < 5.5
        assert abs(actor[:, 3, UP] - actor[:, 15, UP]).max() < 2.1
        assert keypoints.dtype == np.float32


def test_record_has_bystanders_who_come_and_go():
    seen = [record(i)[0] for c in (1, 2, 3) for i in sample_ids("wave", range(1, 41), c)]
    with_bystander = [x for x in seen if len(x) == 2]
    assert 2 <= len(with_bystander) <= 20
    assert any((x[1] == 0).all(axis=(1, 2)).any() for x in with_bystander)
    assert all((x[0] != 0).any(axis=(1, 2)).all() for x in seen)


@pytest.mark.parametrize("action", CLASSES, ids=NAMES)
def test_evidence_lies_in_the_clip_and_among_the_joints_of_the_class(action):
    for sample_id in sample_ids(action.name):
        keypoints, truth = record(sample_id)
        assert truth == evidence(sample_id)
        start, stop = truth.frames
        assert 0 < start < stop < keypoints.shape[1]
        assert truth.joints
        assert set(truth.joints) <= set(action.joints)
        assert truth.persons == tuple(range(action.persons))


@pytest.mark.parametrize("name", NAMES)
def test_evidence_names_what_moves(name):
    """Its joints move more than the others, and more during the event than outside."""
    inside, outside, others = [], [], []
    for x, truth in performances(name):
        speed = np.linalg.norm(x[6:] - x[:-6], axis=-1)  # over six frames: noise is small
        start, stop = truth.frames[0], truth.frames[1] - 6
        during = np.zeros(len(speed), dtype=bool)
        during[start:stop] = True
        away = during.copy()
        away[max(0, start - 6) : stop + 6] = True
        joints = np.isin(np.arange(25), truth.joints)
        inside.append(speed[during][:, joints].mean())
        outside.extend(speed[~away][:, joints].ravel())
        others.append(speed[during][:, ~joints].mean())
    assert np.mean(inside) > 1.5 * np.mean(outside)
    if name not in ("sit down", "stand up"):  # the arms are carried along
        assert np.mean(inside) > 1.3 * np.mean(others)


@pytest.mark.parametrize("bad", ["S001C004P001R001A001", "S001C001P041R001A001", "a01_s01_e00_v01"])
def test_evidence_refuses_what_is_no_synthetic_clip(bad):
    with pytest.raises(ValueError, match=f"{bad}.*is not a clip of the synthetic data set"):
        evidence(bad)
    with pytest.raises(ValueError, match="actions 1 to 16"):
        evidence("S001C001P001R001A017")


# Each class does what its name says.


def test_wave_turns_back_and_forth_and_raise_hand_does_not():
    def turns(x, truth):
        (arm, _), middle = sides(truth), slice(len(x) // 4, -len(x) // 4)
        across = np.convolve(x[middle, HANDS[arm], 0], np.ones(5) / 5, "valid")
        return np.ptp(across)

    waving = [turns(event(x, t), t) for x, t in performances("wave")]
    raised = [turns(event(x, t), t) for x, t in performances("raise hand")]
    assert np.median(waving) > 0.2 > 0.1 > np.median(raised)


def test_sit_down_lowers_the_pelvis_and_stand_up_raises_it():
    for x, _ in performances("sit down"):
        assert x[-5:, PELVIS, 2].mean() < x[:3, PELVIS, 2].mean() - 0.2
    for x, _ in performances("stand up"):
        assert x[-5:, PELVIS, 2].mean() > x[:3, PELVIS, 2].mean() + 0.2


@pytest.mark.parametrize("which", ["opposite", "same"])
def test_touch_knee_brings_the_right_hand_to_the_right_knee(which):
    drawn = set()
    for x, truth in performances(f"touch {which} knee"):
        arm, leg = sides(truth)
        drawn.add((arm, leg))
        assert (arm == leg) == (which == "same")
        tips, knees = x[:, (21, 23)], x[:, (13, 17)]
        gap = np.linalg.norm(tips[:, :, None] - knees[:, None], axis=-1)  # (T, arm, leg)
        middle = gap[sum(truth.frames) // 2]
        assert middle[arm, leg] < 0.2
        assert middle[arm, leg] == middle.min()
    assert len(drawn) == 2


@pytest.mark.parametrize(("which", "sign"), [("together", 1), ("in turn", -1)])
def test_hand_and_foot_move_in_phase_or_against_it(which, sign):
    for x, truth in performances(f"hand and foot {which}"):
        arm, leg = sides(truth)
        assert arm != leg
        x = event(x, truth)
        middle = x[len(x) // 5 : -len(x) // 5]
        r = np.corrcoef(middle[:, WRISTS[arm], 2], middle[:, ANKLES[leg], 2])[0, 1]
        assert sign * r > 0.5


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("reach then kick", 15, 60), ("reach and kick", -8, 8), ("kick then reach", -60, -15)],
)
def test_reach_and_kick_come_in_their_order(name, low, high):
    for x, truth in performances(name):
        arm, leg = sides(truth)
        x = event(x, truth)
        reach = centre_of(x[:, WRISTS[arm], 2])
        kick = centre_of(x[:, ANKLES[leg], 2])
        assert low < kick - reach < high


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("raise arms together", 0, 4),
        ("raise arms, one behind", 5, 16),
        ("raise arms in turn", 13, 40),
    ],
)
def test_raise_arms_lag_as_they_should(name, low, high):
    for x, truth in performances(name):
        x = event(x, truth)
        assert low <= abs(centre_of(x[:, 6, 2]) - centre_of(x[:, 10, 2])) <= high


def centre_of(height):
    """The moment around which something is lifted, in frames."""
    weight = np.clip(height - height.min() - 0.3 * np.ptp(height), 0, None)
    return (weight * np.arange(len(height))).sum() / weight.sum()


def test_two_persons_meet_hands_and_shake_them_or_do_not():
    lifts = {}
    for name in ("shake hands", "hand over"):
        lifts[name] = []
        for sample_id in sample_ids(name):
            keypoints, truth = record(sample_id)
            assert len(keypoints) == 2
            hands = event(keypoints[:, :, 11].swapaxes(0, 1), truth)
            middle = hands[len(hands) // 3 : -len(hands) // 3]
            assert np.median(np.linalg.norm(middle[:, 0] - middle[:, 1], axis=-1)) < 0.25
            lifts[name].append(np.ptp(middle[:, :, UP].mean(1)))
    assert np.median(lifts["shake hands"]) > 3 * np.median(lifts["hand over"])


# The whole set.


def test_load_synthetic_says_that_it_is_generated(synthetic_store):
    store = synthetic_store
    assert store.synthetic
    assert store.dataset == "synthetic"
    assert store.label_names == NAMES
    assert len(store) == 1920
    assert store.num_classes == 16
    assert store.splits == {
        "xsub_train": 960, "xsub_val": 960, "xview_train": 1280, "xview_val": 640,
    }  # fmt: skip
    assert (np.bincount(store.labels) == 120).all()
    assert store.skeleton.num_joints == 25
    assert store.channels == 3


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="on other processors the last bit of a sine, and so of a coordinate, can differ",
)
def test_load_synthetic_has_the_fingerprint_of_recorded_results(synthetic_store):
    results = pd.read_csv(Path(__file__).parents[3] / "data" / "results.csv")
    assert synthetic_store.fingerprint == "5d1a430f43b9"
    assert synthetic_store.fingerprint in results["data_fingerprint"].to_list()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A set of one class and three subjects, quick to generate."""
    monkeypatch.setattr(synthetic, "CLASSES", CLASSES[:1])
    monkeypatch.setattr(synthetic, "generate", lambda n: generate(n, subjects=(1, 2, 3)))
    return load_synthetic(tmp_path)


def test_load_synthetic_opens_what_it_made_before(small):
    written = small.path.stat().st_mtime_ns
    assert load_synthetic(small.path.parent).path == small.path
    assert small.path.stat().st_mtime_ns == written


def test_load_synthetic_never_takes_a_store_of_another_generator(small, monkeypatch):
    monkeypatch.setattr(synthetic, "GENERATOR_VERSION", "another")
    assert load_synthetic(small.path.parent).path != small.path
    assert len(list(small.path.parent.iterdir())) == 2


@pytest.mark.parametrize("damage", ["empty", "cut short", "last byte", "flipped"])
def test_load_synthetic_makes_a_damaged_file_anew(small, damage, caplog):
    whole = small.path.read_bytes()
    content = bytearray(whole)
    if damage == "flipped":
        content[whole.index(b"xsub_train", whole.index(small.ids[0].encode()))] ^= 1
    else:
        del content[{"empty": 0, "cut short": len(whole) // 2, "last byte": -1}[damage] :]
    small.path.write_bytes(content)
    with pytest.raises(ValueError, match="cut short or damaged"):
        open_store(small.path)
    with caplog.at_level(logging.WARNING):
        again = load_synthetic(small.path.parent)
    assert f"{small.path} is damaged (" in caplog.text
    assert "generating it again" in caplog.text
    assert small.path.read_bytes() == whole
    assert (again.path, again.fingerprint) == (small.path, small.fingerprint)
    assert again.verify() == []
    caplog.clear()
    load_synthetic(small.path.parent)
    assert not caplog.text


def test_load_synthetic_refuses_a_damaged_clip_when_it_is_read(small, caplog):
    content = bytearray(small.path.read_bytes())
    content[content.index(small.keypoints(7).tobytes()) + 100] ^= 1
    small.path.write_bytes(content)
    again = load_synthetic(small.path.parent)
    assert not caplog.text
    again.keypoints(6)
    with pytest.raises(ValueError, match=rf"clip {small.ids[7]} of .* is damaged"):
        again.keypoints(7)


@pytest.mark.usefixtures("small")
def test_load_synthetic_keeps_it_in_the_project_or_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert load_synthetic().path.parent == tmp_path / "cache" / "msg3d-lab"
    (tmp_path / "data").mkdir()
    (tmp_path / "pyproject.toml").touch()
    assert load_synthetic().path.parent == tmp_path / "data"
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert load_synthetic().path.parent == tmp_path / "data"


def test_stored_clips_can_be_generated_again_from_their_names(synthetic_store):
    store, i = synthetic_store, 1234
    clip = prepare_3d(record(store.ids[i])[0], store.skeleton)
    np.testing.assert_array_equal(store.keypoints(i), clip)


def test_second_persons_come_from_the_same_side_of_xsub(monkeypatch):
    """Nobody who is held out is ever seen in training."""
    drawn = []
    subject = synthetic._subject

    def spy(number):
        drawn.append(number)
        return subject(number)

    monkeypatch.setattr(synthetic, "_subject", spy)
    partners = set()
    for sample_id in sample_ids("shake hands", range(1, 41)):
        drawn.clear()
        record(sample_id)
        actor, partner = drawn
        partners.add(partner)
        same, other = (f"S001C001P{number:03d}R001A001" for number in drawn)
        assert actor != partner
        assert ntu_splits(same) == ntu_splits(other)
    assert len(partners) > 10


@pytest.fixture(scope="module")
def mean_joints(synthetic_store):
    """The mean position of every joint of two persons: (clips, 150)."""
    x = torch.zeros(len(synthetic_store), 2, 75)
    for i in range(len(synthetic_store)):
        mean = torch.from_numpy(synthetic_store.keypoints(i).mean(axis=1).reshape(-1, 75))
        x[i, : len(mean)] = mean
    return x.flatten(1).double()


@pytest.mark.parametrize("protocol", ["xsub", "xview"])
def test_linear_classifier_on_mean_joints_stays_below_55_percent(
    synthetic_store, mean_joints, protocol
):
    store, x = synthetic_store, mean_joints
    y = torch.from_numpy(store.labels)
    train, val = (torch.from_numpy(store.indices(f"{protocol}_{s}")) for s in ("train", "val"))
    x = (x - x[train].mean(0)) / x[train].std(0)
    weight = torch.zeros(16, 150, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(16, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(x[train], weight, bias), y[train])
        value = value + 1e-3 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    accuracy = (F.linear(x[val], weight, bias).argmax(1) == y[val]).double().mean()
    assert 0.35 < accuracy < 0.55  # a network reaches 90 %: see the demo
