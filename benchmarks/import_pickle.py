"""What time and memory does the import of an OpenMMLab pickle of NTU60's size take?

    python benchmarks/import_pickle.py                             # about ten minutes
    python benchmarks/import_pickle.py --clips 1000 --layout 3d    # a trial; saves nothing

The recordings are generated (ntu60_size_store.py) and written as OpenMMLab writes them: float16, in
3D or in 2D with scores, by pickle protocol 4, and by protocol 2, mmcv's default. Each import runs
in a fresh process with its default number of workers. The reference is `pickle.load` of the same
file, with which the usual tools start. The page is results/import_pickle.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import ntu60_size_store
import numpy as np
from harness.machine import describe_machine, machine_facts
from harness.processes import in_fresh_process, memory_status, process_tree

from msg3d_lab.data import datasets

HERE = Path(__file__).parent
CLIPS = ntu60_size_store.CLIPS
HEIGHT, WIDTH = 1080, 1920
COCO = (3, 3, 3, 3, 3, 4, 8, 5, 9, 6, 10, 12, 16, 13, 17, 14, 18)  # joints of ntu25 in their places

IMPORT = """
import sys
from msg3d_lab.data import import_dataset
import_dataset(sys.argv[1], dataset="ntu60", out=sys.argv[2], progress=False)
"""
LOAD = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    pickle.load(file)
"""


class Case(NamedTuple):
    """A layout and a pickle protocol."""

    layout: str
    protocol: int


def annotation(i: int, layout: str) -> dict[str, Any]:
    """Recording i as OpenMMLab describes it."""
    clip, name = ntu60_size_store.recording(i), ntu60_size_store.name(i)
    found = {"frame_dir": name, "label": int(name[-3:]) - 1, "total_frames": clip.shape[1]}
    if layout == "3d":
        return found | {"keypoint": clip.astype(np.float16)}
    joints = clip[:, :, COCO, :]
    depth = np.where(joints[..., 2:] > 0.5, joints[..., 2:], 0.5)
    pixels = joints[..., :2] / depth * (1000, -1000) + (WIDTH / 2, HEIGHT / 2)
    score = 0.9 - 0.1 * np.abs(np.sin(joints[..., 0]))
    return found | {
        "img_shape": (HEIGHT, WIDTH),
        "original_shape": (HEIGHT, WIDTH),
        "keypoint": pixels.astype(np.float16),
        "keypoint_score": score.astype(np.float16),
    }


def write_pickle(path: Path, clips: int, case: Case) -> None:
    """All recordings and their splits."""
    annotations = [annotation(i, case.layout) for i in range(clips)]
    split: dict[str, list[str]] = {}
    for one in annotations:
        for name in datasets.ntu_splits(one["frame_dir"]):
            split.setdefault(name, []).append(one["frame_dir"])
    with path.open("wb") as file:
        pickle.Pickler(file, case.protocol).dump({"split": split, "annotations": annotations})


def measure(program: str, *arguments: Path) -> dict[str, float]:
    """Run a program in a fresh process; its seconds, and the peak memory of all its processes.

    `cpu` are seconds of processor time, which other programs hardly change.
    """
    peak = dict.fromkeys(("anonymous", "resident", "largest", "processes"), 0.0)
    start, used = time.perf_counter(), _children_seconds()
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        while process.poll() is None:
            found = [facts for n in process_tree(process.pid) if (facts := memory_status(n))]
            now = {
                "anonymous": sum(facts["RssAnon"] for facts in found),
                "resident": sum(facts["VmRSS"] for facts in found),
                "largest": max((facts["VmHWM"] for facts in found), default=0),
                "processes": len(found),
            }
            peak = {key: max(peak[key], now[key]) for key in peak}
            time.sleep(0.05)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"the measured process ended with {process.returncode}")
    return {"seconds": seconds, "cpu": _children_seconds() - used, **peak}


def _children_seconds() -> float:
    """Processor time of all processes that this one started and that have ended."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def measure_case(case: Case, clips: int, folder: Path) -> dict[str, Any]:
    """Write a pickle, import it, load it; all files are removed."""
    source, store = folder / f"ntu60_{case.layout}_{case.protocol}.pkl", folder / "ntu60.arrow"
    try:
        in_fresh_process(write_pickle, source, clips, case)  # which gives its memory back
        imported = measure(IMPORT, source, store)
        sizes = {"pickle": source.stat().st_size / 1e9, "store": store.stat().st_size / 1e9}
        loaded = measure(LOAD, source)
    finally:
        for path in (source, store, store.with_suffix(".left-out.csv")):
            path.unlink(missing_ok=True)
    return {**sizes, "imported": imported, "loaded": loaded}


def describe(results: dict[Case, dict[str, Any]], clips: int) -> str:
    """The page of results."""
    lines = [
        "# Import of an OpenMMLab pickle",
        "",
        f"{clips:,} generated clips with NTU60's names, 32 to 300 frames (median "
        "near 80), 82 % of one person (`python benchmarks/import_pickle.py`). From a pickle to a "
        "store, with prepared coordinates and checksums.",
        "",
        f"{describe_machine(machine_facts())}, "
        + ", ".join(f"{name} {version(name)}" for name in ("numpy", "pyarrow"))
        + ". Times are of whole processes, Python's start and imports included.",
        "",
        "| layout, protocol | pickle | store | import | memory: anonymous | with files' pages "
        "| largest process | `pickle.load` alone | its memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, found in results.items():
        imported, loaded = found["imported"], found["loaded"]
        cells = [
            f"{case.layout}, {case.protocol}",
            *(f"{found[key]:.2f} GB" for key in ("pickle", "store")),
            f"{imported['seconds']:.0f} s",
            *(f"{imported[key] / 1000:.2f} GB" for key in ("anonymous", "resident", "largest")),
            f"{loaded['seconds']:.1f} s",
            f"{loaded['largest'] / 1000:.2f} GB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    most = max(int(found["imported"]["processes"]) for found in results.values())
    lines += [
        "",
        f"Memory of an import: the highest sum over its processes (up to {most}), sampled 20 times "
        "a second. Anonymous memory cannot be dropped; pages of files (the store that is written, "
        "the shared libraries, counted once for each process) can. "
        "The largest process, and `pickle.load`: the most resident memory (`VmHWM`).",
        "",
        "OpenMMLab's files are written with mmcv, whose default is protocol 2. There bytes are "
        "written as text, in which those of 128 and above take two bytes.",
        "",
    ]
    return "\n".join(lines)


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=CLIPS, help="fewer, for a trial")
    parser.add_argument("--layout", nargs="+", choices=("3d", "2d"), default=["3d", "2d"])
    parser.add_argument("--protocol", nargs="+", type=int, default=[4, 2])
    parser.add_argument("--folder", type=Path, help="a folder with 4 GB of free space")
    options = parser.parse_args(arguments)
    if not 1 <= options.clips <= CLIPS:
        parser.error(f"--clips: expected 1 to {CLIPS}, found {options.clips}")
    cases = [Case(layout, p) for layout in options.layout for p in options.protocol]
    results = {}
    with _folder(options.folder) as folder:
        for case in cases:
            results[case] = measure_case(case, options.clips, folder)
            print(case, json.dumps(results[case]), flush=True)
    page = describe(results, options.clips)
    print(page)
    if options.clips == CLIPS:
        out = HERE / "results" / "import_pickle.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
