from __future__ import annotations

import hashlib
import threading
import time

import numpy as np
import pytest
from made_batches import clips_to_test, train_batches

from msg3d_lab.data.batches.augment import Augment
from msg3d_lab.data.batches.loader import draw_balanced, prefetch
from msg3d_lab.data.batches.sampling import replay, resize, uniform_sample
from msg3d_lab.data.batches.streams import STREAMS, make_stream
from msg3d_lab.data.clips import Clip

GEOMETRY = {"rotation": (60.0, 60.0, 20.0), "scale": (0.5, 1.5), "shear": 0.3, "flip": 0.5}
MASKS = {"joint_masking": 0.2, "frame_masking": 0.3}
STRONG = Augment(**GEOMETRY, **MASKS, crop=(0.5, 0.9))


def everything(batches, epoch=0):
    return [batches.batch(step, epoch=epoch) for step in range(len(batches))]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def by_hand(store, i, chosen, stream, persons):
    """openmmlab's order: the stream of the whole clip, then the frames, then the persons."""
    clip = make_stream(store.keypoints(i), stream, store.skeleton, scored=store.scored)
    out = np.zeros((persons, len(chosen), *clip.shape[2:]), dtype=np.float32)
    out[: len(clip)] = clip[:persons, chosen]
    return out


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("which", ["store", "scored_store"])
def test_test_batches_make_the_stream_before_they_sample(request, which, stream):
    store = request.getfixturevalue(which)
    batches = clips_to_test(
        store, store.indices("all"), stream=stream, clip_len=8, num_clips=3, batch_size=4
    )
    assert len(batches) == len(list(batches)) == 4
    for x, labels, indices in batches:
        assert x.shape[1:] == (3, 2, 8, store.skeleton.num_joints, 3)
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        np.testing.assert_array_equal(labels, store.labels[indices])
        for n, i in enumerate(indices):
            clips = uniform_sample(int(store.frames[i]), clip_len=8, num_clips=3)
            for c, chosen in enumerate(clips):
                expected = by_hand(store, i, chosen, stream, persons=2)
                np.testing.assert_array_equal(x[n, c], expected)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(("sampling", "choose"), [("replay", replay), ("resize", resize)])
def test_test_batches_make_the_stream_after_replay_and_resize(store, stream, sampling, choose):
    batches = clips_to_test(
        store, store.indices("all"), stream=stream, clip_len=8, sampling=sampling
    )
    (x, _, indices) = next(iter(batches))
    for n, i in enumerate(indices):
        chosen = store.keypoints(i)[:2, choose(store.frames[[i]], 8)[0]]
        made = make_stream(chosen, stream, store.skeleton)
        np.testing.assert_array_equal(x[n, 0, : len(made)], made)
        assert not x[n, 0, len(made) :].any()


def test_test_batches_draw_their_clips_from_their_seed(store):
    longest = np.array([int(store.frames.argmax())])
    x = next(iter(clips_to_test(store, longest, clip_len=8, num_clips=2, seed=9))).x
    chosen = uniform_sample(int(store.frames.max()), clip_len=8, num_clips=2, seed=9)
    for clip, frames in zip(x[0], chosen, strict=True):
        np.testing.assert_array_equal(clip, by_hand(store, longest[0], frames, "joint", 2))


@pytest.mark.parametrize("world_size", [1, 2, 3, 20])
def test_test_batches_give_every_sample_once_whatever_the_number_of_processes(store, world_size):
    wanted = store.indices("all")[::-1]
    found = [
        i
        for rank in range(world_size)
        for batch in clips_to_test(
            store, wanted, clip_len=4, batch_size=2, rank=rank, world_size=world_size
        )
        for i in batch.indices
    ]
    assert sorted(found) == sorted(wanted)


