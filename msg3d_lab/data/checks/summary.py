"""Describe a store in a few lines: `msg3d-lab data info`."""

from __future__ import annotations

import numpy as np

from msg3d_lab.data.checks.problems import MOST_PERSONS
from msg3d_lab.data.datasets import DATASETS, missing_skeletons, parse_ntu_name
from msg3d_lab.data.store import Store

_EXAMPLES = 3
_RECORDINGS = {"ntu60": (56_880, 17), "ntu120": (114_480, 32)}  # and setups


def describe_store(store: Store) -> str:
    """Describe the contents of a store in a few lines of text."""
    size, preparation = store.path.stat().st_size, store.preparation
    seen = np.bincount(store.labels, minlength=store.num_classes)
    persons = [f"{count} with {m}" for m, count in enumerate(np.bincount(store.persons)) if count]
    frames = store.frames
    options = {k: v for k, v in preparation.items() if k not in ("name", "sha256", "notes")}
    made = [preparation.get("name", "none"), *(f"{k} {v}" for k, v in options.items())]
    lines = {
        "data set": store.dataset
        + (" (SYNTHETIC: generated recordings)" if store.synthetic else ""),
        "file": f"{store.path} ({size / 1e6:.1f} MB)",
        "fingerprint": store.fingerprint,
        "layout": f"{store.skeleton.name}, {store.skeleton.num_joints} joints, {_channels(store)}",
        "clips": f"{len(store)} of {np.count_nonzero(seen)} classes out of {store.num_classes}, "
        f"{seen[seen > 0].min()} to {seen.max()} per class",
        "splits": ", ".join(f"{name} {count}" for name, count in store.splits.items()) or "none",
        "persons": ", ".join(persons),
        "frames": f"{frames.min()} to {frames.max()}, median {np.median(frames):g}",
        "preparation": ", ".join(made),
        "source hash": str(preparation.get("sha256", "none"))[:16],
    }
    text = [f"{name + ':':14}{line}" for name, line in lines.items()]
    text += [f"note:         {line}" for line in preparation.get("notes", ())]
    crowded = int(np.count_nonzero(store.persons > MOST_PERSONS))
    if crowded:
        order = (
            "seen longest" if preparation.get("persons") == "longest first" else "that come first"
        )
        text.append(
            f"note:         {crowded} clips have more than {MOST_PERSONS} persons: a network with "
            f"num_persons={MOST_PERSONS} sees the {MOST_PERSONS} {order}"
        )
    left_out = _describe_left_out(store)
    if left_out:
        text += ["left out:", *(f"  {line}" for line in left_out)]
    text += [f"note:         {line}" for line in _ntu_differences(store)]
    return "\n".join(text)


def _describe_left_out(store: Store) -> list[str]:
    """Describe what was left out of a store: a line per reason, with numbers and examples."""
    lines = []
    for reason, rows in store.left_out.groupby("reason", sort=False):
        first = zip(rows["id"][:_EXAMPLES], rows["detail"][:_EXAMPLES], strict=True)
        shown = [f"{name} ({detail})" if detail else str(name) for name, detail in first]
        more = ", ..." if len(rows) > _EXAMPLES else ""
        lines.append(f"{len(rows)} {reason}: {', '.join(shown)}{more}")
    return lines


def _channels(store: Store) -> str:
    axes = "xyz"[: store.dimensions]
    return f"{store.channels} channels ({', '.join([*axes, *(['score'] * store.scored)])})"


def _ntu_differences(store: Store) -> list[str]:
    """Compare the recordings of the source with NTU's; nothing if they have other names."""
    names = {*store.ids, *store.left_out["id"]}
    parsed = {name: parse_ntu_name(name) for name in names}
    found = {name: n.setup for name, n in parsed.items() if n and n.is_of(store.dataset)}
    if store.dataset not in _RECORDINGS or not found:
        return []
    listed, (expected, setups) = missing_skeletons(store.dataset), _RECORDINGS[store.dataset]
    if len(found) == expected:
        return []
    usable, usable_here = expected - len(listed), len(set(found) - listed)
    lines = [
        f"{DATASETS[store.dataset].title} has {expected:,} recordings, {usable:,} of them usable; "
        f"the source has {len(found):,}, {usable_here:,} of them usable"
    ]
    absent = [str(n) for n in range(1, setups + 1) if n not in found.values()]
    return [*lines, f"no recording is of setup {', '.join(absent)}"] if absent else lines
