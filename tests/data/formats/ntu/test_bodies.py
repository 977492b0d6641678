from __future__ import annotations

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab.data.formats.ntu.bodies import NobodyError, Track, select_bodies
from msg3d_lab.data.formats.ntu.skeleton_file import parse_skeleton

# Upright: 25 joints from the feet to the head, half a metre wide.
POSE = np.stack([np.tile([-0.25, 0.25], 13)[:25], np.linspace(0, 1.7, 25), np.full(25, 3.0)], -1)


def track(body_id, frames, *, motion=0.1, places=0, width=1.0):
    """A body that sways along z; `width` (a number or one for each frame) stretches it along x."""
    frames = np.asarray(frames)
    joints = np.tile(POSE, (len(frames), 1, 1))
    joints[..., 0] *= np.broadcast_to(width, len(frames))[:, None]
    joints[..., 2] += motion * np.sin(frames)[:, None]
    joints[..., 1] += body_id / 1000  # so that bodies can be told apart
    return Track(body_id, frames, np.broadcast_to(places, len(frames)), joints)


def select(*tracks, num_frames=60, **options):
    return select_bodies(list(tracks), num_frames, **options)


def as32(track):
    return track.joints.astype(np.float32)


def test_a_single_body_is_taken_as_it_is():
    lonely = track(1, range(20, 25), width=9)
    selection = select(lonely)
    np.testing.assert_array_equal(selection.keypoints, as32(lonely)[None])
    assert selection.keypoints.dtype == np.float32
    assert (selection.kept, selection.dropped) == (((1,),), ())


@pytest.mark.parametrize(("length", "kept"), [(11, ((1,),)), (12, ((1,), (2,)))])
def test_of_several_a_body_of_eleven_frames_is_dropped(length, kept):
    selection = select(track(1, range(40)), track(2, range(length), motion=0.01))
    assert selection.kept == kept
    assert selection.dropped == (() if length > 11 else ((2, "short: 11 frames"),))


def test_bodies_are_not_dropped_where_nobody_would_be_left():
    short = select(track(1, range(5)), track(2, range(8), motion=0.2))
    assert (short.kept, short.dropped) == (((2,), (1,)), ())
    wide = select(track(1, range(30), width=9), track(2, range(30), width=9, motion=0.2))
    assert (wide.kept, wide.dropped) == (((2,), (1,)), ())


@pytest.mark.parametrize(("wide", "kept"), [(13, ((1,), (2,))), (14, ((1,),))])
def test_a_body_that_is_spread_out_in_most_frames_is_dropped(wide, kept):
    stretched = track(2, range(20), motion=0, width=np.where(np.arange(20) < wide, 5, 1))
    selection = select(track(1, range(40)), stretched)
    assert selection.kept == kept
    assert selection.dropped == (() if wide == 13 else ((2, "spread out in 70% of its frames"),))


@pytest.mark.parametrize(("width", "kept"), [(1, ((1,), (2,))), (1 + 2**-20, ((1,),))])
def test_spread_out_is_wider_than_four_fifths_of_the_height(width, kept):
    box = track(2, range(20), motion=0)
    box.joints[:] = np.linspace([0, 0, 0], [width, 1.25, 0], 25)
    assert select(track(1, range(40), motion=1), box).kept == kept


def test_persons_are_ordered_by_motion_over_the_frames_in_which_they_stand():
    calm, lively = track(1, range(40), motion=0.1), track(2, range(40), motion=0.3)
    assert select(calm, lively).kept == ((2,), (1,))
    # Half of the time it lies on the floor far away: that is not motion.
    jumpy = track(3, range(40), motion=0.01, width=np.where(np.arange(40) < 20, 4, 1))
    jumpy.joints[:20, :, 2] += 5
    assert select(calm, jumpy).kept == ((1,), (3,))


