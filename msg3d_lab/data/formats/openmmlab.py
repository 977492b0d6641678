"""Import OpenMMLab's annotation pickles: NTU RGB+D, pyskl's other data sets, anybody's own.

The format is described in mmaction2 (`tools/data/skeleton/README.md`): a dict with `split`
(name -> list of `frame_dir`) and `annotations` (a list of dicts, one per recording). Before
mmaction2 1.0 a file was the list alone, one file per split; those and single annotations are read
too. OpenMMLab writes protocol 2 (mmcv, `fileio/handlers/pickle_handler.py`); that and later ones
are read. Of pyskl's Kinetics-400, whose file is a table of contents, see `kpfiles`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.checksums import checked_digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import (
    DATASETS,
    Dataset,
    get,
    ntu_facts,
    ntu_splits,
    parse_ntu_name,
)
from msg3d_lab.data.formats.annotation import Compressed, Entry, describe, is_name, read_annotation
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.kpfiles import find_kpfiles, read_skeletons
from msg3d_lab.data.formats.ntu_labels import check_ntu_labels
from msg3d_lab.data.formats.own.label_list import name_classes
from msg3d_lab.data.formats.own.layouts import guess_layout, is_flat
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.own.preparation import IN_IMAGES, Preparation, can_align
from msg3d_lab.data.preprocess import is_zero, prepare_3d
from msg3d_lab.safe_pickle import load_pickle
from msg3d_lab.skeletons import Skeleton

# Of NTU: joints and whether there are two coordinates.
_LAYOUTS: dict[tuple[int, bool], str] = {(17, True): "coco17", (25, False): "ntu25"}
_MAX_SPLITS = 100
_MAX_SHARING = 4  # bytes of coordinates per byte of the file: annotations can share an array
_PARTS = ("train", "val", "test")
_Usable = Entry | Compressed


def is_source(path: Path) -> bool:
    """Whether a file begins like a pickle of protocol 2 or later."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def read_clips(
    path: str | Path | Sequence[Path],
    *,
    dataset: Dataset,
    own: OwnData = NOTHING,
) -> Recordings:
    """Read annotation pickles into memory; clips are prepared when they are asked for.

    Left out are annotations that cannot be read, recordings with nobody in them, and names that a
    split lists and no annotation has. A 2D joint without a score gets 1 where it was seen.

    Args:
        path: the file; several if each split has one.
        dataset: ntu60, ntu120 or one's own, which has no class names and no protocols.
        own: defaults: the layout of the library that has as many joints, if there is one; the
            class names of the data set, else `class 0`, `class 1` ...; prepared as "image" in 2D,
            "align" in 3D where the layout has directions, else "center"; the image sizes of the
            annotations.

    Raises:
        FileNotFoundError: there is no such file, layout, list of labels or kpfile.
        ValueError: the pickle is refused or damaged (see `load_pickle`), has another checksum than
            the record beside it (see `data.download`), is not such a file; has joints, splits or
            labels of another data set; its layout or image size is not known.
    """
    published = dataset.name in DATASETS
    if own.labels is not None and published:
        raise ValueError(
            f"{dataset.name} has its own class names: do not give a list (--labels), or give "
            "recordings of your own a name of their own (--dataset NAME)"
        )
    paths = [Path(path)] if isinstance(path, (str, Path)) else list(path)
    where = ", ".join(map(str, paths))
    sources = [_read_file(one) for one in paths]
    entries = [entry for source in sources for entry in source.entries]
    usable = [entry for entry in entries if not isinstance(entry, LeftOut)]
    skeleton, flat, notes = _layout(usable, entries, where, dataset, own.skeleton)
    if published:
        entries = _with_ntu_splits(entries, sources, dataset, where)
    elif not any(source.splits for source in sources):
        notes.append(
            "no file has splits: name files after theirs (own_train.pkl own_val.pkl) and give all, "
            "or write a dict of 'split' and 'annotations'"
        )
    described = {entry.id for entry in entries}
    unknown = dict.fromkeys(
        name for source in sources for name in source.members if name not in described
    )
    entries += [
        LeftOut(
            name if is_name(name) else f"{name!r:.255}", "in a split, but without an annotation"
        )
        for name in unknown
    ]
    if unknown:
        notes.append(f"the splits name {len(unknown)} recordings that no annotation has")
    if not published:
        classes = name_classes({e.label for e in usable}, own.labels, where=paths[0].name)
        notes += classes.notes
        entries = [_relabelled(entry, classes.numbers) for entry in entries]
        names = classes.names
    else:
        check_ntu_labels([(e.id, e.label) for e in usable], where=where, dataset=dataset)
        names = None
    default = "image" if flat else "align" if can_align(skeleton, 3) else "center"
    prepare = own.prepare or default
    if prepare == "paper" and published:
        raise ValueError(
            f"{where} holds persons as the paper's data do not have them (selected by another "
            "rule): --prepare paper reads the raw recordings, nturgbd_skeletons_*.zip"
        )
    if prepare in IN_IMAGES:
        entries, more = _with_sizes(entries, own.image_size, where)
        notes += more
    plan = Preparation(
        prepare,
        skeleton,
        2 if flat else 3,
        scored=flat,
        image_size=(1, 1) if prepare in IN_IMAGES else None,  # each clip has its own
    )
    notes += _assumptions(entries, scored=flat)
    done = {key: value for key, value in plan.record.items() if key != "image_size"}
    if own.image_size is not None:
        done["image_size"] = list(own.image_size)
    digests = [source.sha256 for source in sources]
    whole = digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()
    if any(isinstance(entry, Compressed) for entry in entries):
        entries = find_kpfiles(entries, paths[0])
        notes.append(
            "skeletons from kpfiles: frames with nobody are left out, two persons are kept"
        )
    return Recordings(
        clips=LazyClips(entries, partial(_read, plan=plan)),
        skeleton=skeleton,
        channels=plan.channels,
        preparation=done | source_record("OpenMMLab annotations", paths, whole),
        label_names=names,
        notes=tuple(notes),
    )


