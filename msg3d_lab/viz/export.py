"""Save figures at a journal's width, with readable text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

_WIDTHS = {"single": 89.0, "double": 183.0}  # millimetres, of a column and of a page


def save_figure(
    figure: Figure | Axes,
    path: str | Path,
    *,
    width: Literal["single", "double"] | float = "double",
    formats: Sequence[str] = ("pdf", "svg"),
    overwrite: bool = False,
) -> list[Path]:
    """Write a figure at the width of a journal's column or page, with readable text.

    The figure keeps its proportions; its text shrinks with it, but not below 6 points. Text stays
    text (PDF embeds the font, SVG names it). Afterwards the figure is as before.

    Args:
        figure: a figure, or an Axes of it.
        path: the file, with or without an ending; each format gets its own ending.
        width: "single" (89 mm), "double" (183 mm), or millimetres.
        formats: endings that matplotlib knows.
        overwrite: whether existing files may be replaced.

    Returns:
        The paths.

    Raises:
        FileExistsError: one of the files exists, before any is written.
        ValueError: an invalid width.
    """
    whole = figure.figure.figure if isinstance(figure, Axes) else figure
    millimetres = _WIDTHS.get(width, 0.0) if isinstance(width, str) else float(width)
    if millimetres <= 0:
        raise ValueError(f"width is 'single', 'double' or millimetres above 0, found {width!r}")
    path = Path(path)
    stem = path.with_suffix("") if path.suffix.lstrip(".") in {*formats, "png"} else path
    targets = [stem.with_name(f"{stem.name}.{ending}") for ending in formats]
    there = [str(target) for target in targets if target.exists()]
    if there and not overwrite:
        raise FileExistsError(f"{', '.join(there)} exists already: choose another path")
    stem.parent.mkdir(parents=True, exist_ok=True)
    size = whole.get_size_inches().copy()
    inches = millimetres / 25.4
    texts = [text for text in whole.findobj(Text) if isinstance(text, Text)]
    points = [text.get_fontsize() for text in texts]
    factor = min(1.0, inches / size[0])
    try:
        whole.set_size_inches((inches, float(size[1]) * inches / float(size[0])))
        for text, before in zip(texts, points, strict=True):
            text.set_fontsize(max(6.0, factor * before))
        with mpl.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "lab"}):
            for target in targets:
                date = {"pdf": "CreationDate", "svg": "Date"}.get(target.suffix[1:])
                aside = target.with_name(f".{target.name}.part")
                try:
                    whole.savefig(
                        aside,
                        format=target.suffix[1:],
                        metadata={date: None} if date else None,
                        dpi=300,
                    )
                    aside.replace(target)
                finally:
                    aside.unlink(missing_ok=True)
    finally:
        whole.set_size_inches((float(size[0]), float(size[1])))
        for text, before in zip(texts, points, strict=True):
            text.set_fontsize(before)
    return targets