def test_tracks_that_do_not_overlap_become_one_person():
    first, second = track(1, range(20), motion=0.3), track(2, range(20, 50))
    selection = select(second, first)
    assert selection.kept == ((1, 2), ())
    np.testing.assert_array_equal(
        selection.keypoints[0], np.concatenate([as32(first), as32(second)])
    )
    assert selection.keypoints.shape == (2, 50, 25, 3)
    assert not selection.keypoints[1].any()


def test_a_body_beside_two_others_is_dropped():
    tracks = [track(i, range(30), motion=0.1 * i) for i in (1, 2, 3)]
    selection = select(*tracks)
    assert selection.kept == ((3,), (2,))
    assert selection.dropped == ((1, "there together with two of more motion"),)


def test_the_second_person_takes_tracks_after_but_none_before():
    whole = track(1, range(60), motion=0.4)
    late, later = track(2, range(20, 35), motion=0.3), track(3, range(40, 60))
    early = track(4, range(15), motion=0.05)
    selection = select(whole, late, later, early)
    assert selection.kept == ((1,), (2, 3))
    assert [body_id for body_id, _ in selection.dropped] == [4]
    np.testing.assert_array_equal(selection.keypoints[1, 20:35], as32(late))
    np.testing.assert_array_equal(selection.keypoints[1, 40:], as32(later))
    assert not selection.keypoints[1, :20].any()
    assert not selection.keypoints[1, 35:40].any()


def test_frames_at_the_ends_with_nobody_are_cut_off():
    first, second = track(1, range(40), motion=0.3), track(2, range(5, 38))
    for frames in (slice(0, 6), slice(30, 40)):
        first.joints[frames] = 0
    second.joints[:1] = second.joints[-4:] = 0
    first.joints[20] = 0  # not at an end
    selection = select(first, second)
    np.testing.assert_array_equal(selection.keypoints[0], as32(first)[6:34])
    np.testing.assert_array_equal(selection.keypoints[1], as32(second)[1:29])


def test_persons_change_places_if_only_the_second_is_there_at_first():
    late, early = track(1, range(10, 40), motion=0.3), track(2, range(30))
    selection = select(late, early)
    assert selection.kept == ((2,), (1,))
    np.testing.assert_array_equal(selection.keypoints[1, 10:], as32(late))
    assert select(track(1, range(40), motion=0.3), early).kept == ((1,), (2,))


def test_frames_without_a_body_do_not_count_and_gaps_are_closed():
    lost = track(1, [*range(10, 30), *range(36, 50)], motion=0.3)
    other = track(2, range(20, 34))
    selection = select(lost, other)
    # 34 and 35 are empty for everybody, 30 to 33 only for the first body: it is early from there,
    # and nobody is left for the last four frames.
    np.testing.assert_array_equal(selection.keypoints[0], as32(lost))
    np.testing.assert_array_equal(selection.keypoints[1, 10:24], as32(other))


def test_energy_keeps_the_two_places_of_highest_deviation_in_time():
    calm = track(1, range(5, 30), motion=0.1)
    lively = track(2, range(30), motion=0.5, places=1)
    still = track(3, range(30), motion=0, places=2)
    selection = select(calm, lively, still, num_frames=33, bodies="energy")
    assert selection.kept == ((2,), (1,))
    assert selection.dropped == ((3, "less motion in its place of the list than in two others"),)
    assert selection.keypoints.shape == (2, 33, 25, 3)
    np.testing.assert_allclose(selection.keypoints[1, 5:30], calm.joints, rtol=2e-7)
    for person, frames in ((0, [30, 31, 32]), (1, [0, 4, 30])):
        assert not selection.keypoints[person, frames].any()


def test_energy_mixes_up_bodies_that_move_up_in_the_list():
    leaving = track(1, range(10))
    staying = track(2, range(20), motion=0.3, places=np.where(np.arange(20) < 10, 1, 0))
    selection = select(staying, leaving, num_frames=20, bodies="energy")
    assert set(selection.kept) == {(1, 2), (2,)}
    assert selection.dropped == ()


