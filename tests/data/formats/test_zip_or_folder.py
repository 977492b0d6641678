from __future__ import annotations

import pickle
import zipfile
from functools import partial

import numpy as np
import pytest

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.importer import LazyClips
from msg3d_lab.data.formats.zip_or_folder import (
    digest_members,
    has_members,
    list_members,
    read_member,
)


def read(member, *, only=b"", **limit):
    """A clip of one number, which the file holds as text."""
    content = read_member(member, **limit)
    if not content.startswith(only):
        raise ValueError(f"expected {only!r}")
    return Clip(member.id, np.full((1, 1, 1, 1), float(content), np.float32), 0)


def make_zip(path, files, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.num").write_text("2")
    (tmp_path / "in" / "deep" / "a.num").write_text("1")
    (tmp_path / "in" / "c.txt").write_text("other")
    return tmp_path / "in"


def test_members_of_folders_and_zips_come_in_order_of_their_names(folder, tmp_path):
    archive = make_zip(tmp_path / "z.zip", {"x/y/aa.num": "3", "x/": "", "b.txt": ""})
    members = list_members([folder, archive], suffix=".num")
    assert [m.id for m in members] == ["a", "aa", "b"]
    assert [m.source for m in members] == [folder, archive, folder]
    assert [m.size for m in members] == [1, 1, 1]
    assert [m.crc is None for m in members] == [True, False, True]
    clips = LazyClips(members, read)
    assert [float(c.keypoints.item()) for c in clips] == [1, 3, 2]
    assert len(clips[1:]) == 2
    assert clips[1:][0].id == "aa"


def test_member_clips_pickle_and_read_afterwards(tmp_path):
    archive = make_zip(tmp_path / "z.zip", {"a.num": "1", "b.num": "2"})
    clips = LazyClips(list_members([archive], suffix=".num"), partial(read, only=b"2"))
    assert clips[1].id == "b"  # the archive is open
    again = pickle.loads(pickle.dumps(clips))
    assert again[1].keypoints == 2
    assert again[0] == LeftOut("a", "cannot be read", "expected b'2'")


def test_what_is_left_out_unread_stays_so(tmp_path):
    clips = LazyClips([LeftOut("x", "too dark")], read)
    assert list(clips) == [LeftOut("x", "too dark")]


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        list_members([tmp_path / "none"], suffix=".num")
    (tmp_path / "z.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="not a zip, or it is damaged or cut short"):
        list_members([tmp_path / "z.zip"], suffix=".num")


def test_what_macos_adds_is_passed_over(tmp_path):
    files = {"a.num": "1", "__MACOSX/._a.num": "x", "._b.num": "x"}
    archive = make_zip(tmp_path / "z.zip", files)
    assert [m.name for m in list_members([archive], suffix=".num")] == ["a.num"]


def explode(member):
    raise OSError("the network is away")


def test_a_failing_disk_is_no_fault_of_a_recording(tmp_path):
    archive = make_zip(tmp_path / "z.zip", {"a.num": "1"})
    with pytest.raises(OSError, match="the network is away"):
        LazyClips(list_members([archive], suffix=".num"), explode)[0]


@pytest.mark.parametrize("error", [OverflowError, IndexError, RecursionError, KeyError])
def test_whatever_damaged_content_raises_leaves_out_that_recording(tmp_path, error):
    def read(member):
        raise error("bad")

    archive = make_zip(tmp_path / "z.zip", {"a.num": "1"})
    assert LazyClips(list_members([archive], suffix=".num"), read)[0].reason == "cannot be read"


def test_a_source_that_is_gone_is_an_error_and_no_recording_is_left_out(tmp_path):
    archive = make_zip(tmp_path / "z.zip", {"a.num": "1"})
    clips = LazyClips(list_members([archive], suffix=".num"), read)
    archive.unlink()
    with pytest.raises(FileNotFoundError):
        clips[0]


def test_digest_tells_sources_apart(tmp_path):
    def digest(name, files):
        return digest_members(list_members([make_zip(tmp_path / name, files)], suffix=".num"))

    first = digest("a.zip", {"a.num": "1"})
    assert first == digest("b.zip", {"a.num": "1"})
    assert len({first, digest("c.zip", {"a.num": "2"}), digest("d.zip", {"b.num": "1"})}) == 3


def test_has_members_looks_at_names(folder, tmp_path):
    archive = make_zip(tmp_path / "z.zip", {"x/a.num": "1"})
    for source in (folder, archive):
        assert has_members(source, lambda name: name.endswith("a.num"))
        assert not has_members(source, lambda name: name.endswith("z.num"))
    assert not has_members(folder / "c.txt", lambda name: True)
    assert not has_members(tmp_path / "none", lambda name: True)
