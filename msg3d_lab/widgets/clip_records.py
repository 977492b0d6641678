"""Clips of a store as records of a player, with their importance for a run's network."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from msg3d_lab import explain
from msg3d_lab.data import Store
from msg3d_lab.explain import patterns
from msg3d_lab.explain.methods import Method, attribute
from msg3d_lab.model import MSG3D
from msg3d_lab.training import Run
from msg3d_lab.viz.motion.player import player_record

_SEGMENTS = 8
_MAX_FRAMES = 64  # of a record; longer clips are thinned out, and shown at their speed


class ClipRecords:
    """Makes records of `buildPlayer` of a store's clips.

    Args:
        store: the clips.
        run: whose network says the importance; None: clips without importance.
        method: says it; None: clips without importance.
    """

    def __init__(self, store: Store, *, run: Run | None, method: Method | None) -> None:
        self.store, self.run = store, run
        self.method = method if run is not None else None

    @cached_property
    def network(self) -> MSG3D:
        """The run's network, read when it is first needed."""
        if self.run is None:
            raise ValueError("scores alone have no network: give a run")
        return self.run.model()

    @cached_property
    def _pose(self) -> Tensor:
        if self.run is None:
            raise ValueError("scores alone have no network: give a run")
        return explain.load_clips(self.run, np.array([0]), data=self.store).pose

    def load(self, index: int) -> explain.Clips:
        """Return a clip as the network sees it."""
        if self.run is None:
            raise ValueError("scores alone have no network: give a run")
        return explain.load_clips(self.run, np.array([index]), data=self.store, pose=self._pose)

    def importance(self, clips: explain.Clips, label: int, method: Method) -> np.ndarray:
        """Return the share of every joint and time segment in the logit of a class: (T, V)."""
        frames = clips.x.shape[2]
        options = explain.Options(by="joint_x_segment", num_segments=min(_SEGMENTS, frames))
        question = clips.question(torch.tensor([label]), options)
        values = attribute(self.network, question, method)
        return np.asarray(patterns.shares(values)[0][question.features.index])

    def pair(self, wanted: list[tuple[int, int, str]]) -> list[dict[str, object]]:
        """Return records of clips on one scale.

        Args:
            wanted: position in the store, the class that is explained, and the title, per clip.
        """
        clips, values, rates = [], [], []
        for index, label, _ in wanted:
            recorded = self.store.keypoints(index)
            if self.run is None or self.method is None:
                frames, importance = np.arange(recorded.shape[1]), None
            else:
                loaded = self.load(index)
                frames = loaded.frames[0]
                importance = self.importance(loaded, label, self.method)
            step = math.ceil(len(frames) / _MAX_FRAMES)
            rates.append(explain.playback_fps(frames, recorded.shape[1]) / step)
            shown = recorded[:, frames[::step]]
            present = (shown != 0).any(axis=(1, 2, 3))
            clips.append(shown[present] if present.any() else shown[:1])
            values.append(None if importance is None else importance[::step])
        known = [np.abs(v).max() for v in values if v is not None]
        return [
            player_record(
                clip,
                self.store.skeleton,
                title=title,
                fps=rate,
                values=value,
                limit=float(max(known)) if known else None,
            )
            for clip, value, rate, (_, _, title) in zip(clips, values, rates, wanted, strict=True)
        ]
