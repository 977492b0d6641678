from __future__ import annotations

import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data.batches.sampling import uniform_sample
from msg3d_lab.data.batches.streams import STREAMS, make_stream
from msg3d_lab.data.preprocess import prepare_3d

NTU, COCO = skeletons.get("ntu25"), skeletons.get("coco17")


def slow_stream(clip, stream, skeleton, scored):
    """One number after the other."""
    persons, frames, _, channels = clip.shape
    out = clip.copy()
    if stream.startswith("bone"):
        for m, t, c in np.ndindex(persons, frames, channels):
            for joint, parent in enumerate(skeleton.parents):
                a, b = clip[m, t, joint, c], clip[m, t, parent, c]
                out[m, t, joint, c] = (a + b) / 2 if scored and c == channels - 1 else a - b
    if stream.endswith("motion"):
        still = out.copy()
        for m, t, v, c in np.ndindex(still.shape):
            if t == frames - 1:
                out[m, t, v, c] = 0
            else:
                a, b = still[m, t, v, c], still[m, t + 1, v, c]
                out[m, t, v, c] = (a + b) / 2 if scored and c == channels - 1 else b - a
    return out


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(("skeleton", "scored"), [(NTU, False), (COCO, True), (COCO, False)])
@pytest.mark.parametrize("frames", [1, 5])
def test_make_stream_agrees_with_a_slow_loop(stream, skeleton, scored, frames):
    clip = np.random.default_rng(1).standard_normal((2, frames, skeleton.num_joints, 3))
    made = make_stream(clip, stream, skeleton, scored=scored)
    np.testing.assert_allclose(made, slow_stream(clip, stream, skeleton, scored), atol=1e-12)


@pytest.mark.parametrize("stream", STREAMS)
def test_make_stream_takes_batches_and_leaves_its_input_alone(stream):
    batch = np.random.default_rng(2).standard_normal((4, 2, 6, 25, 3)).astype(np.float32)
    before = batch.copy()
    made = make_stream(batch, stream, NTU)
    assert made.dtype == np.float32
    for x, y in zip(batch, made, strict=True):
        np.testing.assert_array_equal(y, make_stream(x, stream, NTU))
    np.testing.assert_array_equal(batch, before)


def test_bones_of_the_root_are_zero_and_add_up_to_the_joints():
    clip = np.random.default_rng(3).standard_normal((1, 4, 25, 3))
    bone = make_stream(clip, "bone", NTU)
    assert not bone[:, :, NTU.center].any()
    for joint in range(25):
        total, v = clip[:, :, NTU.center].copy(), joint
        while NTU.parents[v] != v:
            total += bone[:, :, v]
            v = NTU.parents[v]
        np.testing.assert_allclose(total, clip[:, :, joint], atol=1e-12)


def test_make_stream_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="unknown stream 'bones': expected one of joint, bone"):
        make_stream(np.zeros((1, 2, 25, 3)), "bones", NTU)
    with pytest.raises(ValueError, match=r"expected a clip \(..., T, 17, C\) for layout coco17"):
        make_stream(np.zeros((1, 2, 25, 3)), "joint", COCO)


@pytest.mark.shared
def test_streams_agree_with_openmmlab(shared_dir):
    raw = np.load(shared_dir / "golden" / "ntu_raw_denoised.npz")
    golden = np.load(shared_dir / "golden" / "ntu_streams_u100.npz")
    assert len(golden.files) == 24
    for key in golden.files:
        name, stream = key.split("/")
        clip = make_stream(prepare_3d(raw[name].astype(np.float32), NTU), stream, NTU)
        made = np.zeros((2, 100, 25, 3), dtype=np.float32)
        made[: len(clip)] = clip[:, uniform_sample(clip.shape[1], num_clips=1)[0]]
        np.testing.assert_allclose(made, golden[key], atol=1e-6, err_msg=key)