class _File:
    """What one pickle holds.

    Args:
        path: the file.
        sha256: its checksum.
        document: its content.
    """

    def __init__(self, path: Path, sha256: str, document: Any) -> None:
        self.path, self.sha256 = path, sha256
        self.splits: dict[str, Any] = {}
        annotations = document
        if isinstance(document, dict) and "annotations" in document:
            annotations, self.splits = document["annotations"], document.get("split", {})
        elif isinstance(document, dict) and {"keypoint", "raw_file"} & set(document):
            annotations = [document]
        elif not isinstance(document, list):
            raise ValueError(
                f"{path} is not an OpenMMLab annotation file: expected a dict with 'split' and "
                f"'annotations', or a list of annotations, found {_describe_document(document)}"
            )
        if not isinstance(annotations, list) or not annotations:
            raise ValueError(
                f"{path}: expected a list of annotations, found {describe(annotations)}"
            )
        if not any(isinstance(one, dict) for one in annotations):
            raise ValueError(
                f"{path} is not an OpenMMLab annotation file: expected annotations, dicts with "
                f"'frame_dir', 'label' and 'keypoint', found {describe(annotations[0])}"
            )
        self.members = _members(self.splits, path)
        if not self.members and not self.splits:
            self._name_split(annotations)
        self.entries = [
            read_annotation(one, f"annotation {i}", self.members)
            for i, one in enumerate(annotations)
        ]
        claimed = sum(e.keypoint.nbytes for e in self.entries if isinstance(e, Entry))
        if claimed > _MAX_SHARING * path.stat().st_size:
            raise ValueError(
                f"{path}: its annotations take {claimed} bytes, the file has "
                f"{path.stat().st_size}: too many of them share their coordinates for a file of "
                "recordings"
            )

    def _name_split(self, annotations: Sequence[Any]) -> None:
        """Name the split of a file without one after the file."""
        words = self.path.stem.lower().replace("-", "_").split("_")
        parts = [part for part in _PARTS if part in words]
        if len(parts) == 1:
            self.splits = {parts[0]: []}
            names = [one.get("frame_dir") for one in annotations if isinstance(one, dict)]
            self.members = {name: (parts[0],) for name in names if isinstance(name, str)}


def _read_file(path: Path) -> _File:
    sha256 = checked_digest(path)  # before a damaged file is taken for one of another format
    return _File(path, sha256, load_pickle(path))


