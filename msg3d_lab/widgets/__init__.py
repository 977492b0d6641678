"""Widgets that run in the browser, panels that follow runs, curves of a training here."""

from msg3d_lab.widgets.ablation_board import AblationBoard
from msg3d_lab.widgets.controls import confusion_player, hop_slider
from msg3d_lab.widgets.live import LiveCurves
from msg3d_lab.widgets.player import Player
from msg3d_lab.widgets.run_browser import RunBrowser
from msg3d_lab.widgets.run_monitor import RunMonitor
from msg3d_lab.widgets.training_panel import TrainingPanel

__all__ = [
    "AblationBoard",
    "LiveCurves",
    "Player",
    "RunBrowser",
    "RunMonitor",
    "TrainingPanel",
    "confusion_player",
    "hop_slider",
]
