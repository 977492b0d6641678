import numpy as np
import pytest
import torch

from msg3d_lab import explain, skeletons
from msg3d_lab.data.batches.sampling import choose_test_frames
from msg3d_lab.data.synthetic import dataset as synthetic
from msg3d_lab.explain import (
    METHODS,
    IntegratedGradients,
    Options,
    Shapley,
    attribute,
    load_clips,
    make_features,
    planted_features,
    playback_fps,
    predict_classes,
)
from msg3d_lab.training.setup import build_test_batches


def test_clips_are_those_of_the_test(run, toy_store):
    indices = toy_store.indices("xsub_val")
    clips = load_clips(run, indices)
    batch = next(iter(build_test_batches(run.recipe, toy_store, indices, batch_size=64)))
    np.testing.assert_array_equal(clips.x.numpy(), batch.x[:, 0])
    np.testing.assert_array_equal(clips.labels, batch.labels)
    # The frames that are named are those that are there.
    for i, sample in enumerate(indices):
        keypoints = toy_store.keypoints(sample)
        np.testing.assert_array_equal(clips.x[i, 0].numpy(), keypoints[0, clips.frames[i]])


def test_choose_clips_is_balanced_and_seeded(toy_store):
    chosen = explain.choose_clips(toy_store, "xsub_train", num_clips=9)
    assert np.bincount(toy_store.labels[chosen]).tolist() == [3, 3, 3]
    assert (np.diff(chosen) > 0).all()
    again = explain.choose_clips(toy_store, "xsub_train", num_clips=9)
    np.testing.assert_array_equal(chosen, again)
    other = explain.choose_clips(toy_store, "xsub_train", num_clips=9, seed=1)
    assert chosen.tolist() != other.tolist()
    whole = explain.choose_clips(toy_store, "xsub_train", num_clips=1000)
    np.testing.assert_array_equal(whole, toy_store.indices("xsub_train"))
    with pytest.raises(ValueError, match="at least one clip, found 0"):
        explain.choose_clips(toy_store, "xsub_train", num_clips=0)


def test_shapley_orders_go_with_the_clips_names(run, toy_store):
    """In any company and batch a clip has the same orders; under another name it has others."""
    model, clips = run.model(), load_clips(run, toy_store.indices("xsub_val")[:4])
    classes, method = predict_classes(model, clips.x), Shapley(samples=2)
    whole = attribute(model, clips.question(classes), method)
    turned = load_clips(run, clips.indices[::-1])
    again = attribute(model, turned.question(classes.flip(0), Options(batch_size=3)), method)
    np.testing.assert_allclose(again[::-1], whole, atol=1e-6)
    others = attribute(model, turned.question(classes.flip(0), Options(seed=1)), method)
    assert np.abs(others[::-1] - whole).max() > 1e-4


@pytest.mark.parametrize(
    "method",
    [*METHODS[:2], IntegratedGradients(steps=3), METHODS[3], Shapley(samples=1)],
    ids=lambda method: method.name,
)
def test_no_method_asks_about_more_clips_at_a_time_than_it_may(method, run, toy_store):
    model, clips = run.model(), load_clips(run, toy_store.indices("xsub_val")[:5])
    seen, classes = [], torch.zeros(5, dtype=torch.long)
    handle = model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    for batch_size in (1, 4, 16):
        seen.clear()
        attribute(model, clips.question(classes, Options(batch_size=batch_size)), method)
        assert 0 < max(seen) <= batch_size
    handle.remove()


def test_planted_joints_and_frames_are_found_among_the_sampled_ones():
    name = "S001C001P001R001A009"
    event = synthetic.evidence(name)
    num_frames = synthetic.record(name)[0].shape[1]
    frames = np.linspace(0, num_frames - 1, 20).astype(int)[None]
    body = skeletons.get("ntu25")
    joints = planted_features([name], frames, make_features("joint", body, num_frames=20))
    assert np.flatnonzero(joints[0]).tolist() == list(event.joints)
    features = make_features("joint_x_segment", body, num_frames=20, num_segments=20)
    both = planted_features([name], frames, features)[0]
    start, stop = event.frames
    for t, frame in enumerate(frames[0]):
        for joint in range(25):
            expected = joint in event.joints and start <= frame < stop
            assert both[features.index[t, joint]] == expected
    with pytest.raises(ValueError, match="is not a clip of the synthetic data set"):
        planted_features(["clip01"], frames, features)


@pytest.mark.parametrize(
    ("sampling", "num_frames", "expected"),
    [
        ("uniform", 60, 30),  # repeated
        ("uniform", 100, 30),
        ("uniform", 150, 20),
        ("uniform", 300, 10),
        ("replay", 60, 30),
        ("replay", 300, 30),  # cut off
        ("resize", 50, 60),
        ("resize", 200, 15),
    ],
)
def test_playback_is_as_fast_as_the_recording(sampling, num_frames, expected):
    (frames,) = choose_test_frames(num_frames, sampling=sampling, clip_len=100)
    assert playback_fps(frames, num_frames) == pytest.approx(expected)


def test_device_is_what_it_is_asked_to_be():
    assert explain.resolve_device("cpu") == torch.device("cpu")
    kinds = {"cuda": torch.cuda, "mps": torch.backends.mps}
    there = next((name for name, kind in kinds.items() if kind.is_available()), "cpu")
    assert explain.resolve_device("auto").type == there
    with pytest.raises(ValueError, match="cannot compute on 'abacus': PyTorch finds cpu"):
        explain.resolve_device("abacus")