def test_train_batches_hold_the_chosen_frames(store):
    """Every clip comes back as frames of its recording, in order unless it is short."""
    batches = train_batches(store, store.indices("all"), clip_len=8, num_persons=2, batch_size=13)
    x, labels, indices = batches.batch(0, epoch=0)
    assert (x.shape, x.dtype, x.flags.c_contiguous) == ((13, 2, 8, 25, 3), np.float32, True)
    assert (labels.dtype, indices.dtype) == (np.int64, np.int64)
    np.testing.assert_array_equal(labels, store.labels[indices])
    for clip, i in zip(x, indices, strict=True):
        source = store.keypoints(i)[:2]
        frames = [np.flatnonzero((source[0] == f).all(axis=(1, 2))).item() for f in clip[0]]
        np.testing.assert_array_equal(clip[: len(source)], source[:, frames])
        assert not clip[len(source) :].any()
        if len(source[0]) >= 8:
            assert (np.diff(frames) > 0).all()


def chosen_frames(store, **options):
    """The frames of every clip of the first batch, (N, T), read off its joints."""
    x, _, indices = train_batches(store, **options, stream="joint").batch(0, epoch=0)
    return indices, [
        [np.flatnonzero((store.keypoints(i)[0] == f).all(axis=(1, 2))).item() for f in clip[0]]
        for clip, i in zip(x, indices, strict=True)
    ]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("clip_len", [3, 8, 30])  # a recording is long, or short, beside it
@pytest.mark.parametrize("which", ["store", "scored_store"])
def test_train_batches_make_the_stream_before_they_sample(request, which, stream, clip_len):
    store = request.getfixturevalue(which)
    facts = {"indices": store.indices("all"), "clip_len": clip_len, "batch_size": 13}
    indices, frames = chosen_frames(store, **facts)
    x = train_batches(store, **facts, stream=stream).batch(0, epoch=0).x
    for clip, i, chosen in zip(x, indices, frames, strict=True):
        np.testing.assert_array_equal(clip, by_hand(store, i, chosen, stream, persons=2))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("sampling", ["uniform", "replay", "resize"])
@pytest.mark.parametrize("rescale", ["none", "minmax"])
def test_augmentation_that_is_off_changes_nothing(store, stream, sampling, rescale):
    facts = {"stream": stream, "sampling": sampling, "rescale": rescale}
    facts |= {"clip_len": 8, "batch_size": 13}
    plain, off = (
        train_batches(store, store.indices("all"), **facts, augment=augment).batch(0, epoch=2)
        for augment in (None, Augment())
    )
    assert_same(plain, off)


def in_float64(clip, drawn, n, skeleton, *, scored, rescale):
    """A recording as it is moved and rescaled, one joint after the other."""
    images = list(range(skeleton.num_joints))
    for left, right in skeleton.mirror:
        images[left], images[right] = right, left
    source, D = clip.astype(np.float64), clip.shape[-1] - scored
    out = np.zeros_like(source)
    for m, t, v in np.ndindex(*source.shape[:3]):
        joint = source[m, t, images[v] if drawn.flipped[n] else v]
        if not scored or joint[-1]:
            joint = joint @ drawn.matrices[n].astype(np.float64)
        out[m, t, v] = joint
    if rescale == "minmax":
        present = out.any(axis=(2, 3))
        low, high = (f(out[present][..., :D], axis=(0, 1)) for f in (np.min, np.max))
        for m, t in np.argwhere(present):
            out[m, t, :, :D] = (out[m, t, :, :D] - low) / np.where(high > low, high - low, 1) * 2
            out[m, t, :, :D] -= high > low
    return out


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("sampling", ["uniform", "replay", "resize"])
@pytest.mark.parametrize("rescale", ["none", "minmax"])
@pytest.mark.parametrize("which", ["store", "scored_store"])
def test_augmented_batches_agree_with_a_slow_loop(
    request, monkeypatch, which, stream, sampling, rescale
):
    """Everything on: move, rescale, make the stream, choose frames, hide; clip by clip."""
    store = request.getfixturevalue(which)
    store_draw, seen = Augment.draw, []
    monkeypatch.setattr(
        Augment, "draw", lambda *a, **k: seen.append(store_draw(*a, **k)) or seen[-1]
    )
    turn = (0, 0, 60) if store.scored else (60, 60, 20)
    facts = {"indices": store.indices("all"), "clip_len": 6, "sampling": sampling, "batch_size": 13}
    indices, frames = chosen_frames(store, **facts, augment=Augment(crop=(0.5, 0.9)))
    augment = Augment(**{**GEOMETRY, "rotation": turn}, **MASKS, crop=(0.5, 0.9))
    x = (
        train_batches(store, **facts, stream=stream, rescale=rescale, augment=augment)
        .batch(0, epoch=0)
        .x
    )
    drawn = seen[-1]
    for n, (i, chosen) in enumerate(zip(indices, frames, strict=True)):
        clip = store.keypoints(i)[:2]
        clip = in_float64(clip, drawn, n, store.skeleton, scored=store.scored, rescale=rescale)
        if sampling == "uniform":
            made = make_stream(clip, stream, store.skeleton, scored=store.scored)[:, chosen]
        else:
            made = make_stream(clip[:, chosen], stream, store.skeleton, scored=store.scored)
        made[:, drawn.frames[n]] = 0
        made[:, :, drawn.joints[n]] = 0
        np.testing.assert_allclose(x[n, : len(made)], made, atol=1e-5)
        assert not x[n, len(made) :].any()


