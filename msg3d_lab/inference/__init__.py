"""Predict single recordings, long recordings and streams with a trained network."""

from msg3d_lab.inference.predictor import Prediction, Predictor, Stream
from msg3d_lab.inference.recordings import Recording, read_frame, read_recordings
from msg3d_lab.inference.windows import ClassCurves

__all__ = [
    "ClassCurves",
    "Prediction",
    "Predictor",
    "Recording",
    "Stream",
    "read_frame",
    "read_recordings",
]
