"""Widgets that run in the browser, panels that follow runs, curves of a training here."""

from msg3d_lab.widgets.ablation_board import AblationBoard
from msg3d_lab.widgets.adjacency import AdjacencyExplorer
from msg3d_lab.widgets.errors import ErrorBrowser
from msg3d_lab.widgets.importance import ImportanceExplorer
from msg3d_lab.widgets.live import LiveCurves
from msg3d_lab.widgets.player import Player
from msg3d_lab.widgets.run_browser import RunBrowser
from msg3d_lab.widgets.run_monitor import RunMonitor
from msg3d_lab.widgets.training_panel import TrainingPanel
from msg3d_lab.widgets.window import WindowExplorer

__all__ = [
    "AblationBoard",
    "AdjacencyExplorer",
    "ErrorBrowser",
    "ImportanceExplorer",
    "LiveCurves",
    "Player",
    "RunBrowser",
    "RunMonitor",
    "TrainingPanel",
    "WindowExplorer",
]