@pytest.mark.parametrize("rescale", ["none", "minmax"])
def test_batches_do_not_depend_on_how_many_recordings_are_done_at_once(store, monkeypatch, rescale):
    def make():
        train = train_batches(
            store,
            store.indices("all"),
            stream="bone_motion",
            clip_len=5,
            batch_size=39,
            repeat=3,
            augment=STRONG,
            rescale=rescale,
        )
        test = clips_to_test(store, store.indices("all"), clip_len=5, num_clips=3, rescale=rescale)
        return [train.batch(0, epoch=0).x, *(batch.x for batch in test)]

    whole = make()
    monkeypatch.setattr("msg3d_lab.data.batches.assemble._AT_ONCE", 4)
    assert_same(whole, make())


@pytest.mark.parametrize("sampling", ["uniform", "replay", "resize"])
def test_crop_chooses_frames_from_a_window_of_the_recording(store, sampling):
    longest = np.flatnonzero(store.frames > 20)
    facts = {"indices": longest, "clip_len": 200, "sampling": sampling, "batch_size": 1}
    spans = []
    for seed in range(40):
        crop = Augment(crop=(0.4, 0.6))
        [i], [frames] = chosen_frames(store, **facts, seed=seed, augment=crop)
        length = store.frames[i]
        assert len(set(frames)) <= 0.6 * length
        if sampling != "resize":  # which may miss some
            assert np.floor(0.4 * length) <= len(set(frames)) == max(frames) - min(frames) + 1
        spans.append((min(frames) / length, max(frames) / length))
    starts, ends = zip(*spans, strict=True)
    assert min(starts) < 0.1
    assert max(ends) > 0.9


@pytest.mark.parametrize("stream", STREAMS)
def test_masks_act_on_the_finished_stream(store, stream):
    """A hidden joint leaves the bones of its neighbours alone."""
    facts = {"clip_len": 10, "batch_size": 13, "stream": stream}
    plain, masked = (
        train_batches(store, store.indices("all"), **facts, **more).batch(0, epoch=0).x
        for more in ({}, {"augment": Augment(**MASKS)})
    )
    hidden = (masked == 0) & (plain != 0)
    np.testing.assert_array_equal(masked, np.where(hidden, 0, plain))
    assert (masked == 0).all(axis=(1, 3, 4)).sum(axis=1).min() >= 3  # of ten frames
    assert (masked == 0).all(axis=(1, 2, 4)).sum(axis=1).min() >= 5  # of 25 joints


