from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_recordings import ID, recording

from msg3d_lab.data.formats.ntu import skeleton_file
from msg3d_lab.data.formats.ntu.bodies import Track, select_bodies
from msg3d_lab.data.formats.ntu.skeleton_file import format_skeleton, parse_skeleton

JOINT = "0.2345678 0.1456789 3.456789 123.456 234.5678 1234.567 345.6789 0 0 0 0 2"


def lines_of(content):
    return content.decode().split("\n")


def assert_same(found, expected):
    (tracks, num_frames), (expected_tracks, expected_frames) = found, expected
    assert num_frames == expected_frames
    assert [t.body_id for t in tracks] == [t.body_id for t in expected_tracks]
    for track, other in zip(tracks, expected_tracks, strict=True):
        for name in ("frames", "places", "joints"):
            np.testing.assert_array_equal(getattr(track, name), getattr(other, name))


def test_parse_reads_what_is_written_out_here():
    body = f"{ID} 0 1 1 1 1 0 0.01234567 0.04567891 2"
    outside = "1 -2.5 3e-05 NaN NaN NaN NaN -0.2 0.05 0.9 -0.1 1"
    other = f"{ID + 1} 0 1 1 1 1 0 0 0 2"
    text = ["3", "0", "1", body, "25", *[JOINT] * 24, outside]
    text += ["2", other, "25", *[JOINT] * 25, body, "25", *[outside] * 25, ""]
    tracks, num_frames = parse_skeleton("\n".join(text).encode())
    assert num_frames == 3
    first, second = tracks
    assert (first.body_id, second.body_id) == (ID, ID + 1)
    assert (first.frames.tolist(), first.places.tolist()) == ([1, 2], [0, 1])
    assert (second.frames.tolist(), second.places.tolist()) == ([2], [0])
    assert first.joints.dtype == np.float64
    np.testing.assert_array_equal(first.joints[0, 23], [0.2345678, 0.1456789, 3.456789])
    np.testing.assert_array_equal(first.joints[0, 24], [1, -2.5, 3e-05])
    np.testing.assert_array_equal(first.joints[1], np.tile([1, -2.5, 3e-05], (25, 1)))


def test_parse_takes_both_line_ends():
    expected = recording()
    unix = format_skeleton(*expected)
    windows = unix.replace(b"\n", b"\r\n")
    for content in (unix, windows, unix.rstrip(), windows.rstrip(), windows + b"\r\n \n"):
        assert_same(parse_skeleton(content), expected)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_parse_reads_ordinary_files_at_once(monkeypatch, newline):
    monkeypatch.setattr(skeleton_file, "_read_by_line", None)
    content = format_skeleton(*recording()).replace(b"\n", newline)
    assert_same(parse_skeleton(content), recording())


@pytest.mark.parametrize(
    ("old", "new"),
    [(" 0 0 0 2\n", " 0 \t0  0 2\n"), (" 2\n", " 2 \n"), ("\n", "\n "), (" 0 0", " +.0 0")],
)
def test_parse_takes_uncommon_spaces_and_numbers(old, new):
    expected = recording()
    content = format_skeleton(*expected).decode()
    assert_same(parse_skeleton(content.replace(old, new).encode()), expected)
    number = repr(float(expected[0][0].joints[0, 0, 0]))
    assert_same(parse_skeleton(content.replace(number, f"+{number}".replace("+-", "-")).encode()),
                expected)  # fmt: skip


def test_parse_of_nobody_and_of_no_frames():
    assert parse_skeleton(b"3\n0\n0\n0\n") == ([], 3)
    assert parse_skeleton(b"0\n") == ([], 0)


coordinates = st.floats(-9e5, 9e5, allow_nan=False)


@st.composite
def recordings(draw):
    num_frames = draw(st.integers(1, 5))
    ids = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3, unique=True))
    present = [
        sorted(draw(st.sets(st.integers(0, num_frames - 1), min_size=1, max_size=num_frames)))
        for _ in ids
    ]
    # Bodies are listed in order of appearance, so that the round trip keeps the order.
    present.sort(key=lambda frames: frames[0])
    tracks = []
    for i, (body_id, frames) in enumerate(zip(ids, present, strict=True)):
        places = [sum(frame in earlier for earlier in present[:i]) for frame in frames]
        values = draw(st.lists(coordinates, min_size=4, max_size=4))
        joints = np.resize(values, (len(frames), 25, 3))
        tracks.append(Track(body_id, np.array(frames), np.array(places), joints))
    return tracks, num_frames


@given(recordings())
def test_what_is_written_is_read_again(recording):
    assert_same(parse_skeleton(format_skeleton(*recording)), recording)


SMALL = format_skeleton(*recording(4, 2))


