"""Describe a store in a few lines: `msg3d-lab data info`."""

from __future__ import annotations

import numpy as np

from msg3d_lab.data.checks.coordinates import CoordinateCheck
from msg3d_lab.data.checks.ntu_completeness import ntu_differences
from msg3d_lab.data.checks.problems import MOST_PERSONS, Findings
from msg3d_lab.data.datasets import parse_ntu_name
from msg3d_lab.data.store import Store

_EXAMPLES = 3
_NAMED = 0.1  # the fraction of NTU names from which on names are compared with the data set


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
    if store.dataset in ("ntu60", "ntu120"):
        names = [*store.ids, *store.left_out["id"]]
        # CTR-GCN's arrays have no names.
        if sum(parse_ntu_name(name) is not None for name in names) > _NAMED * len(names):
            notes = ntu_differences(names, store.dataset)
            text += [f"note:         {line}" for line in notes]
    return "\n".join(text)


def count_unseen(store: Store) -> str | None:
    """Describe the joints of own recordings that were not seen; None if all were.

    Every clip is read. A joint at the origin of a prepared clip does not count.
    """
    findings = Findings()
    check = CoordinateCheck(
        findings,
        store.skeleton,
        axes=store.dimensions,
        preparation=str(store.preparation.get("name", "none")),
        count_unseen=True,
    )
    for i, name in enumerate(store.ids):
        check.observe(name, store.keypoints(i))
    unseen = check.unseen
    clips = [name for name, count in unseen.items() if count]
    if not clips:
        return None
    return (
        f"{sum(unseen.values())} joints in {len(clips)} of {len(store)} clips were not seen "
        f"(blank, missing or zero; e.g. {clips[0]}): they are zeros"
    )


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