def ctr_gcn_training_clip(value, matrix, frames, stream, skeleton):
    """The feeder's steps for one recording that is centred already, in its order."""
    turned = (value.reshape(-1, 3) @ matrix).reshape(-1, 3)
    low, high = turned.min(axis=0), turned.max(axis=0)
    scaled = ((turned - low) / (high - low) * 2 - 1).reshape(value.shape)
    data = np.zeros((len(frames), 20, 3))
    for t, frame in enumerate(frames):
        data[t] = scaled[frame]
    if stream.startswith("bone"):
        bone = np.zeros_like(data)
        for joint, parent in skeleton.bones:
            bone[:, joint] = data[:, joint] - data[:, parent]
        data = bone
    if stream.endswith("motion"):
        moved = np.zeros_like(data)
        moved[:-1] = data[1:] - data[:-1]
        data = moved
    return data


@pytest.mark.parametrize("stream", STREAMS)
def test_ctr_gcn_recipe_in_training_agrees_with_a_slow_loop(ucla_store, stream):
    """Frames and matrices are read off batches with less done to them."""
    store = ucla_store
    facts = {"indices": store.indices("all"), "clip_len": 52, "num_persons": 1}
    facts |= {"sampling": "resize", "batch_size": 13}
    recipe = Augment(rotation=(60, 60, 0), scale=(0.5, 1.5))
    indices, frames = chosen_frames(store, **facts)
    turned = train_batches(store, **facts, augment=recipe).batch(0, epoch=0).x
    whole = train_batches(store, **facts, augment=recipe, stream=stream, rescale="minmax")
    x = whole.batch(0, epoch=0).x
    for n, (i, chosen) in enumerate(zip(indices, frames, strict=True)):
        assert chosen == sorted(chosen)
        value = store.keypoints(i)[0].astype(np.float64)
        matrix = np.linalg.lstsq(
            value[chosen].reshape(-1, 3), turned[n].reshape(-1, 3), rcond=None
        )[0]
        expected = ctr_gcn_training_clip(value, matrix, chosen, stream, store.skeleton)
        np.testing.assert_allclose(x[n, 0], expected, atol=1e-5)


@pytest.mark.parametrize("sampling", ["uniform", "replay", "resize"])
def test_train_batches_are_pure_functions_of_seed_epoch_and_step(store, sampling):
    def make(seed=3):
        return train_batches(
            store,
            store.indices("all"),
            clip_len=8,
            batch_size=4,
            sampling=sampling,
            augment=STRONG,
            seed=seed,
        )

    batches = make()
    first = everything(batches, epoch=5)
    everything(batches, epoch=0)
    again = [make().batch(step, epoch=5) for step in (2, 1, 0)][::-1]
    for a, b in zip(first, again, strict=True):
        assert_same(a, b)
    for a, b in zip(first[1:], batches.epoch(5, start=1), strict=True):
        assert_same(a, b)
    for other in (batches.batch(0, epoch=6), batches.batch(1, epoch=5), make(4).batch(0, epoch=5)):
        assert not np.array_equal(first[0].indices, other.indices)
        assert not np.array_equal(first[0].x, other.x)


@pytest.mark.parametrize(
    ("sampling", "expected"), [("uniform", "9185b2128e96"), ("resize", "5ea1496359a3")]
)
def test_train_batches_draw_what_they_always_drew(store, sampling, expected):
    """A run that is resumed by a later version must see the same clips."""
    batches = train_batches(
        store,
        store.indices("all"),
        clip_len=8,
        batch_size=4,
        sampling=sampling,
        augment=Augment(crop=(0.5, 0.9), joint_masking=0.2, frame_masking=0.3),
        seed=3,
    )
    drawn = hashlib.sha256()
    for batch in everything(batches, epoch=5):
        drawn.update(batch.indices.tobytes() + batch.x.tobytes())
    assert drawn.hexdigest()[:12] == expected


