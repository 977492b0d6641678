from __future__ import annotations

import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats import ntu_raw, skeleton_file
from msg3d_lab.data.formats.bodies import Track, select_bodies
from msg3d_lab.data.formats.ntu_raw import (
    read_clips,
    read_ntu_skeleton,
)
from msg3d_lab.data.formats.skeleton_file import format_skeleton, parse_skeleton, write_ntu_skeleton
from msg3d_lab.data.preprocess import prepare_3d

NTU60, NTU120 = datasets.get("ntu60"), datasets.get("ntu120")
ID = 72057594037931101  # above 2^53: as float64 it would be ...104
JOINT = "0.2345678 0.1456789 3.456789 123.456 234.5678 1234.567 345.6789 0 0 0 0 2"


def recording(num_frames=6, bodies=2, seed=0):
    """Tracks of everybody in every frame but the third, where nobody is."""
    rng = np.random.default_rng(seed)
    frames = np.delete(np.arange(num_frames), 2)
    return [
        Track(
            ID + place,
            frames,
            np.full(len(frames), place),
            # Tall enough for a standing person.
            rng.uniform([-0.4, -1, 2], [0.4, 1, 4], (len(frames), 25, 3)).round(7),
        )
        for place in range(bodies)
    ], num_frames


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
    unix, windows = (format_skeleton(*expected, newline=newline) for newline in ("\n", "\r\n"))
    assert windows == unix.replace(b"\n", b"\r\n")
    for content in (unix, windows, unix.rstrip(), windows.rstrip(), windows + b"\r\n \n"):
        assert_same(parse_skeleton(content), expected)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_parse_reads_ordinary_files_at_once(monkeypatch, newline):
    monkeypatch.setattr(skeleton_file, "_read_by_line", None)
    assert_same(parse_skeleton(format_skeleton(*recording(), newline=newline)), recording())


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


