"""Controls for notebooks. Every one has a static figure that shows the same without a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.hops import hop_figure
from msg3d_lab.viz.style import png

if TYPE_CHECKING:
    import ipywidgets

__all__ = ["HopSlider", "hop_slider"]


class HopSlider(NamedTuple):
    """Controls and their picture, to be shown in two cells.

    Args:
        controls: a box with the slider `k` and the drop-down `joint`.
        picture: an image that follows them.
        k: the slider.
        joint: the drop-down.
    """

    controls: ipywidgets.Box
    picture: ipywidgets.Image
    k: ipywidgets.IntSlider
    joint: ipywidgets.Dropdown


def hop_slider(
    skeleton: Skeleton, *, focus: int = 0, k: int = 3, num_scales: int = 13
) -> HopSlider:
    """Return a slider for the scale k and a choice of joint, with `hop_figure` following them.

    Args:
        skeleton: the joint layout.
        focus: the joint at the start.
        k: the scale at the start.
        num_scales: K + 1; the slider goes from 0 to K.

    Raises:
        ValueError: `k` or `focus` is out of range.
    """
    import ipywidgets

    if not 0 <= k < num_scales:
        raise ValueError(f"k goes from 0 to num_scales - 1 = {num_scales - 1}, found {k}")
    if not 0 <= focus < skeleton.num_joints:
        raise ValueError(f"focus is a joint number, 0 to {skeleton.num_joints - 1}, found {focus}")
    slider = ipywidgets.IntSlider(
        value=k, min=0, max=num_scales - 1, description="scale k", continuous_update=False
    )
    names = [(name, joint) for joint, name in enumerate(skeleton.joints)]
    joint = ipywidgets.Dropdown(options=names, value=focus, description="joint")
    picture = _described(ipywidgets.Image, "The slider's picture, while a kernel runs.")(
        format="png", layout={"max_width": "100%"}
    )
    controls = _described(ipywidgets.HBox, "A slider for k and a choice of joint, in a kernel.")(
        [slider, joint]
    )

    def redraw(_: Any = None) -> None:
        picture.value = png(hop_figure(skeleton, slider.value, focus=joint.value), dpi=100)

    for control in (slider, joint):
        control.observe(redraw, names="value")
    redraw()
    return HopSlider(controls, picture, slider, joint)


def _described(kind: type, text: str) -> Any:
    """The widget class with `text` in its place on pages that have no kernel."""
    return type(kind.__name__, (kind,), {"__repr__": lambda _: text})