def test_mixup_mixes_clips_and_labels_alike(store):
    """Every clip with the one before it in the batch, which is drawn as without mixup."""
    plain, mixed = (
        train_batches(store, store.indices("all"), clip_len=8, batch_size=6, augment=augment)
        for augment in (Augment(flip=0.5), Augment(flip=0.5, mixup=0.4))
    )
    for before, after in zip(plain.epoch(0), mixed.epoch(0), strict=True):
        own = np.array([row[label] for row, label in zip(after.labels, before.labels, strict=True)])
        assert (own >= 0.5).all()
        assert after.labels.sum(1) == pytest.approx(1)
        np.testing.assert_array_equal(after.indices, before.indices)
        same = before.labels == np.roll(before.labels, 1)
        assert not same.all()
        own, both = own[~same, None, None, None, None], (before.x, np.roll(before.x, 1, axis=0))
        expected = own * both[0][~same] + (1 - own) * both[1][~same]
        np.testing.assert_allclose(after.x[~same], expected, atol=1e-6)


def test_train_batches_draw_frames_anew_in_every_epoch(store):
    longest = np.array([int(store.frames.argmax())])
    batches = train_batches(store, longest, clip_len=8, batch_size=1)
    clips = {batches.batch(0, epoch=e).x.tobytes() for e in range(6)}
    assert len(clips) == 6


@pytest.mark.parametrize("sampling", ["uniform", "resize"])
@pytest.mark.parametrize("rescale", ["none", "minmax"])
def test_processes_share_one_global_batch(store, sampling, rescale):
    facts = {"clip_len": 8, "sampling": sampling, "augment": STRONG, "rescale": rescale}
    whole = train_batches(store, store.indices("all"), batch_size=6, **facts)
    parts = [
        train_batches(store, store.indices("all"), batch_size=2, rank=r, world_size=3, **facts)
        for r in range(3)
    ]
    assert {len(p) for p in parts} == {len(whole)} == {2}
    for step in range(2):
        shares = [p.batch(step, epoch=1) for p in parts]
        assert [len(s.x) for s in shares] == [2, 2, 2]
        expected = whole.batch(step, epoch=1)
        order = np.arange(6).reshape(2, 3).T.ravel()  # process r has clips r, r + 3
        for joined, wanted in zip(zip(*shares, strict=True), expected, strict=True):
            np.testing.assert_array_equal(np.concatenate(joined), wanted[order])


def test_an_epoch_goes_through_the_clips_as_often_as_repeat_says(store):
    batches = train_batches(store, store.indices("train"), clip_len=4, batch_size=3, repeat=3)
    assert len(batches) == 9
    seen = np.concatenate([b.indices for b in everything(batches)])
    np.testing.assert_array_equal(np.sort(seen), np.repeat(store.indices("train"), 3))
    assert not np.array_equal(seen, np.sort(seen))


def test_balanced_epochs_draw_every_class_equally_often():
    labels = np.array([9] + [0] * 20 + [1] * 3 + [2] * 7)  # the first clip is not of this part
    indices = np.arange(1, 31)
    for seed in range(3):
        drawn = draw_balanced(indices, labels, 2, np.random.default_rng(seed))
        assert np.bincount(labels[drawn]).tolist() == [20, 20, 20]
        times = np.bincount(drawn, minlength=31)
        assert times[0] == 0
        assert set(times[1:21]) == {1}
        assert set(times[21:24]) == {6, 7}
        assert set(times[24:]) == {2, 3}
    classes = np.bincount(labels[draw_balanced(indices[:-1], labels, 1, np.random.default_rng(0))])
    assert sorted(classes) == [9, 10, 10]


def test_balanced_batches_are_the_same_for_any_number_of_processes(store):
    part = np.arange(len(store))
    args = {"clip_len": 4, "balanced": True, "seed": 3}
    one = train_batches(store, part, batch_size=4, **args)
    ranks = [train_batches(store, part, batch_size=2, rank=r, world_size=2, **args) for r in (0, 1)]
    assert len(one) == len(ranks[0]) == len(part) // 4
    for epoch, step in ((0, 0), (2, len(one) - 1)):
        whole, *parts = (b.batch(step, epoch=epoch) for b in (one, *ranks))
        for rank, mine in enumerate(parts):
            np.testing.assert_array_equal(mine.indices, whole.indices[rank::2])
            np.testing.assert_array_equal(mine.x, whole.x[rank::2])