def check_damaged(content):
    """ValueError with the line, or a result of sound structure."""
    try:
        tracks, num_frames = parse_skeleton(content)
    except ValueError as error:
        if not str(error).startswith("line "):
            raise
        return None
    for track in tracks:
        assert len(track.frames) == len(track.places) == len(track.joints)
        assert track.joints.shape[1:] == (25, 3)
        assert np.isfinite(track.joints).all()
        assert (np.diff(track.frames) > 0).all()
        assert 0 <= track.frames.min() <= track.frames.max() < num_frames
    if tracks:
        selection = select_bodies(tracks, num_frames)
        assert np.isfinite(selection.keypoints).all()
        assert np.isfinite(select_bodies(tracks, num_frames, bodies="energy").keypoints).all()
    return tracks


def test_every_truncation_is_noticed():
    content = format_skeleton(*recording(4, 1))
    for length in range(0, len(content) - 1, 7):
        assert check_damaged(content[:length]) is None, length
    assert check_damaged(content[:-1]) is not None


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
@settings(max_examples=60)
def test_a_changed_byte_gives_an_error_or_a_sound_result(where, byte):
    changed = bytearray(SMALL)
    changed[where] = byte
    check_damaged(bytes(changed))


@given(st.integers(0, len(SMALL)), st.integers(0, 300), st.binary(max_size=40))
@settings(max_examples=40)
def test_a_replaced_part_gives_an_error_or_a_sound_result(start, length, part):
    check_damaged(SMALL[:start] + part + SMALL[start + length :])


@given(st.one_of(st.binary(max_size=200), st.text("0123456789 \n\r.e-", max_size=200)))
def test_garbage_gives_an_error_or_a_sound_result(garbage):
    check_damaged(garbage if isinstance(garbage, bytes) else garbage.encode())


def with_line(number, text):
    """The file with line `number` (1-based) replaced, or taken out."""
    lines = lines_of(SMALL)
    lines[number - 1 : number] = [] if text is None else [text]
    return "\n".join(lines).encode()


# Lines of SMALL: 1 frame count; 2 body count; 3 body, 4 joint count, 5 to 29 joints; 30 body ...
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: expected the number of frames, found ''"),
        (b"\x00\xff\n", r"line 1: expected the number of frames, found '\\x00\\\\xff'"),
        (with_line(1, "four"), "line 1: expected the number of frames, found 'four'"),
        (with_line(1, "-4"), "line 1: expected the number of frames, found '-4'"),
        (with_line(1, "5"), "line 168: expected the number of bodies in frame 5, found the end"),
        (with_line(1, "3"), "line 113: expected the end of the file after 3 frames, found '2'"),
        (SMALL + b"and more\n", "line 168: expected the end of the file after 4 frames, found 'an"),
        (with_line(2, "2 2"), "line 2: expected the number of bodies in frame 1, found '2 2'"),
        (with_line(2, "9"), "line 57: expected 10 fields, a body number first, found '2'"),
        (with_line(3, "5 0 1"), "line 3: expected 10 fields, a body number first, found '5 0 1'"),
        (with_line(3, "7.2e16 0 0 0 0 0 0 0 0 2"), "line 3: expected 10 fields, a body number fi"),
        (
            with_line(3, "9" * 5000 + " 0" * 9),
            "line 3: expected 10 fields, .* found '9{40}'\\.\\.\\.",
        ),
        (with_line(4, "20"), "line 4: expected 25 joints, found '20'"),
        (with_line(4, "many"), "line 4: expected the number of joints, found 'many'"),
        (with_line(30, lines_of(SMALL)[2]), f"line 30: expected another body than {ID}, which"),
        (with_line(7, "1 2 3"), r"line 7: expected joint 3 of 25 in frame 1, 12 fields \(not 3\)"),
        (with_line(7, JOINT + " 0"), r"line 7: expected joint 3 .* \(not 13\)"),
        (with_line(7, JOINT.replace(" 2", " ")), r"line 7: expected joint 3 .* \(not 11\)"),
        (with_line(7, JOINT.replace("0.1", "x")), "line 7: expected numbers x, y and z first, fo"),
        (with_line(7, JOINT.replace("0.1", "1_")), "line 7: expected numbers x, y and z first"),
        (with_line(7, JOINT.replace("0.1456789", "NaN")), "line 7: expected numbers x, y and z"),
        (with_line(7, JOINT.replace("0.1456789", "-inf")), "line 7: expected numbers x, y and z"),
        (with_line(7, JOINT.replace("0.1456789", "1e999")), r"line 7: expected x, y and z below"),
        (with_line(7, JOINT.replace("0.1456789", "-1e6")), r"line 7: .* below 1e\+06 m first"),
        (with_line(7, ""), r"line 7: expected joint 3 of 25 in frame 1, 12 fields \(not 0\)"),
        (with_line(7, None), r"line 29: expected joint 25 .* \(not 10\), found '72"),
    ],
)
def test_parse_says_which_line_is_wrong(content, message):
    with pytest.raises(ValueError, match=message):
        parse_skeleton(content)
