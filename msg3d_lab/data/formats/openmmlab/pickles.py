"""Import OpenMMLab's annotation pickles: NTU RGB+D, pyskl's other data sets, anybody's own.

The format is described in mmaction2 (`tools/data/skeleton/README.md`): a dict with `split`
(name -> list of `frame_dir`) and `annotations` (a list of dicts, one per recording). Before
mmaction2 1.0 a file was the list alone, one file per split; those and single annotations are read
too. OpenMMLab writes protocol 2 (mmcv, `fileio/handlers/pickle_handler.py`); that and later ones
are read. Of pyskl's Kinetics-400, whose file is a table of contents, see `kpfiles`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.checksums import checked_digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import (
    DATASETS,
    Dataset,
    check_ntu_labels,
    ntu_facts,
    ntu_splits,
    parse_ntu_name,
)
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.openmmlab.annotation import (
    Compressed,
    Entry,
    describe,
    is_name,
    read_annotation,
)
from msg3d_lab.data.formats.openmmlab.kpfiles import find_kpfiles, read_skeletons
from msg3d_lab.data.formats.own.label_list import name_classes
from msg3d_lab.data.formats.own.options import NOTHING, OwnData, choose_layout, is_flat
from msg3d_lab.data.formats.own.preparation import IN_IMAGES, Preparation, can_align
from msg3d_lab.data.preprocess import is_zero
from msg3d_lab.safe_pickle import load_pickle
from msg3d_lab.skeletons import Skeleton

# Of NTU: joints and whether there are two coordinates.
_LAYOUTS: dict[tuple[int, bool], str] = {(17, True): "coco17", (25, False): "ntu25"}
_PARTS = ("train", "val", "test")
_Usable = Entry | Compressed


def is_source(path: Path) -> bool:
    """Whether a file begins like a pickle of protocol 2 or later."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def read_clips(
    path: str | Path | Sequence[Path], *, dataset: Dataset, own: OwnData = NOTHING
) -> Recordings:
    """Read annotation pickles into memory; clips are prepared when they are asked for.

    Left out are annotations that cannot be read, recordings with nobody in them, and names that a
    split lists and no annotation has. A 2D joint without a score gets 1 where it was seen.

    Defaults of `own`: the layout of the library that has as many joints, if there is one; the class
    names of the data set, else `class 0`, `class 1` ...; prepared as "image" in 2D, "align" in 3D
    where the layout has directions, else "center"; the image sizes of the annotations.
    """
    published = dataset.name in DATASETS
    if own.labels is not None and published:
        raise ValueError(
            f"{dataset.name} has its own class names: do not give a list (--labels), or give "
            "recordings of your own a name of their own (--dataset NAME)"
        )
    paths = [Path(path)] if isinstance(path, (str, Path)) else list(path)
    where = ", ".join(map(str, paths))
    files = [_File(one) for one in paths]
    entries = [entry for file in files for entry in file.entries]
    usable = [entry for entry in entries if not isinstance(entry, LeftOut)]
    if not usable:
        first = next(entry for entry in entries if isinstance(entry, LeftOut))
        raise ValueError(
            f"{where}: none of its {len(entries)} annotations can be read; the first, {first.id}: "
            f"{first.detail}"
        )
    skeleton, flat, notes = _choose_layout(usable, where, dataset, own)
    if not published and not any(file.splits for file in files):
        notes.append(
            "no file has splits: name files after theirs (own_train.pkl own_val.pkl) and give all, "
            "or write a dict of 'split' and 'annotations'"
        )
    entries += _without_annotation(files, {entry.id for entry in entries}, notes)
    names: tuple[str, ...] | None = None
    if published:
        if not _have_protocol(usable, files, dataset, where):
            entries = _each(
                entries, lambda e: e._replace(splits=ntu_splits(e.id, dataset=dataset.name))
            )
        check_ntu_labels([(e.id, e.label) for e in usable], where=where, dataset=dataset)
    else:
        classes = name_classes({e.label for e in usable}, own.labels, where=paths[0].name)
        notes += classes.notes
        names = classes.names
        entries = _each(entries, lambda e: e._replace(label=classes.numbers[e.label]))
    prepare = own.prepare or ("image" if flat else "align" if can_align(skeleton, 3) else "center")
    if prepare == "paper" and published:
        raise ValueError(
            f"{where} holds persons as the paper's data do not have them (selected by another "
            "rule): --prepare paper reads the raw recordings, nturgbd_skeletons_*.zip"
        )
    if prepare in IN_IMAGES:
        entries = _with_sizes(entries, own.image_size, where, notes)
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
    digests = [file.sha256 for file in files]
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
    """What one pickle holds: its checksum, splits, and annotations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256 = checked_digest(path)  # before a damaged file is taken for another format
        document, splits = load_pickle(path), {}
        annotations = document
        if isinstance(document, dict) and "annotations" in document:
            annotations, splits = document["annotations"], document.get("split", {})
        elif isinstance(document, dict) and {"keypoint", "raw_file"} & set(document):
            annotations = [document]
        if not isinstance(annotations, list) or not any(isinstance(a, dict) for a in annotations):
            raise ValueError(
                f"{path} is not an OpenMMLab annotation file: expected a dict with 'split' and "
                "'annotations', or a list of annotations, dicts with 'frame_dir', 'label' and "
                f"'keypoint', found {describe(document)}. If it is the labels of a .npy beside it, "
                "give their folder"
            )
        if not isinstance(splits, dict):
            raise ValueError(f"{path}: expected a dict of splits, found {describe(splits)}")
        self.members: dict[str, tuple[str, ...]] = {}
        for name, ids in splits.items():
            listed = ids.tolist() if isinstance(ids, np.ndarray) else ids
            if not isinstance(listed, (list, tuple)) or not all(type(n) is str for n in listed):
                raise ValueError(
                    f"{path}: expected split {name!s:.40} to be a list of names, found "
                    f"{describe(ids)}"
                )
            for one in dict.fromkeys(listed):
                self.members[one] = (*self.members.get(one, ()), str(name))
        # A file without splits is one, named after the file.
        words = path.stem.lower().replace("-", "_").split("_")
        parts = [part for part in _PARTS if part in words]
        self.splits = {str(name) for name in splits} or set(parts if len(parts) == 1 else ())
        if not splits and self.splits:
            names = [one.get("frame_dir") for one in annotations if isinstance(one, dict)]
            self.members = {name: tuple(parts) for name in names if isinstance(name, str)}
        self.entries = [
            read_annotation(one, f"annotation {i}", self.members)
            for i, one in enumerate(annotations)
        ]


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
        if flat:
            score = np.any(keypoint, axis=-1) if score is None else score
            keypoint = np.concatenate([keypoint, score[..., None]], axis=-1)
        elif plan.name == "align":
            keypoint = keypoint.astype(np.float32)
        if plan.name in IN_IMAGES:
            plan = replace(plan, image_size=entry.size)
        keypoints = plan(keypoint)
    return Clip(entry.id, keypoints, entry.label, entry.splits, **ntu_facts(entry.id))


def _each(
    entries: Sequence[_Usable | LeftOut], change: Callable[[_Usable], _Usable | LeftOut]
) -> list[_Usable | LeftOut]:
    return [entry if isinstance(entry, LeftOut) else change(entry) for entry in entries]


def _without_annotation(
    files: Sequence[_File], described: set[str], notes: list[str]
) -> list[LeftOut]:
    """The names of splits that no annotation has."""
    names = dict.fromkeys(name for file in files for name in file.members if name not in described)
    if names:
        notes.append(f"the splits name {len(names)} recordings that no annotation has")
    shown = (name if is_name(name) else f"{name!r:.255}" for name in names)
    return [LeftOut(name, "in a split, but without an annotation") for name in shown]


def _have_protocol(
    usable: Sequence[_Usable], files: Sequence[_File], dataset: Dataset, where: str
) -> bool:
    """Whether files of NTU have a protocol; without one, files may be its parts."""
    names = {name for file in files for name in file.splits}
    if names <= set(_PARTS) and all(parse_ntu_name(entry.id) for entry in usable):
        return False
    known = {name: _halves(d) for name, d in DATASETS.items() if d.layouts == dataset.layouts}
    own = known.pop(dataset.name)
    foreign = {name for halves in known.values() for half in halves for name in half}
    if any(half <= names for half in own) and not (foreign - set().union(*own)) & names:
        return True
    others = [n for n, halves in known.items() if set().union(*halves) & names - set().union(*own)]
    cure = (
        f"is it {' or '.join(others)}? Then import it as that"
        if others
        else "splits of your own need a name of your own: --dataset NAME"
    )
    raise ValueError(
        f"{where} has the splits {', '.join(sorted(names)) or 'none':.200}: expected "
        f"{' or '.join(', '.join(sorted(half)) for half in own)} for {dataset.name}; {cure}"
    )


def _halves(dataset: Dataset) -> list[set[str]]:
    return [{f"{protocol}_{part}" for part in ("train", "val")} for protocol in dataset.protocols]


def _choose_layout(
    usable: Sequence[_Usable], where: str, dataset: Dataset, own: OwnData
) -> tuple[Skeleton, bool, list[str]]:
    """The layout of most annotations, whether they are in 2D, and a note if it was guessed.

    Others are left out when they are read.
    """
    shapes = Counter(e.keypoint.shape[2:] if isinstance(e, Entry) else (17, 3) for e in usable)
    joints, coordinates = shapes.most_common(1)[0][0]
    named = own.skeleton
    flat = coordinates == 2 or isinstance(usable[0], Compressed)
    if not flat:
        flat = is_flat(named) if named is not None else joints in (17, 18)
        if 2 * sum(entry.size is not None for entry in usable) > len(usable):
            flat = flat or named is None or not can_align(named, 3)
        flat = flat and _may_be_scores(usable)
    if dataset.name in DATASETS and named is None:
        name = _LAYOUTS.get((joints, flat))
        if name is None:
            raise ValueError(
                f"{where} has {joints} joints with {coordinates} coordinates each: expected 17 "
                f"with 2 (coco17) or 25 with 3 (ntu25) for {dataset.name}. Data of your own need a "
                "name of their own: --dataset NAME --layout LAYOUT"
            )
        return skeletons.get(name), flat, []
    layout, notes = choose_layout(own, joints=joints, flat=flat, where=Path(where))
    return layout, flat, list(notes)


def _may_be_scores(usable: Sequence[_Usable]) -> bool:
    """Whether the third numbers of a few recordings are such as scores have."""
    found = [e.keypoint for e in usable if isinstance(e, Entry) and e.keypoint.shape[3] == 3]
    thirds = [keypoint[..., 2] for keypoint in found[:8]]
    return not any(((third < -0.1) | (third >= 2)).any() for third in thirds)


def _with_sizes(
    entries: Sequence[_Usable | LeftOut],
    image_size: tuple[int, int] | None,
    where: str,
    notes: list[str],
) -> list[_Usable | LeftOut]:
    """Give every 2D recording the size of its image."""
    sizes = [entry.size for entry in entries if not isinstance(entry, LeftOut)]
    known, without = set(sizes) - {None}, sizes.count(None)
    size = image_size
    if image_size is not None:
        differ = sum(one not in (None, image_size) for one in sizes)
        if differ:
            notes.append(f"the image size {image_size} was taken instead of {differ} in the file")
    elif without and len(known) == 1:
        (size,) = known
        notes.append(f"{without} annotations have no 'img_shape': {size} was taken, as others have")
    elif without == len(sizes):
        raise ValueError(
            f"{where}: its annotations have no 'img_shape'. x and y in pixels need the size of the "
            "image: give --image-size HEIGHT WIDTH (image_size=), or --prepare center, which "
            "needs none"
        )

    def sized(entry: _Usable) -> _Usable | LeftOut:
        if image_size is None and entry.size is not None:
            return entry
        if size is None:
            detail = "no 'img_shape', and others differ: give --image-size HEIGHT WIDTH"
            return LeftOut(entry.id, "cannot be read", detail)
        return entry._replace(size=size)

    return _each(entries, sized)


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


IMPORTER = Importer(
    title="an OpenMMLab annotation pickle",
    datasets=(DATASETS["ntu60"], DATASETS["ntu120"]),
    is_source=is_source,
    read=read_clips,
    options=("layout", "labels", "prepare", "image_size"),
    several_sources=True,
    own=True,
)