def _read(entry: Entry | Compressed, *, plan: Preparation) -> Clip | LeftOut:
    score: np.ndarray | None
    if isinstance(entry, Compressed):
        keypoint, score = read_skeletons(entry)
    else:
        keypoint, score = entry.keypoint, entry.score
    skeleton, flat = plan.layout, plan.axes == 2
    if keypoint.shape[2] != skeleton.num_joints or (not flat and keypoint.shape[3] != 3):
        raise ValueError(
            f"expected the joints of {skeleton.name} as most have, found 'keypoint' "
            f"{keypoint.shape}"
        )
    with np.errstate(all="ignore"):  # numbers that are not finite are found by the clip's check
        if flat and keypoint.shape[3] == 3:
            keypoint, score = keypoint[..., :2], keypoint[..., 2]
        if is_zero(keypoint).all():
            return LeftOut(entry.id, "nobody in any frame")
        if flat and score is None:
            score = np.any(keypoint, axis=-1)
        if plan.name in IN_IMAGES:
            assert score is not None
            assert entry.size is not None
            keypoints = plan.scale_pixels(keypoint, score, entry.size)
        elif plan.name == "align":
            keypoints = prepare_3d(keypoint.astype(np.float32), skeleton)
        else:
            parts = [keypoint, score[..., None]] if score is not None and flat else [keypoint]
            keypoints = plan(np.concatenate(parts, axis=-1))
    return Clip(entry.id, keypoints, entry.label, entry.splits, **ntu_facts(entry.id))


