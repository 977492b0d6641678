"""A clip as a player: one piece of HTML, or the record that the player's script draws."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from matplotlib.colors import to_hex

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.elements import SHARE
from msg3d_lab.viz.html import template
from msg3d_lab.viz.motion.layout import joint_sides, to_view
from msg3d_lab.viz.motion.skeleton import check_clip, check_values, filmstrip
from msg3d_lab.viz.style import png, signed_scale

_HIDDEN = np.iinfo(np.int16).min


def player_html(
    clip: np.ndarray,
    skeleton: Skeleton,
    *,
    title: str,
    fps: float = 30,
    values: np.ndarray | None = None,
) -> str:
    """Return a clip as a player: one piece of HTML for a page or `IPython.display.HTML`.

    Play, pause, scrub, change speed; drag a 3D clip (or Shift with the arrow keys) to turn it;
    point at a joint for its name. Everything is inside and nothing is fetched; several players fit
    on one page. It starts paused for readers who ask for reduced motion. Where scripts may not run
    it is a filmstrip.

    Args:
        clip: (M, T, V, C).
        title: of the player; also read to readers who cannot see it.
        fps: frames per second of the recording.
        values: (M, T, V), or (T, V) the same for all persons: joints are coloured and sized by
            them, signed values with 0 in the middle of the colours. The background is then always
            white, because dark joints could not be seen on a dark page.

    Raises:
        ValueError: not a clip, values that are not finite or do not match it, or fps is not
            positive.
    """
    record = player_record(clip, skeleton, title=title, fps=fps, values=values)
    content = htmlsafe_json_dumps(record, separators=(",", ":"))
    still = png(filmstrip(clip, skeleton, frames=4, values=values), dpi=48, palette=True)
    return template("msg3d_lab.viz.motion", "player.html").render(
        title=title,
        valued=values is not None,
        still=base64.b64encode(still).decode(),
        record=content,
        key=hashlib.sha256(content.encode()).hexdigest()[:10],
    )


def player_record(
    clip: np.ndarray,
    skeleton: Skeleton,
    *,
    title: str,
    fps: float = 30,
    values: np.ndarray | None = None,
    label: str = SHARE,
    limit: float | None = None,
) -> dict[str, Any]:
    """Return what `buildPlayer` in `templates/player.js` draws of a clip, as JSON holds it.

    The arguments are those of `player_html`.

    Args:
        label: what the values are, with their unit.
        limit: absolute value at the end of the colours. Default: the largest.
    """
    clip = check_clip(clip)
    if not fps > 0:
        raise ValueError(f"fps must be above 0, found {fps}")
    points, seen = to_view(clip, skeleton)
    extent = points[seen] if seen.any() else np.zeros((1, 3))
    middle = (extent.min(axis=0) + extent.max(axis=0)) / 2
    reach = float(np.abs(extent - middle).max()) or 1.0
    # 16 bits resolve a ten-thousandth of the body, in a third of the bytes of JSON numbers.
    units = np.where(seen[..., None], (points - middle) / reach * 32000, _HIDDEN).round()
    ends = np.bincount(np.ravel(skeleton.edges).astype(int), minlength=skeleton.num_joints) == 1
    record: dict[str, Any] = {
        "title": title,
        "shape": list(clip.shape[:3]),
        "joints": list(skeleton.joints),
        "edges": [list(edge) for edge in skeleton.edges],
        "side": joint_sides(skeleton).tolist(),
        "head": skeleton.joints.index("head") if "head" in skeleton.joints else -1,
        "tips": np.flatnonzero(ends).tolist(),
        "fps": fps,
        "flat": skeleton.up is None or clip.shape[-1] == 2,
        "coordinates": base64.b64encode(units.astype("<i2").tobytes()).decode(),
    }
    if values is not None:
        values = check_values(values, clip)
        cmap, norm = signed_scale(values, limit=limit)
        levels = (np.clip(np.asarray(norm(values)), 0, 1) * 254).round().astype(np.uint8)
        low, high = float(norm.vmin or 0), float(norm.vmax or 0)
        record["levels"] = base64.b64encode(levels.tobytes()).decode()
        record["colors"] = [to_hex(cmap(level / 254)) for level in range(255)]
        record["signed"] = low < 0
        record["limit"] = high
        record["label"] = label
        record["ends"] = [f"{end:.2g}" for end in ((low, 0, high) if low else (0, high))]
    return record
