"""Predict the action of recordings: whole, in sliding windows, or frame after frame.

A recording is prepared as the clips were that the network was trained on. How, the run says
(`environment.json`), or the store it was trained on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from msg3d_lab.data.batches.loader import Batch
from msg3d_lab.data.preprocess import zero_unseen
from msg3d_lab.data.store import Store
from msg3d_lab.inference.preparation import (
    PreparedClips,
    RecordedPreparation,
    with_persons,
)
from msg3d_lab.inference.windows import ClassCurves, class_curves, window_starts
from msg3d_lab.model import fuse
from msg3d_lab.model.prediction import predict
from msg3d_lab.training.distributed.processes import resolve_device
from msg3d_lab.training.matching.tested_store import open_matching_store
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.setup import build_assembler

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Prediction:
    """The class probabilities of one recording.

    Args:
        probabilities: (classes,), sum 1.
        label_names: the class names.
    """

    probabilities: np.ndarray
    label_names: tuple[str, ...]

    @property
    def label(self) -> int:
        """The number of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def name(self) -> str:
        """The name of the most probable class."""
        return self.label_names[self.label]

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return float(self.probabilities[self.label])

    def table(self, top: int = 5) -> pd.DataFrame:
        """Return the most probable classes: class, label, probability."""
        import pandas as pd

        order = np.argsort(-self.probabilities, kind="stable")[:top]
        return pd.DataFrame(
            {
                "class": [self.label_names[i] for i in order],
                "label": order,
                "probability": self.probabilities[order],
            }
        )


