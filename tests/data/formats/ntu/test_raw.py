from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
from made_recordings import recording

from msg3d_lab import skeletons
from msg3d_lab.data import datasets, import_dataset, open_store
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.ntu import raw as ntu_raw
from msg3d_lab.data.formats.ntu.bodies import select_bodies
from msg3d_lab.data.formats.ntu.raw import (
    read_clips,
    read_ntu_skeleton,
)
from msg3d_lab.data.formats.ntu.skeleton_file import format_skeleton, write_ntu_skeleton
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.preprocess import prepare_3d, prepare_paper

NTU60, NTU120 = datasets.DATASETS["ntu60"], datasets.DATASETS["ntu120"]
CUT_SHORT = format_skeleton(*recording(4, 2))[:-100]


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
    path.write_bytes(CUT_SHORT)
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
    assert (len(recordings.clips), recordings.channels) == (5, 3)
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


def test_clips_are_prepared_as_in_the_paper(tmp_path):
    source = save_folder(tmp_path / "skeletons", contents())
    recordings = read_clips([source], dataset=NTU60, own=OwnData(prepare="paper"))
    assert recordings.preparation["name"] == "prepare_paper"
    assert recordings.preparation["bodies"] == "energy"
    clip = clips_of(recordings)["S017C003P001R001A060"]
    keypoints = select_bodies(*recording(20, seed=2), bodies="energy").keypoints
    np.testing.assert_array_equal(clip.keypoints, prepare_paper(keypoints, recordings.skeleton))
    with pytest.raises(ValueError, match=r"unknown preparation 'center' of .* align or paper"):
        read_clips([source], dataset=NTU60, own=OwnData(prepare="center"))
    path = import_dataset(source, dataset="ntu60", out=tmp_path / "x.arrow", prepare="paper")
    assert open_store(path).preparation["name"] == "prepare_paper"


def test_clips_of_ntu120_come_from_both_zips(tmp_path):
    first = save_zip(tmp_path / "nturgbd_skeletons_s001_to_s017.zip", contents(NAMES[:3]))
    second = save_zip(tmp_path / "nturgbd_skeletons_s018_to_s032.zip", contents(NAMES[3:]))
    own = OwnData(keep_missing=True, bodies="energy")
    recordings = read_clips([first, second], dataset=NTU120, own=own)
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
        "S001C001P001R001A001": CUT_SHORT,
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
        read_clips([tmp_path], dataset=NTU60, own=OwnData(bodies="best"))


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
    assert len(clips) == len(recordings.clips) == 49
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


def test_own_files_have_any_names_and_a_csv_of_labels(tmp_path):
    own = datasets.Dataset("mine", title="mine", layouts=(), label_names=(), protocols=())
    for i, name in enumerate(("fall 1", "walk-2", "extra")):
        write_ntu_skeleton(tmp_path / f"{name}.skeleton", *recording(20, seed=i))
    labels = tmp_path / "labels.csv"
    labels.write_text("sample,label,splits\nfall 1,fall,train\nwalk-2,walk,test\ngone,walk,test\n")
    found = read_clips([tmp_path], dataset=own)
    clips = {clip.id: clip for clip in found.clips}
    assert found.label_names == ("fall", "walk")
    assert (clips["walk-2"].label, clips["walk-2"].splits) == (1, ("test",))
    raw = read_ntu_skeleton(tmp_path / "fall 1.skeleton")
    np.testing.assert_array_equal(
        clips["fall 1"].keypoints, prepare_3d(raw, skeletons.get("ntu25"))
    )
    assert clips["extra"] == LeftOut("extra", "recordings without a label")
    assert clips["gone"] == LeftOut("gone", "labels without a recording")
    # An interrupted import goes on only with the same labels, by this record.
    before = found.preparation
    assert read_clips([tmp_path], dataset=own).preparation == before
    labels.write_text(labels.read_text().replace("walk,test", "walk,train"))
    assert read_clips([tmp_path], dataset=own).preparation != before
    with pytest.raises(ValueError, match="have 25 joints, the layout coco17 has 17"):
        read_clips([tmp_path], dataset=own, own=OwnData(layout="coco17"))
    with pytest.raises(ValueError, match="ntu60 has its own layout and labels"):
        read_clips([tmp_path], dataset=NTU60, own=OwnData(labels=labels))
