"""How fast are raw NTU skeleton files read, on one core?

    python benchmarks/ntu_raw.py [ZIP]

Default without a zip of the data set: generated files. The reference is a loop over the lines. The
text is in memory; unpacking a zip is measured separately. Times are CPU times.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import zipfile

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.formats.ntu.bodies import Track, select_bodies
from msg3d_lab.data.formats.ntu.skeleton_file import format_skeleton, parse_skeleton
from msg3d_lab.data.preprocess import prepare_3d

# A joint's line has nine numbers after x, y and z. `format_skeleton` writes zeros; these have the
# digits of a sensor's.
REST = b" 123.456 234.5678 1234.567 345.6789 -0.1234567 0.02345678 0.3456789 -0.4567891 2"


def generate_zip(num_files=50):
    rng = np.random.default_rng(0)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for i in range(num_files):
            frames = np.arange(60 + i)
            tracks = []
            for place in range(1 + (i % 3 == 0)):
                joints = rng.uniform([-0.4, -1, 2], [0.4, 1, 4], (len(frames), 25, 3)).round(7)
                tracks.append(Track(2**56 + place, frames, np.full(len(frames), place), joints))
            content = format_skeleton(tracks, len(frames))
            content = content.replace(b"\n", b"\r\n") if i % 2 else content
            out.writestr(f"{i:03d}.skeleton", content.replace(b" 0 0 0 0 0 0 0 0 2", REST))
    return archive


def read_plainly(content):
    lines = iter(content.decode().splitlines())
    bodies = {}
    for _ in range(int(next(lines))):
        for _ in range(int(next(lines))):
            body_id = int(next(lines).split()[0])
            joints = np.zeros((int(next(lines)), 3))
            for j in range(len(joints)):
                joints[j] = np.array(next(lines).split()[:3], dtype=np.float64)
            bodies.setdefault(body_id, []).append(joints)
    return {body_id: np.stack(joints) for body_id, joints in bodies.items()}


def seconds(function, items, repeats):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for item in items:
            function(item)
        times.append(time.process_time() - start)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("zip", nargs="?", help="nturgbd_skeletons_*.zip. Default: generated files")
    parser.add_argument("--files", type=int, default=50, help="how many files of the zip to read")
    parser.add_argument("--repeats", type=int, default=7, help="of which the median is taken")
    args = parser.parse_args()
    skeleton = skeletons.get("ntu25")
    with zipfile.ZipFile(args.zip or generate_zip()) as archive:
        names = [name for name in archive.namelist() if name.endswith(".skeleton")][: args.files]
        contents = [archive.read(name) for name in names]
        unpacking = seconds(archive.read, names, args.repeats)
    for content in contents:
        plain = read_plainly(content)
        for track in parse_skeleton(content)[0]:
            np.testing.assert_array_equal(track.joints, plain[track.body_id])

    def select(content):
        return select_bodies(*parse_skeleton(content))

    def prepare(content):
        return prepare_3d(select(content).keypoints, skeleton)

    rows = [("unpacking the zip", unpacking)]
    for title, function in (
        ("plain line-by-line parser", read_plainly),
        ("parse_skeleton", parse_skeleton),
        ("parse_skeleton, select_bodies", select),
        ("parse_skeleton, select_bodies, prepare_3d", prepare),
    ):
        rows.append((title, seconds(function, contents, args.repeats)))
    megabytes = sum(map(len, contents)) / 1e6
    kind = "files" if args.zip else "generated files"
    print(f"{len(contents)} {kind}, {megabytes:.1f} MB of text; median of {args.repeats}\n")
    print("| | MB/s | files/s |\n|---|---|---|")
    for title, time_taken in rows:
        print(f"| {title} | {megabytes / time_taken:.1f} | {len(contents) / time_taken:.0f} |")


if __name__ == "__main__":
    main()