@given(recordings(), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read_again(recording, newline):
    assert_same(parse_skeleton(format_skeleton(*recording, newline=newline)), recording)


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
    for length in range(len(content) - 1):
        assert check_damaged(content[:length]) is None, length
    assert check_damaged(content[:-1]) is not None


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
@settings(max_examples=400)
def test_a_changed_byte_gives_an_error_or_a_sound_result(where, byte):
    changed = bytearray(SMALL)
    changed[where] = byte
    check_damaged(bytes(changed))


@given(st.integers(0, len(SMALL)), st.integers(0, 300), st.binary(max_size=40))
@settings(max_examples=200)
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
        (with_line(1, "5"), r"line 168: expected frame 5 of 5, found the end of the file"),
        (with_line(1, "3"), "line 113: expected the end of the file after 3 frames, found '2'"),
        (SMALL + b"and more\n", "line 168: expected the end of the file after 4 frames, found 'an"),
        (with_line(2, "2 2"), "line 2: expected the number of bodies in frame 1, found '2 2'"),
        (with_line(2, "9"), "line 2: 9 bodies are claimed in frame 1 of 4: expected 243 .* 165"),
        (with_line(3, "5 0 1"), "line 3: expected 10 fields, a body number first, found '5 0 1'"),
        (with_line(3, "7.2e16 0 0 0 0 0 0 0 0 2"), "line 3: expected 10 fields, a body number fi"),
        (
            with_line(3, "9" * 5000 + " 0" * 9),
            "line 3: expected 10 fields, .* found '9{40}'\\.\\.\\.",
        ),
        (with_line(4, "20"), "line 4: expected 25 joints, found 20"),
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


@pytest.mark.parametrize(
    "content",
    [
        b"999999999\n0\n",
        b"9" * 100_000 + b"\n",
        with_line(2, "999999999"),
        with_line(4, "999999999"),
        b"400000\n" + b"0\n" * 400_000,
        b"1\n" + b"x" * 5_000_000,
    ],
    ids=["frames", "digits", "bodies", "joints", "hours", "line"],
)
def test_what_a_file_claims_costs_nothing(content):
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(ValueError, match="line "):
        parse_skeleton(content)
    assert time.process_time() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 1 << 25
    tracemalloc.stop()


def test_read_and_write_a_file(tmp_path):
    tracks, num_frames = recording()
    path = write_ntu_skeleton(tmp_path / "S001C001P001R001A001.skeleton", tracks, num_frames)
    keypoints = read_ntu_skeleton(path)
    assert keypoints.dtype == np.float32
    assert keypoints.shape == (2, 5, 25, 3)
    np.testing.assert_array_equal(keypoints, select_bodies(tracks, num_frames).keypoints)
    energy = select_bodies(tracks, num_frames, bodies="energy").keypoints
    np.testing.assert_array_equal(read_ntu_skeleton(str(path), bodies="energy"), energy)
    with pytest.raises(FileExistsError):
        write_ntu_skeleton(path, tracks, num_frames)
    with pytest.raises(ValueError, match=r"expected frames 0 to 3, found 0 to 5"):
        format_skeleton(tracks, 4)
    with pytest.raises(ValueError, match="unknown rule 'both'"):
        read_ntu_skeleton(path, bodies="both")


def test_read_names_the_file_that_cannot_be_read(tmp_path):
    path = tmp_path / "S001C001P001R001A001.skeleton"
    with pytest.raises(FileNotFoundError):
        read_ntu_skeleton(path)
    path.write_bytes(SMALL[:-100])
    with pytest.raises(ValueError, match=r"R001A001\.skeleton: line "):
        read_ntu_skeleton(path)
    path.write_bytes(b"2\n0\n0\n")
    with pytest.raises(ValueError, match=r"R001A001\.skeleton: .*found nobody in 2"):
        read_ntu_skeleton(path)


LISTED, OTHER = "S001C002P005R002A008", "S001C002P005R002A007"
NAMES = (LISTED, OTHER, "S017C003P001R001A060", "S018C001P003R002A061", "S002C001P001R001A100")


def contents(names=NAMES):
    return {name: format_skeleton(*recording(20, seed=i)) for i, name in enumerate(names)}


def save_folder(path, contents):
    path.mkdir()
    for name, content in contents.items():
        (path / f"{name}.skeleton").write_bytes(content)
    return path


def save_zip(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"nturgb+d_skeletons/{name}.skeleton", content)
    return path


def clips_of(recordings):
    """What became of each recording, by name."""
    found = {}
    for i in range(len(recordings.clips)):
        clip = recordings.clips[i]
        found.setdefault(clip.id, []).append(clip)
    return {name: clips[0] if len(clips) == 1 else clips for name, clips in found.items()}


@pytest.mark.parametrize("save", [save_folder, save_zip])
def test_clips_of_ntu60(tmp_path, save):
    source = save(tmp_path / "skeletons", contents())
    recordings = read_clips([source], dataset=NTU60)
    assert (recordings.count, recordings.channels) == (5, 3)
    assert recordings.skeleton == skeletons.get("ntu25")
    found = clips_of(pickle.loads(pickle.dumps(recordings)))
    assert {name: clip.reason for name, clip in found.items() if isinstance(clip, LeftOut)} == {
        LISTED: "on the authors' list of missing skeletons",
        "S018C001P003R002A061": "not of ntu60",
        "S002C001P001R001A100": "not of ntu60",
    }
    clip = found["S017C003P001R001A060"]
    assert isinstance(clip, Clip)
    assert (clip.label, clip.subject, clip.camera, clip.setup) == (59, 1, 3, 17)
    assert clip.splits == ("xsub_train", "xview_train")
    assert found[OTHER].label == 6
    keypoints = select_bodies(*recording(20, seed=2)).keypoints
    np.testing.assert_array_equal(clip.keypoints, prepare_3d(keypoints, recordings.skeleton))


def test_clips_of_ntu120_come_from_both_zips(tmp_path):
    first = save_zip(tmp_path / "nturgbd_skeletons_s001_to_s017.zip", contents(NAMES[:3]))
    second = save_zip(tmp_path / "nturgbd_skeletons_s018_to_s032.zip", contents(NAMES[3:]))
    recordings = read_clips([first, second], dataset=NTU120, keep_missing=True, bodies="energy")
    found = clips_of(recordings)
    assert sorted(found) == sorted(NAMES)
    assert all(isinstance(clip, Clip) for clip in found.values())
    assert found["S018C001P003R002A061"].splits == ("xsub_val", "xset_train")
    assert recordings.preparation == {
        "name": "prepare_3d",
        "scored": False,
        "bodies": "energy",
        "keep_missing": True,
        "format": "NTU RGB+D raw",
        "source": "nturgbd_skeletons_s001_to_s017.zip, nturgbd_skeletons_s018_to_s032.zip",
        "sha256": recordings.preparation["sha256"],
    }
    changed = save_zip(tmp_path / "changed.zip", contents(NAMES[2:3]))
    assert (
        read_clips([changed], dataset=NTU120).preparation["sha256"]
        != (read_clips([second], dataset=NTU120).preparation["sha256"])
    )


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path):
    files = contents(NAMES[1:3]) | {
        "S001C001P001R001A001": SMALL[:-100],
        "S001C001P001R001A002": b"2\n0\n0\n",
        "S001C001P001R001A003": format_skeleton([], 4),
        "S001C001P001R001A004": b"\xff" * 100,
        "S018C001P001R001A061": b"never looked at",
        "notes": b"neither",
    }
    again = save_folder(tmp_path / "again", contents([OTHER]))
    source = save_zip(tmp_path / "skeletons.zip", files)
    found = clips_of(read_clips([source, again], dataset=NTU60))
    first, second = found.pop(OTHER)
    assert isinstance(first, Clip)
    assert (second.reason, "again: " in second.detail) == ("occurs twice", False)
    assert second.detail == f"skeletons.zip: nturgb+d_skeletons/{OTHER}.skeleton"
    assert isinstance(found.pop("S017C003P001R001A060"), Clip)
    assert {name: entry.reason for name, entry in found.items()} == {
        "S001C001P001R001A001": "cannot be read",
        "S001C001P001R001A002": "nobody in any frame",
        "S001C001P001R001A003": "nobody in any frame",
        "S001C001P001R001A004": "cannot be read",
        "S018C001P001R001A061": "not of ntu60",
        "notes": "not an NTU name",
    }
    assert found["S001C001P001R001A001"].detail.startswith("line ")
    assert found["S001C001P001R001A002"].detail == "2 frames"


