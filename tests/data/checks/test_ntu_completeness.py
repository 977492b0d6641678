from __future__ import annotations

from functools import cache

import pytest

from msg3d_lab.data.checks import ntu_completeness
from msg3d_lab.data.checks.ntu_completeness import ntu_differences
from msg3d_lab.data.datasets import missing_skeletons

LISTED = "S001C002P005R002A008"


@cache
def all_names(dataset, count=None):
    """As many names as the data set has, in all setups, with those of missing skeletons."""
    count, setups = {"ntu60": (count or 56_880, 17), "ntu120": (114_480, 32)}[dataset]
    scenes = {(name[:4], name[8:]) for name in missing_skeletons(dataset)}
    i = 0
    while len(scenes) < count // 3:
        setup, i = i % setups + 1, i + 1
        action = 1 + i // setups % 60 + 60 * (setup > 17)
        scenes.add((f"S{setup:03d}", f"P{i // setups // 60:03d}R001A{action:03d}"))
    return frozenset(
        f"{setup}C{camera:03d}{rest}" for setup, rest in scenes for camera in (1, 2, 3)
    )


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120"])
def test_a_complete_source_has_no_differences(dataset):
    assert ntu_differences(all_names(dataset), dataset) == []


def test_differences_from_the_whole_data_set_are_named():
    names = all_names("ntu60")
    assert ntu_differences(names, "ntu120") == [
        "NTU RGB+D 120 has 114,480 recordings, 113,945 of them usable; the source has 56,880, "
        "56,578 of them usable.",
        "No recording is of setups 18 to 32: they are in nturgbd_skeletons_s018_to_s032.zip.",
    ]
    few = {name for name in names if name[:4] not in ("S003", "S009")} - {LISTED}
    assert ntu_differences([*few, "S018C001P001R001A061", "notes"], "ntu60") == [
        "NTU RGB+D 60 has 56,880 recordings, 56,578 of them usable; the source has "
        f"{len(few):,}, {len(few - missing_skeletons('ntu60')):,} of them usable.",
        "No recording is of setup 3, 9.",
        "1 of the recordings whose skeletons are known to be missing is not in the source: "
        f"{LISTED}.",
    ]
    usable = names - missing_skeletons("ntu60")
    assert ntu_differences(usable, "ntu60") == [
        "NTU RGB+D 60 has 56,880 recordings, 56,578 of them usable; the source has 56,578, "
        "56,578 of them usable.",
        "302 of the recordings whose skeletons are known to be missing are not in the source: "
        "S001C002P005R002A008, S001C002P006R001A008, S001C003P002R001A055 and 299 more.",
    ]
    with pytest.raises(ValueError, match="found 'nw-ucla'"):
        ntu_differences([], "nw-ucla")


def test_what_another_camera_tells_of_is_named(monkeypatch):
    monkeypatch.setitem(ntu_completeness._RECORDINGS, "ntu60", 3000)
    names = all_names("ntu60", 3000)
    usable = sorted(names - missing_skeletons("ntu60"))

    def some(start, count):
        return [name for name in usable if name.startswith(start)][:count]

    def counts(setup, *less):
        of = [sum(name.startswith(f"{setup}C00{camera}") for name in names) for camera in (1, 2, 3)]
        return ", ".join(f"{n - m:,}" for n, m in zip(of, less, strict=True))

    one = some("S002C002", 1)
    expected = (
        "Three cameras filmed everything at once; of the recordings to be expected from that, "
        f"1 is not in the source: {one[0]}. Recordings of camera 1, 2 and 3: "
        f"{counts('S002', 0, 1, 0)} of setup 2."
    )
    assert ntu_differences(names - set(one), "ntu60")[1:] == [expected]
    more = [*some("S002C001", 2), *some("S005C003", 3)]
    expected = (
        "Three cameras filmed everything at once; of the recordings to be expected from that, "
        f"5 are not in the source: {', '.join(more[:3])} and 2 more. Recordings of camera 1, 2 "
        f"and 3: {counts('S002', 2, 0, 0)} of setup 2; {counts('S005', 0, 0, 3)} of setup 5."
    )
    assert ntu_differences(names - set(more), "ntu60")[1:] == [expected]
    scene = {f"S005C{camera:03d}{more[3][8:]}" for camera in (1, 2, 3)}  # nothing tells of it
    assert len(ntu_differences(names - scene, "ntu60")) == 1