def test_a_last_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one(store):
    every = store.indices("all")
    assert len(train_batches(store, every, clip_len=4, batch_size=5)) == 2
    only = train_batches(store, every, clip_len=4, batch_size=50)
    assert len(only) == 1
    assert sorted(only.batch(0, epoch=0).indices) == list(every)


@pytest.mark.parametrize("sampling", ["uniform", "replay"])
def test_rotation_and_scale_move_a_clip_as_a_rigid_body(store, sampling):
    plain, moved = (
        train_batches(
            store, store.indices("all"), clip_len=8, batch_size=13, sampling=sampling, **more
        ).batch(0, epoch=0)
        for more in ({}, {"augment": Augment(rotation=(0, 0, 30), scale=(0.5, 2))})
    )
    np.testing.assert_array_equal(plain.indices, moved.indices)
    factors, angles = [], []
    for a, b in zip(plain.x, moved.x, strict=True):
        rows, turned = a.reshape(-1, 3), b.reshape(-1, 3)
        matrix = np.linalg.lstsq(rows, turned, rcond=None)[0]
        np.testing.assert_allclose(rows @ matrix, turned, atol=1e-5)
        factor = np.cbrt(np.linalg.det(matrix))
        np.testing.assert_allclose(matrix @ matrix.T, factor**2 * np.eye(3), atol=1e-4)
        np.testing.assert_allclose(matrix[2], [0, 0, factor], atol=1e-5)
        factors.append(factor)
        angles.append(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
    assert 0.5 <= min(factors) < max(factors) <= 2
    assert -30 <= min(angles) < 0 < max(angles) <= 30


def test_rotation_is_that_of_ctr_gcn(store):
    """About y, then about x, each by its own angle: points @ Ry @ Rx."""
    plain, moved = (
        train_batches(store, store.indices("all"), clip_len=8, batch_size=13, **more)
        for more in ({}, {"augment": Augment(rotation=(60, 60, 0))})
    )
    a, b = plain.batch(0, epoch=0).x, moved.batch(0, epoch=0).x
    for rows, turned in zip(a.reshape(13, -1, 3), b.reshape(13, -1, 3), strict=True):
        matrix = np.linalg.lstsq(rows, turned, rcond=None)[0]
        ax = np.arctan2(matrix[1, 2], matrix[1, 1])
        ay = np.arctan2(matrix[2, 0], matrix[0, 0])
        ry = [[np.cos(ay), 0, -np.sin(ay)], [0, 1, 0], [np.sin(ay), 0, np.cos(ay)]]
        rx = [[1, 0, 0], [0, np.cos(ax), np.sin(ax)], [0, -np.sin(ax), np.cos(ax)]]
        np.testing.assert_allclose(matrix, np.array(ry) @ rx, atol=1e-4)
        assert abs(np.degrees([ax, ay])).max() <= 60.001


def test_bones_subtract_scores_as_well_if_asked_to(scored_store):
    """As the author's script does for Kinetics: all three numbers minus the parent's."""
    every = scored_store.indices("all")
    batches = clips_to_test(
        scored_store, every, stream="bone", sampling="replay", clip_len=3, bone_scores="difference"
    )
    x = next(iter(batches)).x
    clip = scored_store.keypoints(int(every[0]))
    chosen = np.arange(3) % clip.shape[1]
    expected = clip[:, chosen] - clip[:, chosen][:, :, list(scored_store.skeleton.parents)]
    np.testing.assert_allclose(x[0, 0, : len(clip)], expected[: x.shape[2]], atol=1e-6)
    with pytest.raises(ValueError, match="unknown bone_scores 'sum': expected one of mean, diff"):
        clips_to_test(scored_store, every, bone_scores="sum")


def test_augmentation_leaves_scores_alone(scored_store):
    plain, moved = (
        train_batches(scored_store, scored_store.indices("all"), clip_len=8, batch_size=13, **more)
        for more in (
            {},
            {"augment": Augment(rotation=(0, 0, 90), scale=(2, 2)), "rescale": "minmax"},
        )
    )
    a, b = plain.batch(0, epoch=0).x, moved.batch(0, epoch=0).x
    np.testing.assert_array_equal(a[..., 2], b[..., 2])
    assert not np.isclose(a[..., :2], b[..., :2]).all()


@pytest.mark.parametrize("stream", STREAMS)
def test_ctr_gcn_recipe_in_test_mode_agrees_with_a_slow_loop(ucla_store, stream):
    store = ucla_store
    batches = clips_to_test(
        store,
        store.indices("all"),
        stream=stream,
        clip_len=10,
        num_persons=1,
        sampling="resize",
        rescale="minmax",
        batch_size=13,
    )
    (x, _, indices) = next(iter(batches))
    parents = store.skeleton.parents
    for n, i in enumerate(indices):
        clip = store.keypoints(i)[0].astype(np.float64)
        points = clip.reshape(-1, 3)
        low, high = points.min(axis=0), points.max(axis=0)
        clip = (clip - low) / (high - low) * 2 - 1
        clip = clip[np.linspace(0, len(clip) - 1, 10).astype(int)]
        if stream.startswith("bone"):
            clip = np.stack([clip[:, v] - clip[:, p] for v, p in enumerate(parents)], 1)
        if stream.endswith("motion"):
            clip = np.concatenate([clip[1:] - clip[:-1], 0 * clip[:1]])
        np.testing.assert_allclose(x[n, 0, 0], clip, atol=2e-6)


def test_minmax_is_taken_after_the_rotation_and_over_the_whole_clip(store):
    batches = train_batches(
        store,
        store.indices("all"),
        clip_len=200,
        num_persons=3,
        batch_size=13,
        sampling="replay",  # longer than every clip, so all frames are there
        augment=Augment(rotation=(60, 60, 60)),
        rescale="minmax",
    )
    x, _, indices = batches.batch(0, epoch=0)
    np.testing.assert_allclose(x.max(axis=(1, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(x.min(axis=(1, 2, 3)), -1, atol=1e-5)
    for clip, i in zip(x, indices, strict=True):
        source = store.keypoints(i)
        absent = ~source.any(axis=(2, 3))
        (chosen,) = replay(np.array([source.shape[1]]), 200)
        np.testing.assert_array_equal(~clip[: len(source)].any(axis=(2, 3)), absent[:, chosen])
        assert not clip[len(source) :].any()


def test_minmax_of_an_axis_without_extent_is_zero(write):
    flat = np.random.default_rng(0).standard_normal((1, 3, 25, 3)).astype(np.float32)
    flat[..., 1] = 4.0
    empty = np.zeros_like(flat)
    store = write([Clip("flat", flat, 0), Clip("empty", empty, 0)])
    batches = clips_to_test(store, np.arange(2), clip_len=3, sampling="replay", rescale="minmax")
    x = next(iter(batches)).x
    assert not x[0, 0, 0, ..., 1].any()
    assert np.abs(x[0, 0, 0, ..., 0]).max() == pytest.approx(1)
    assert not x[1].any()


def test_persons_are_cut_and_padded(store):
    for persons in (1, 2, 5):
        batches = clips_to_test(store, store.indices("all"), clip_len=4, num_persons=persons)
        x, _, indices = next(iter(batches))
        assert x.shape[2] == persons
        for clip, i in zip(x[:, 0], indices, strict=True):
            there = min(persons, int(store.persons[i]))
            assert clip[:there, 0].any(axis=(1, 2)).all() or store.frames[i] == 1
            assert not clip[there:].any()


def test_train_batches_refuse_arguments_out_of_range(store, scored_store):
    every = store.indices("all")
    with pytest.raises(ValueError, match="at least one clip"):
        train_batches(store, np.array([], dtype=int))
    with pytest.raises(ValueError, match="2 training clips cannot be shared by 3 processes"):
        train_batches(store, every[:2], world_size=3)
    with pytest.raises(ValueError, match="only the rotation about z"):
        train_batches(scored_store, every, augment=Augment(rotation=(10, 0, 0)))


@pytest.mark.parametrize("name", ["stream", "sampling", "rescale"])
def test_batches_refuse_unknown_names(store, name):
    with pytest.raises(ValueError, match=f"unknown {name} 'x': expected one of "):
        train_batches(store, store.indices("all"), **{name: "x"})


def test_test_clips_are_turned_all_the_way_round_where_frames_cannot_differ(store):
    """A quarter about y takes z to x and x to -z (right-hand rule)."""
    everything = store.indices("all")
    options = {"clip_len": 8, "sampling": "resize"}
    (one,) = [b.x for b in clips_to_test(store, everything, batch_size=99, **options)]
    (four,) = [
        b.x for b in clips_to_test(store, everything, batch_size=99, num_clips=4, axis=1, **options)
    ]
    x, y, z = np.moveaxis(one[:, 0], -1, 0)
    for clip, turned in enumerate([(x, y, z), (z, y, -x), (-x, y, -z), (-z, y, x)]):
        np.testing.assert_allclose(four[:, clip], np.stack(turned, axis=-1), atol=1e-6)


@pytest.mark.parametrize("stream", STREAMS)
def test_test_clips_are_turned_before_they_are_rescaled(store, stream):
    """As in training: the turned clip fills [-1, 1], and streams are computed of it."""
    indices = store.indices("all")[:3]
    options = {"clip_len": 8, "sampling": "resize", "rescale": "minmax"}
    (found,) = clips_to_test(store, indices, stream=stream, num_clips=8, axis=2, **options)
    for n, i in enumerate(indices):
        whole = store.keypoints(i)[:2]
        for clip, angle in enumerate(np.arange(8) * np.pi / 4):
            turn = np.array(
                [[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
            )
            points = whole @ turn
            seen = whole.any((2, 3))  # frames with this person
            low, high = points[seen].min((0, 1)), points[seen].max((0, 1))
            points[seen] = 2 * (points[seen] - low) / (high - low) - 1
            chosen = points[:, resize(store.frames[[i]], 8)[0]].astype(np.float32)
            made = make_stream(chosen, stream, store.skeleton)
            np.testing.assert_allclose(found.x[n, clip, : len(made)], made, atol=1e-5)


def test_test_clips_with_uniform_sampling_are_not_turned(store):
    options = {"clip_len": 8, "num_clips": 3}
    plain = next(iter(clips_to_test(store, store.indices("all"), **options)))
    assert_same(plain, next(iter(clips_to_test(store, store.indices("all"), axis=1, **options))))


def test_test_batches_refuse_several_clips_that_would_be_the_same(store):
    batches = clips_to_test(store, store.indices("all"), num_clips=10, sampling="resize")
    with pytest.raises(ValueError, match=r"one test clip, found 10 with resize .* angle of 180"):
        next(iter(batches))


def test_prefetch_keeps_the_order_and_the_batches(store):
    batches = train_batches(store, store.indices("all"), clip_len=4, batch_size=2)
    for a, b in zip(prefetch(batches.epoch(1)), everything(batches, epoch=1), strict=True):
        assert_same(a, b)
    assert list(prefetch([])) == []


def test_prefetch_works_ahead_but_not_further_than_its_depth():
    made = []

    def source():
        for i in range(10):
            made.append(i)
            yield i

    items = prefetch(source(), depth=2)
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2]
    assert list(items) == list(range(1, 10))


def test_prefetch_raises_an_error_where_the_item_would_have_come():
    def source():
        yield 1
        yield 2
        raise OSError("disk gone")

    items = prefetch(source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="disk gone"):
        next(items)


def test_prefetch_ends_its_thread_when_the_consumer_stops():
    def threads():
        return [t for t in threading.enumerate() if t.name.startswith("prefetch")]

    items = prefetch(iter(range(1000)))
    next(items)
    assert len(threads()) == 1
    items.close()
    assert not threads()