def test_read_clips_refuses_what_it_cannot_import(tmp_path):
    with pytest.raises(ValueError, match=r"has no files such as S001C001P001R001A001\.skeleton"):
        read_clips([tmp_path], dataset=NTU60)
    with pytest.raises(ValueError, match="unknown rule 'best'"):
        read_clips([tmp_path], dataset=NTU60, bodies="best")
    with pytest.raises(ValueError, match="those of ntu60 and ntu120, found 'nw-ucla'"):
        read_clips([tmp_path], dataset=datasets.get("nw-ucla"))


def test_the_importer_recognises_folders_and_zips(tmp_path):
    assert ntu_raw.IMPORTER.is_source(save_zip(tmp_path / "a.zip", contents([OTHER])))
    assert ntu_raw.IMPORTER.is_source(save_folder(tmp_path / "folder", contents([OTHER])))
    assert ntu_raw.IMPORTER.is_source(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.pkl").write_bytes(b"\x80\x02N.")
    assert not ntu_raw.IMPORTER.is_source(save_zip(tmp_path / "c.zip", {}))
    assert not ntu_raw.IMPORTER.is_source(tmp_path / "empty")
    assert not ntu_raw.IMPORTER.is_source(tmp_path / "b.pkl")


@pytest.mark.shared
def test_the_sample_of_the_real_files(shared_dir, tmp_path):
    source = shared_dir / "data" / "ntu-raw" / "nturgbd_skeletons_sample.zip"
    recordings = read_clips([source], dataset=NTU120)
    clips = list(recordings.clips)
    assert len(clips) == recordings.count == 49
    assert all(isinstance(clip, Clip) for clip in clips)
    golden = np.load(shared_dir / "golden" / "ntu_raw_denoised.npz")
    with zipfile.ZipFile(source) as archive:
        archive.extractall(tmp_path)
    for clip in clips:
        path = tmp_path / "nturgb+d_skeletons" / f"{clip.id}.skeleton"
        keypoints = read_ntu_skeleton(path)
        np.testing.assert_array_equal(keypoints.astype(np.float16), golden[clip.id])
        np.testing.assert_array_equal(clip.keypoints, prepare_3d(keypoints, recordings.skeleton))
        energy = read_ntu_skeleton(path, bodies="energy").astype(np.float16)
        assert energy.shape == golden[clip.id].shape
    of_60 = [
        clip.id for clip in read_clips([source], dataset=NTU60).clips if hasattr(clip, "label")
    ]
    assert of_60 == [clip.id for clip in clips if clip.setup <= 17]
    assert len(of_60) == 14