def _members(split: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """The splits of each recording."""
    if not isinstance(split, dict) or len(split) > _MAX_SPLITS:
        raise ValueError(
            f"{path}: expected a dict of at most {_MAX_SPLITS} splits, found {describe(split)}"
        )
    members: dict[str, tuple[str, ...]] = {}
    for name, ids in split.items():
        if isinstance(ids, np.ndarray):
            ids = ids.tolist()
        if not isinstance(ids, (list, tuple)) or not all(isinstance(one, str) for one in ids):
            raise ValueError(
                f"{path}: expected split {name!s:.40} to be a list of names, found {describe(ids)}"
            )
        for one in dict.fromkeys(ids):
            members[one] = (*members.get(one, ()), str(name))
    return members


def _with_ntu_splits(
    entries: Sequence[_Usable | LeftOut], sources: Sequence[_File], dataset: Dataset, where: str
) -> list[_Usable | LeftOut]:
    """Check for a protocol of NTU. Files of one split each get the splits that the names say."""
    names = {n for s in sources for n in s.splits if isinstance(n, str) and is_name(n)}
    if names <= set(_PARTS) and all(
        isinstance(entry, LeftOut) or parse_ntu_name(entry.id) for entry in entries
    ):
        return [
            entry
            if isinstance(entry, LeftOut)
            else entry._replace(splits=ntu_splits(entry.id, dataset=dataset.name))
            for entry in entries
        ]
    like = [d for d in DATASETS.values() if d.layouts == dataset.layouts]
    foreign = {n for d in like for n in _splits(d)} - _splits(dataset)
    if any(_halves(p) <= names for p in dataset.protocols) and not foreign & names:
        return list(entries)
    others = [d.name for d in like if d is not dataset and _splits(d) & names - _splits(dataset)]
    raise ValueError(
        f"{where} has the splits {', '.join(sorted(names)) or 'none':.200}: expected "
        f"{' or '.join(', '.join(sorted(_halves(p))) for p in dataset.protocols)} for "
        f"{dataset.name}"
        + (
            f"; is it {' or '.join(others)}? Then import it as that"
            if others
            else "; splits of your own need a name of your own: --dataset NAME"
        )
    )


def _halves(protocol: str) -> set[str]:
    return {f"{protocol}_{part}" for part in ("train", "val")}


def _splits(dataset: Dataset) -> set[str]:
    return {name for protocol in dataset.protocols for name in _halves(protocol)}


def _layout(
    usable: Sequence[_Usable],
    entries: Sequence[_Usable | LeftOut],
    where: str,
    dataset: Dataset,
    found: Skeleton | None,
) -> tuple[Skeleton, bool, list[str]]:
    """The layout of most annotations, whether they are in 2D, and a note if it was guessed.

    Others are left out when they are read.
    """
    if not usable:
        first = entries[0]
        raise ValueError(
            f"{where}: none of its {len(entries)} annotations can be read; the first, {first.id}: "
            f"{first.detail if isinstance(first, LeftOut) else ''}"
        )
    shapes = Counter(e.keypoint.shape[2:] if isinstance(e, Entry) else (17, 3) for e in usable)
    joints, coordinates = shapes.most_common(1)[0][0]
    sizes = sum(entry.size is not None for entry in usable)
    flat = coordinates == 2 or isinstance(usable[0], Compressed)
    if not flat:
        named = is_flat(found) if found is not None else joints in (17, 18)
        flat = named or (2 * sizes > len(usable) and (found is None or not can_align(found, 3)))
        flat = flat and _may_be_scores(usable)
    if found is not None:
        if found.num_joints != joints:
            raise ValueError(
                f"{where} has {joints} joints, the layout {found.name} has {found.num_joints}: "
                "name the layout of these recordings (--layout)"
            )
        return found, flat, []
    if dataset.name in DATASETS:
        name = _LAYOUTS.get((joints, flat))
        if name is None:
            raise ValueError(
                f"{where} has {joints} joints with {coordinates} coordinates each: expected 17 "
                f"with 2 (coco17) or 25 with 3 (ntu25) for {dataset.name}. Data of your own need a "
                "name of their own: --dataset NAME --layout LAYOUT"
            )
        return skeletons.get(name), flat, []
    guessed = guess_layout(joints, flat=flat, where=Path(where))
    note = (
        f"layout {guessed.name} by the number of joints, {joints} in {'2D' if flat else '3D'}; if "
        "the joints are in another order, name theirs (--layout)"
    )
    return guessed, flat, [note]


def _may_be_scores(usable: Sequence[_Usable]) -> bool:
    """Whether the third numbers of a few recordings are such as scores have."""
    found = [e.keypoint for e in usable if isinstance(e, Entry) and e.keypoint.shape[3] == 3]
    thirds = [keypoint[..., 2] for keypoint in found[:8]]
    return not any(((third < -0.1) | (third >= 2)).any() for third in thirds)


def _with_sizes(
    entries: Sequence[_Usable | LeftOut], image_size: tuple[int, int] | None, where: str
) -> tuple[list[_Usable | LeftOut], list[str]]:
    """Give every 2D recording the size of its image."""
    usable = [entry for entry in entries if not isinstance(entry, LeftOut)]
    known = {entry.size for entry in usable if entry.size is not None}
    without = sum(entry.size is None for entry in usable)
    notes = []
    size = image_size
    if image_size is not None:
        if min(image_size) <= 0:
            raise ValueError(f"expected an image size HEIGHT WIDTH above 0, found {image_size}")
        differ = sum(entry.size not in (None, image_size) for entry in usable)
        if differ:
            notes.append(f"the image size {image_size} was taken instead of {differ} in the file")
    elif without and len(known) == 1:
        (size,) = known
        notes.append(f"{without} annotations have no 'img_shape': {size} was taken, as others have")
    elif without == len(usable):
        raise ValueError(
            f"{where}: its annotations have no 'img_shape'. x and y in pixels need the size of the "
            "image: give --image-size HEIGHT WIDTH (image_size=), or --prepare center, which "
            "needs none"
        )
    result: list[_Usable | LeftOut] = []
    for entry in entries:
        if isinstance(entry, LeftOut) or (image_size is None and entry.size is not None):
            result.append(entry)
        elif size is None:
            detail = "no 'img_shape', and others differ: give --image-size HEIGHT WIDTH"
            result.append(LeftOut(entry.id, "cannot be read", detail))
        else:
            result.append(entry._replace(size=size))
    return result, notes


def _assumptions(entries: Sequence[_Usable | LeftOut], *, scored: bool) -> list[str]:
    """What had to be assumed of recordings, with counts."""
    counts = Counter(n for e in entries if not isinstance(e, LeftOut) for n in e.notes)
    if scored:
        counts["no 'keypoint_score', so 1 for joints that were seen"] = sum(
            isinstance(e, Entry) and e.score is None and e.keypoint.shape[3] == 2 for e in entries
        )
        counts["3 numbers per joint, taken as x, y, score"] = sum(
            isinstance(e, Entry) and e.keypoint.shape[3] == 3 for e in entries
        )
    return [f"{note}: {count} annotations" for note, count in counts.items() if count]


def _relabelled(entry: _Usable | LeftOut, numbers: Mapping[int, int]) -> _Usable | LeftOut:
    return entry if isinstance(entry, LeftOut) else entry._replace(label=numbers[entry.label])


def _describe_document(document: Any) -> str:
    if isinstance(document, dict):
        return f"a dict with {', '.join(f'{key!s:.20}' for key in list(document)[:5]) or 'nothing'}"
    if isinstance(document, (list, tuple)) and len(document) == 2:
        return "a pair; if these are names and labels, give the folder of the .npy beside it"
    return describe(document)


IMPORTER = Importer(
    title="an OpenMMLab annotation pickle",
    datasets=(get("ntu60"), get("ntu120")),
    is_source=is_source,
    read=read_clips,
    options=("layout", "labels", "prepare", "image_size"),
    several_sources=True,
    own=True,
)