def test_energy_looks_at_four_places_and_one_body_is_one_person():
    crowd = [track(i, range(20), motion=0.1 * i, places=i - 1) for i in range(1, 6)]
    selection = select(*crowd, bodies="energy")
    assert selection.kept == ((4,), (3,))
    assert dict(selection.dropped)[5] == "never among the first 4 of a frame"
    assert select(crowd[0], bodies="energy").keypoints.shape == (1, 60, 25, 3)


@given(st.lists(st.floats(-8, 8, allow_subnormal=False), min_size=75, max_size=75))
def test_energy_rounds_on_to_float16_as_float64_does(numbers):
    joints = np.reshape(numbers, (1, 25, 3))
    joints[0, 0] = 1, 2, 3
    joints[0, 1] = 1 + 2**-11, 1 + 2**-11 + 2**-40, 1 + 3 * 2**-11 - 2**-40  # ties and next to ties
    keypoints = select(Track(1, np.array([0]), np.array([0]), joints), bodies="energy").keypoints
    assert keypoints.dtype == np.float32
    np.testing.assert_array_equal(keypoints[0, :1].astype(np.float16), joints.astype(np.float16))
    np.testing.assert_allclose(keypoints[0, :1], joints, rtol=2**-23, atol=1e-44)


def presence(draw):
    start = draw(st.integers(0, 30))
    frames = np.arange(start, draw(st.integers(start + 1, 40)))
    return np.delete(frames, draw(st.lists(st.sampled_from(range(len(frames))), max_size=2)))


@st.composite
def recordings(draw):
    """One to five bodies who come and go."""
    tracks = []
    for body_id in range(1, draw(st.integers(1, 5)) + 1):
        frames = presence(draw)
        width, motion = draw(st.sampled_from([0.5, 3, 5])), draw(st.sampled_from([0, 0.1, 0.5]))
        if len(frames):
            tracks.append(track(body_id, frames, width=width, motion=motion, places=body_id - 1))
    return tracks


@given(recordings(), st.sampled_from(["denoise", "energy"]))
def test_every_body_is_kept_or_dropped_with_a_reason(tracks, bodies):
    if not tracks:
        return
    before = [t.joints.copy() for t in tracks]
    selection = select_bodies(tracks, 40, bodies=bodies)
    M, T, V, C = selection.keypoints.shape
    assert (1 <= M <= 2, V, C) == (True, 25, 3)
    assert len(selection.kept) == M
    assert T <= 40
    kept = {body_id for person in selection.kept for body_id in person}
    dropped = [body_id for body_id, reason in selection.dropped if reason]
    assert len(dropped) == len(set(dropped))
    assert kept | set(dropped) == {t.body_id for t in tracks}
    assert not kept & set(dropped)
    for t, joints in zip(tracks, before, strict=True):
        np.testing.assert_array_equal(t.joints, joints)


@pytest.mark.parametrize("bodies", ["denoise", "energy"])
def test_nobody_is_an_error(bodies):
    absent = Track(1, np.arange(20), np.zeros(20, int), np.zeros((20, 25, 3)))
    for tracks in ([], [absent], [absent, absent]):
        with pytest.raises(NobodyError, match="found nobody in 60"):
            select(*tracks, bodies=bodies)


def test_an_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match=r"unknown rule 'all' .*: expected denoise or energy"):
        select(track(1, range(20)), bodies="all")


@pytest.mark.shared
@pytest.mark.parametrize(("bodies", "golden"), [("denoise", "denoised"), ("energy", "energy")])
def test_the_fields_files_bit_for_bit(shared_dir, bodies, golden):
    expected = np.load(shared_dir / "golden" / f"ntu_raw_{golden}.npz")
    source = shared_dir / "data" / "ntu-raw" / "nturgbd_skeletons_sample.zip"
    assert len(expected.files) == 49
    with zipfile.ZipFile(source) as archive:
        for name in expected.files:
            content = archive.read(f"nturgb+d_skeletons/{name}.skeleton")
            keypoints = select_bodies(*parse_skeleton(content), bodies=bodies).keypoints
            found = keypoints.astype(np.float16)
            assert found.shape == expected[name].shape, name
            assert found.tobytes() == expected[name].tobytes(), name