class Predictor:
    """A trained network with the preparation of its recordings.

    Args:
        run: a run or its folder.
        data: the store that the run was trained on, for runs that do not say how it was prepared.
            Default: the path that the run has.
        num_clips: test clips per recording, whose softmax scores are averaged. Default: as many as
            the recipe tests with.
        device: "auto", "cpu", "cuda" or "mps".

    Attributes:
        run: the run.
        skeleton: the joint layout of recordings.
        label_names: the class names.
        preparation: what is done to the coordinates of a recording.
        num_persons: the persons that the network sees.
        network: the network, in the form for evaluation.

    Raises:
        FileNotFoundError: no run, no weights, or an older run whose store is not there.
        ValueError: the preparation cannot be repeated on a single recording.

    Example:
        >>> predictor = Predictor("runs/demo")  # doctest: +SKIP
        >>> predictor(keypoints).table()  # (M, T, V, C) or (T, V, C)  # doctest: +SKIP
    """

    def __init__(
        self,
        run: Run | str | Path,
        *,
        data: Store | str | Path | None = None,
        num_clips: int | None = None,
        device: str = "auto",
    ) -> None:
        self.run = run if isinstance(run, Run) else open_run(run)
        self.device = resolve_device(device)
        model = self.run.model()
        self.skeleton = model.skeleton
        store = None if data is None else open_matching_store(self.run, data).store
        facts = self.run.data_facts(store)
        self.label_names = tuple(facts["label_names"])
        self.preparation = RecordedPreparation(
            facts["preparation"], skeleton=self.skeleton, channels=model.arguments["in_channels"]
        )
        self.num_persons = self.run.recipe.model.num_persons
        self.num_clips = self.run.recipe.test_clips if num_clips is None else num_clips
        self.network = fuse(model).to(self.device)

    def __call__(
        self, keypoints: np.ndarray, *, image_size: tuple[int, int] | None = None
    ) -> Prediction:
        """Predict one recording.

        Args:
            keypoints: coordinates in the layout `skeleton`, as they were recorded; zeros for
                absent persons and joints.
            image_size: (height, width) in pixels, for networks of prepared 2D recordings.

        Shapes:
            keypoints: (M, T, V, C) or (T, V, C).

        Raises:
            ValueError: another shape, no person in any frame, or an image size too few or too many.
        """
        clip = self.preparation(keypoints, image_size=image_size)
        return Prediction(self.probabilities([clip])[0], self.label_names)

    def windows(
        self,
        keypoints: np.ndarray,
        *,
        window: int | None = None,
        stride: int | None = None,
        fps: float = 30,
        image_size: tuple[int, int] | None = None,
        batch_size: int = 16,
    ) -> ClassCurves:
        """Predict every window of a long recording.

        Each window is prepared as a recording of its own, as the training clips were.

        Args:
            keypoints: coordinates, see `__call__`.
            window: frames per window. Default: the recipe's `clip_len`.
            stride: frames from one window to the next. Default: an eighth of a window.
            fps: frames per second.
            image_size: (height, width) in pixels.
            batch_size: windows per forward pass.

        Raises:
            ValueError: see `__call__`; a window, stride or `fps` that is not above 0.
        """
        if not fps > 0:
            raise ValueError(f"expected more than 0 frames per second, found {fps}")
        keypoints = with_persons(keypoints)
        window = self.run.recipe.data.clip_len if window is None else window
        stride = max(1, window // 8) if stride is None else stride
        num_frames = keypoints.shape[1]
        starts = window_starts(num_frames, window=window, stride=stride)
        found = np.full((len(starts), len(self.label_names)), np.nan, dtype=np.float32)
        for first in range(0, len(starts), batch_size):
            batch = range(first, min(first + batch_size, len(starts)))
            parts = {i: keypoints[:, starts[i] : starts[i] + window] for i in batch}
            seen = [i for i in batch if self.preparation.has_person(parts[i])]
            if seen:
                clips = [self.preparation(parts[i], image_size=image_size) for i in seen]
                found[seen] = self.probabilities(clips)
        return class_curves(
            starts,
            found,
            num_frames=num_frames,
            window=window,
            label_names=self.label_names,
            fps=fps,
        )

    def stream(
        self,
        *,
        window: int | None = None,
        every: int = 10,
        image_size: tuple[int, int] | None = None,
    ) -> Stream:
        """Return a stream that takes frame after frame and answers every few frames.

        Args:
            window: the number of newest frames that are kept and predicted. Default: the recipe's
                `clip_len`.
            every: frames between two answers.
            image_size: (height, width) in pixels.
        """
        length = self.run.recipe.data.clip_len if window is None else window
        return Stream(self, window=length, every=every, image_size=image_size)

    def facts(self) -> dict[str, Any]:
        """Return what a user of the network alone must know, in plain types."""
        recipe, skeleton = self.run.recipe, self.skeleton
        return {
            "label_names": list(self.label_names),
            "preparation": self.preparation.record,
            "layout": skeleton.name,
            "joints": list(skeleton.joints),
            "bones": [list(bone) for bone in skeleton.bones],
            "up": skeleton.up,
            "across": skeleton.across,
            "stream": recipe.data.stream,
            "clip_len": recipe.data.clip_len,
            "sampling": recipe.data.sampling,
            "rescale": recipe.data.rescale,
            "num_persons": self.num_persons,
            "recipe": recipe.name,
        }

    def network_input(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return what the network sees of prepared recordings: (N, K, M, T, V, C) float32."""
        data = self.run.recipe.data
        arrays = PreparedClips(clips, skeleton=self.skeleton, scored=self.preparation.scored)
        assemble = build_assembler(self.run.recipe, arrays)
        return assemble.test_clips(
            np.arange(len(clips)), num_clips=self.num_clips, axis=data.augment.turning_axis
        )

    def probabilities(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the class probabilities of prepared recordings: (N, classes) float32."""
        indices = np.arange(len(clips))
        batch = Batch(self.network_input(clips), indices, indices)
        ((logits, _, _),) = predict(self.network, [batch], device=self.device)
        return torch.from_numpy(logits).softmax(-1).mean(1).numpy()


class Stream:
    """Predicts the newest frames of an endless recording. Made by `Predictor.stream`.

    Memory is constant: a ring buffer of `window` frames. Before it is full, the frames so far are
    predicted.

    Attributes:
        window: the number of newest frames that are predicted.
        every: frames between two answers.
        num_frames: frames taken so far.
        latency_ms: the milliseconds of the last hundred answers, from the arrival of the frame to
            the answer.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        window: int,
        every: int,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        if min(window, every) < 1:
            raise ValueError(f"expected window and every of at least 1, found {window} and {every}")
        self.window, self.every = window, every
        self.num_frames = 0
        self.latency_ms: deque[float] = deque(maxlen=100)
        self._predictor, self._image_size = predictor, image_size
        self._ring: np.ndarray | None = None

    def add(self, frame: np.ndarray) -> Prediction | None:
        """Take a frame; return a prediction every `every` frames, else None.

        None also if nobody is in any of the newest frames.

        Shapes:
            frame: (M, V, C) or (V, C), with the same M and C in every frame that is not all zeros.

        Raises:
            ValueError: a frame of another shape than the layout's, or than those before.
        """
        start = time.perf_counter()
        frame = with_persons(np.asarray(frame, dtype=np.float64)[..., None, :, :])[:, 0]
        frame = zero_unseen(frame, self._predictor.preparation.dimensions)
        somebody = bool(frame.any())  # without anybody, the number of channels is not known
        if self._ring is None and somebody:
            self._ring = np.zeros((frame.shape[0], self.window, *frame.shape[1:]))
        if self._ring is not None:
            if somebody and self._ring[:, 0].shape != frame.shape:
                raise ValueError(
                    f"expected frames {self._ring[:, 0].shape} as before, found {frame.shape}: put "
                    "zeros for persons who are absent"
                )
            self._ring[:, self.num_frames % self.window] = frame if somebody else 0
        self.num_frames += 1
        if self._ring is None or self.num_frames % self.every:
            return None
        newest = self._newest(self._ring)
        if not self._predictor.preparation.has_person(newest):
            return None
        prediction = self._predictor(newest, image_size=self._image_size)
        self.latency_ms.append(1000 * (time.perf_counter() - start))
        return prediction

    def _newest(self, ring: np.ndarray) -> np.ndarray:
        """The frames of the ring buffer in the order of time."""
        if self.num_frames < self.window:
            return ring[:, : self.num_frames]
        return np.roll(ring, -(self.num_frames % self.window), axis=1)
