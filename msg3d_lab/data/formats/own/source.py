"""An open source of own recordings, before they are labelled and prepared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.zip_or_folder import Member


@dataclass(frozen=True)
class Source:
    """An open table or folder."""

    # unprepared clips without a label (-1); in place of one that cannot be used, each of its faults
    clips: Iterable[Clip | LeftOut]
    axes: int | None  # 2 or 3 coordinates; None for a folder without any file that can be used
    scored: bool  # whether a score follows the coordinates
    format: str  # the format's name in `data info`


def leave_out_duplicates(members: Sequence[Member]) -> list[Member | LeftOut]:
    """Leave out files whose name occurred before; `members` are in the order of their names."""
    names = [member.id for member in members]
    return [
        LeftOut(member.id, faults.DUPLICATE, member.name)
        if member.id in names[i - 1 : i]
        else member
        for i, member in enumerate(members)
    ]


def join(found: Sequence[LeftOut]) -> LeftOut:
    """All faults of a recording as one."""
    first, *others = found
    more = [f"{fault.reason}: {fault.detail}" for fault in others]
    return replace(first, detail="; ".join([first.detail, *more]))
