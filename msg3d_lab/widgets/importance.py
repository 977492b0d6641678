"""ImportanceExplorer: why a clip got a class, as a heatmap of joints and time beside the player."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import traitlets
from matplotlib.figure import Figure

from msg3d_lab import explain
from msg3d_lab.analysis import class_activation
from msg3d_lab.data import Store
from msg3d_lab.evaluation import hardest, read_run_scores
from msg3d_lab.explain import METHODS, GradientInput, Method
from msg3d_lab.explain.features import joint_parts
from msg3d_lab.explain.methods import attribute
from msg3d_lab.training import Run
from msg3d_lab.viz.attribution.importance import joint_time_heatmap
from msg3d_lab.viz.elements import add_figure_title
from msg3d_lab.viz.style import closed_figure
from msg3d_lab.widgets.browser import module
from msg3d_lab.widgets.player import PlayerWidget, store_record

_FIRST = GradientInput()
_NUM_CLIPS = 12


class ImportanceExplorer(PlayerWidget):
    """Which joints, when, spoke for a class: a heatmap linked to the player, and exact parts.

    Choose a clip, a method and a class. Pointing at the heatmap moves the player to that frame and
    marks the joint; the player's frame is a line in the heatmap. Beside them, the importance of the
    body parts by the method, and the exact parts of the logit: its bias and what the last block
    keeps at each body part, which add up to the logit. What is chosen is computed in a thread, with
    its progress; without a kernel what was computed before can be chosen.

    Args:
        run: a run with weights.
        store: its data. Default: that of its training.
        clips: ids of the clips. Default: the twelve hardest of a tested run, else of the test
            split, balanced over classes.
        methods: that can be chosen.
        method: chosen first, and computed ahead.
        num_segments: how many parts of time importance is given to.
        ahead: the number of clips that are computed at once.

    Raises:
        FileNotFoundError: no weights, or no data.
        ValueError: data that do not fit the run, a clip that is not there, or no method.

    Attributes:
        clip: position in `ids`.
        method: the name of a method.
        explained: a class, or -1 for the predicted one.
        results: what was computed, by "clip method class".
    """

    _esm = module("importance.js")
    clip = traitlets.Int(0).tag(sync=True)
    method = traitlets.Unicode().tag(sync=True)
    explained = traitlets.Int(-1).tag(sync=True)
    progress = traitlets.Unicode().tag(sync=True)
    results = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        run: Run,
        store: Store | None = None,
        *,
        clips: Sequence[str] | None = None,
        methods: Sequence[Method] = METHODS,
        method: Method = _FIRST,
        num_segments: int = 8,
        ahead: int = 2,
    ) -> None:
        self._network, self.store = explain.open_network(run, store)
        self.run = run
        self.methods = {known.name: known for known in (*methods, method)}
        if clips is None:
            clips = self._default_clips()
        where = {name: i for i, name in enumerate(self.store.ids)}
        missing = [name for name in clips if name not in where]
        if missing or not clips:
            raise ValueError(
                f"expected ids of clips in {self.store.path.name}, found {len(missing)} of "
                f"{len(clips)} missing {missing[:3]}"
            )
        self.ids = tuple(clips)
        self._loaded = explain.load_clips(
            run, np.array([where[name] for name in clips]), data=self.store
        )
        self._predicted = explain.predict_classes(self._network, self._loaded.x).tolist()
        self._options = explain.Options(
            by="joint_x_segment",
            num_segments=min(num_segments, self._loaded.x.shape[2]),
        )
        self._features = self._options.features(self.store.skeleton, self._loaded.x.shape[2])
        self._values: dict[str, np.ndarray] = {}
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._told = 0.0
        names = self.store.label_names
        super().__init__(
            data={
                "clips": [
                    f"{name}: {names[label]}"
                    + ("" if label == said else f", taken for {names[said]}")
                    for name, label, said in zip(
                        clips, self._loaded.labels.tolist(), self._predicted, strict=True
                    )
                ],
                "methods": [[name, name.replace("_", " ")] for name in self.methods],
                "names": list(names),
                "predicted": self._predicted,
                "synthetic": self.store.synthetic,
            },
            method=method.name,
        )
        first = range(min(max(ahead, 1), len(clips)))
        self.results = dict(self._compute(i, method.name, self._predicted[i]) for i in first)
        self.progress = ""
        self.observe(self._ask, names=["clip", "method", "explained"])

    def _default_clips(self) -> list[str]:
        if self.run.scores_path.is_file():
            scores = read_run_scores(self.run)
            known = [
                name for name in hardest(scores, top=_NUM_CLIPS)["id"] if name in self.store.ids
            ]
            if known:
                return known
        split = self.run.recipe.data.test_split
        chosen = explain.choose_clips(self.store, split, num_clips=_NUM_CLIPS)
        return [self.store.ids[i] for i in chosen]

    @traitlets.validate("clip", "method", "explained")
    def _check(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        last = len(self.store.label_names) - 1
        if name == "method" and value not in self.methods:
            raise ValueError(f"expected method as one of {', '.join(self.methods)}, found {value}")
        if name == "clip" and not 0 <= value < len(self.ids):
            raise ValueError(f"clip goes from 0 to {len(self.ids) - 1}, found {value}")
        if name == "explained" and not -1 <= value <= last:
            raise ValueError(f"explained is a class, 0 to {last}, or -1, found {value}")
        return value

    def _wanted(self) -> tuple[int, str, int]:
        label = self._predicted[self.clip] if self.explained < 0 else self.explained
        return self.clip, self.method, label

    def _ask(self, _: Any = None) -> None:
        if _key(*self._wanted()) not in self.results:
            self.progress = f"{self.method.replace('_', ' ')}: 0 %"
            self._worker.submit(self._answer)

    def _answer(self) -> None:
        """Compute what is chosen now; choices that were passed over are not computed."""
        wanted = self._wanted()
        if _key(*wanted) in self.results:
            self.progress = ""
            return
        try:
            key, result = self._compute(*wanted)
        except (ValueError, RuntimeError, OSError) as error:
            self.progress = f"failed: {error}"
            return
        self.results = {**self.results, key: result}
        self.progress = ""

    def wait(self) -> None:
        """Wait until what is chosen has been computed."""
        self._worker.submit(lambda: None).result()

    def _compute(self, clip: int, method_name: str, label: int) -> tuple[str, dict[str, Any]]:
        method, own, whole = self.methods[method_name], slice(clip, clip + 1), self._loaded
        x, indices, frames = whole.x[own], whole.indices[own], whole.frames[own]
        clips = replace(whole, x=x, indices=indices, frames=frames)
        question = clips.question(torch.tensor([label]), self._options)
        total, done = max(1, method.cost(len(self._features)).forward), 0

        def count(_: Any, inputs: Any, __: Any) -> None:
            nonlocal done
            done += len(inputs[0])
            if time.monotonic() - self._told > 0.3:
                self._told = time.monotonic()
                percent = min(100 * done // total, 99)
                self.progress = f"{method_name.replace('_', ' ')}: {percent} %"

        handle = self._network.register_forward_hook(count)
        try:
            values = attribute(self._network, question, method)[0]
        finally:
            handle.remove()
        with torch.no_grad():
            logits = self._network(x)[0]
        kept = class_activation(self._network, x, label)[0]
        by_joint = kept.sum(dim=(0, 1)).double().numpy() / kept.numel()
        names, part = self._parts()
        joint_sum = np.bincount(
            np.arange(len(values)) // self._options.num_segments, weights=values
        )
        key = _key(clip, method_name, label)
        self._values[key] = values
        bias = float(self._network.fc.bias.detach()[label])
        exact = [["bias", bias]] + [
            [name, float(by_joint[part == p].sum())] for p, name in enumerate(names)
        ]
        return key, {
            "record": store_record(
                self.store,
                int(indices[0]),
                frames[0],
                values=values[self._features.index],
                title=f"{self.ids[clip]}: for {self.store.label_names[label]}",
                label="importance of the joint in this part of the clip (logit)",
            ),
            "parts": [[name, float(joint_sum[part == p].sum())] for p, name in enumerate(names)],
            "exact": exact,
            "logit": float(logits[label]),
            "probability": float(logits.softmax(dim=0)[label]),
        }

    def _parts(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of the body parts and the part of each joint; the whole body without parts."""
        if not self.store.skeleton.parts:
            return ("whole body",), np.zeros(self.store.skeleton.num_joints, dtype=int)
        return joint_parts(self.store.skeleton)

    def _table(self) -> tuple[pd.DataFrame, str]:
        """Joints x segments of what is chosen, or of what was computed first; and its name."""
        key = _key(*self._wanted())
        key = key if key in self._values else next(iter(self._values))
        clip, method, label = key.split(" ")
        values = self._values[key].reshape(self.store.skeleton.num_joints, -1)
        spans = [name.partition(", ")[2] for name in self._features.names[: values.shape[1]]]
        title = (
            f"{self.ids[int(clip)]}: {method.replace('_', ' ')} "
            f"for {self.store.label_names[int(label)]}"
        )
        joints = pd.Index(self.store.skeleton.joints, name="joint")
        return pd.DataFrame(values, index=joints, columns=spans), title

    def figure(self) -> Figure:
        """Return the heatmap of joints and time."""
        table, title = self._table()
        figure = closed_figure(joint_time_heatmap(table, unit="importance (logit)"))
        add_figure_title(figure, title, size=10)
        return figure

    def describe(self) -> str:
        """Return what was explained, and which joint spoke for it most and when."""
        table, title = self._table()
        joint, span = cast("tuple[str, str]", table.stack().idxmax())
        return f"Importance of joints over time, {title}: highest for {joint} in {span}"


def _key(clip: int, method: str, label: int) -> str:
    return f"{clip} {method} {label}"
