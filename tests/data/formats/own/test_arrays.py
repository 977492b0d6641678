import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_recordings import body, clips, left_out, read_clips, write_labels

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.own import faults


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", ">f4"])
def test_read_clips_reads_arrays_of_any_numbers(dtype, folder, layout):
    whole = np.arange(1, 25).reshape(1, 2, 4, 3)
    found = read_clips(
        folder(a=whole.astype(dtype), b=whole[0].astype(dtype)), layout=layout, prepare="none"
    )
    assert len(found.clips) == 2
    for clip in found.clips:
        assert clip.keypoints.dtype == np.float32
        np.testing.assert_array_equal(clip.keypoints, whole)


def test_read_clips_of_a_folder_are_a_picklable_sequence(folder, layout):
    path = folder(**{f"c{i}": body(seed=i) for i in range(6)})
    path.joinpath("c3.npy").write_bytes(b"damaged")
    found = read_clips(path, layout=layout)
    part = pickle.loads(pickle.dumps(found.clips[2:5]))
    assert [clip.id for clip in part] == ["c2", "c3", "c4"]
    assert part[1].reason == "cannot be read"
    for i, clip in enumerate(part):
        if i != 1:
            np.testing.assert_array_equal(clip.keypoints, found.clips[i + 2].keypoints)
    # A share is sent with its own rows only.
    assert len(pickle.dumps(found.clips[:1])) < len(pickle.dumps(found.clips))


def test_read_clips_reads_a_zip(folder, layout, tmp_path):
    path = folder(a=body(seed=1), b=body(seed=2))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a", "b"):
            archive.write(path / f"{name}.npy", f"some/where/{name}.npy")
    write_labels(tmp_path / "all.labels.csv", a="walk", b="run")
    found = read_clips(tmp_path / "all.zip", layout=layout, prepare="none")
    np.testing.assert_array_equal(found.clips[1].keypoints, body(seed=2))


@pytest.mark.parametrize(
    ("array", "reason", "detail"),
    [
        (body(V=5), faults.JOINTS, "5 joints in (1, 3, 5, 3), four has 4"),
        (body(channels=2), faults.SHAPE, "expected (M, T, 4, 3), found (1, 3, 4, 2)"),
        (body()[0, 0], faults.SHAPE, "found (4, 3)"),
        (body()[:, :0], faults.SHAPE, "found (1, 0, 4, 3)"),
        (body().transpose(3, 1, 2, 0), faults.SHAPE, "(C, T, V, M); transpose it"),
        (body().astype(str), faults.SHAPE, "its values are <U"),
        (
            body() * [1, np.inf, 1],
            faults.FINITE,
            "12 numbers, e.g. person 0, frame 0, joint hip",
        ),
        (np.zeros((1, 3, 4, 3)), faults.NOBODY, ""),
        (np.full((1, 3, 4, 3), 1e-12), faults.NOBODY, ""),
        (np.array([None]), "cannot be read", "Object arrays cannot be loaded"),
    ],
)
def test_read_clips_leaves_out_an_array_that_cannot_be_used(array, reason, detail, folder, layout):
    path = folder(a=body(), bad=array, last=body())
    good, bad, last = read_clips(path, layout=layout).clips
    assert (good.id, last.id) == ("a", "last")
    assert (bad.id, bad.reason) == ("bad", reason)
    assert detail in bad.detail


def test_read_clips_takes_nan_for_joints_not_seen(folder, layout):
    clip, blank = body(channels=4), body(channels=4)
    blank[0, 1, 2, 0] = np.nan
    blank[0, 2, 3, 3] = np.nan  # its score only
    clip[0, 1, 2] = 0
    clip[0, 2, 3, 3] = 0
    (found,) = read_clips(folder(a=blank), layout=layout, prepare="none").clips
    np.testing.assert_array_equal(found.keypoints, clip)


@pytest.mark.parametrize("name", ["coco17", "openpose18"])
def test_read_clips_asks_whether_a_third_channel_is_z_or_a_score(name, folder):
    layout = skeletons.get(name)
    clip = body(V=layout.num_joints)
    clip[..., 2] = np.linspace(0.3, 1.05, clip[..., 2].size).reshape(clip.shape[:3])
    path = folder(a=clip)
    with pytest.raises(ValueError, match=r"is 0\.3 to 1\.05, like a score, .* --channels x"):
        read_clips(path, layout=layout)
    found = read_clips(path, layout=layout, channels="x,y,score")
    assert found.preparation["scored"]
    np.testing.assert_array_equal(found.clips[0].keypoints[..., 2], clip[..., 2])
    assert not read_clips(path, layout=layout, channels="x,y,z").preparation["scored"]
    clip[0, 0, 0, 2] = -0.1
    assert not read_clips(folder(a=clip), layout=layout).preparation["scored"]


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ("x,y", "channels x,y are 2, the arrays in .* have 3"),
        ("x,z", "expected channels x,y or .*, found 'x,z'"),
    ],
)
def test_read_clips_refuses_other_channels(channels, message, folder, layout):
    with pytest.raises(ValueError, match=message):
        read_clips(folder(a=body()), layout=layout, channels=channels)


def test_read_clips_does_not_believe_the_size_an_array_claims(folder, layout):
    path = folder(a=body(), bad=body())
    content = (path / "bad.npy").read_bytes()
    (path / "bad.npy").write_bytes(content.replace(b"(1, 3, 4, 3)", b"(99999999999,"[:12]))
    huge = content.replace(b"'shape': (1, 3, 4, 3), }    ", b"'shape': (99999999,4,4,3), }")
    (path / "bad.npy").write_bytes(huge)
    bad = read_clips(path, layout=layout).clips[1]
    assert bad.reason == "cannot be read"
    assert "cut short or damaged (EOF: reading array data" in bad.detail


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_clips_survives_damaged_arrays(data, tmp_path, layout):
    (tmp_path / "d").mkdir(exist_ok=True)
    np.save(tmp_path / "d" / "a.npy", body())
    content = bytearray((tmp_path / "d" / "a.npy").read_bytes())
    for at in data.draw(st.lists(st.integers(0, 139), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    (tmp_path / "d" / "b.npy").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    write_labels(tmp_path / "d" / "labels.csv", a="walk", b="walk")
    first, second = read_clips(tmp_path / "d", layout=layout).clips
    assert isinstance(first, Clip)
    assert isinstance(second, (Clip, LeftOut))


def test_read_clips_leaves_out_a_second_file_of_a_name(folder, layout):
    path = folder(a=body(), b=body())
    (path / "more").mkdir()
    np.save(path / "more" / "a.npy", body(seed=1))
    found = read_clips(path, layout=layout, prepare="none")
    assert left_out(found) == [("a", faults.DUPLICATE)]
    assert [clip.id for clip in clips(found)] == ["a", "b"]
    np.testing.assert_array_equal(clips(found)[0].keypoints, body())


def test_read_clips_explains_a_folder_without_arrays(tmp_path, layout, folder):
    with pytest.raises(ValueError, match=r"holds no \.npy and no \.csv files"):
        read_clips(tmp_path, layout=layout)
    path = folder(a=body(V=5), b=body(V=5))
    with pytest.raises(ValueError, match=r"no file that can be used: joints .* \(2, e.g. a: 5"):
        read_clips(path, layout=layout)
