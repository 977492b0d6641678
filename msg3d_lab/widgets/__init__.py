"""Controls for notebooks, and curves that follow a training."""

from msg3d_lab.widgets.controls import confusion_player, hop_slider
from msg3d_lab.widgets.live import LiveCurves
from msg3d_lab.widgets.player import Player

__all__ = ["LiveCurves", "Player", "confusion_player", "hop_slider"]
