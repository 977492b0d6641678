"""ErrorBrowser: a confusion matrix whose cells open their clips, with filters."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure

from msg3d_lab import explain
from msg3d_lab.data import Store
from msg3d_lab.evaluation import Scores, confusion_counts, confusion_order, read_run_scores
from msg3d_lab.explain import GradientInput, patterns
from msg3d_lab.model import MSG3D
from msg3d_lab.training import Run
from msg3d_lab.training.matching.tested_store import open_matching_store
from msg3d_lab.viz.results.evaluation import confusion_matrix
from msg3d_lab.viz.style import closed_figure
from msg3d_lab.widgets.browser import module, pack
from msg3d_lab.widgets.player import PlayerWidget, store_record

_ALL_IDS = 4000  # clips; of more, only the ids of mistakes travel
_SEGMENTS = 8


class ErrorBrowser(PlayerWidget):
    """A confusion matrix to click: errors on a scale of their own, clips of a cell in two players.

    Classes that are confused stand side by side. Filters by class, confidence, subject and camera
    change the matrix and the list of the most frequent confusions at once. A chosen mistake is
    shown beside a clear case of its true class: the one recognised with the highest confidence;
    joints are coloured by their importance for the predicted class. Python sends the clips when
    one is chosen; the first mistakes of the most frequent confusions are packed, and shown without
    a kernel too.

    Args:
        run_or_scores: a tested run, or scores.
        store: their data. Default, of a run: that of its test.
        network_of: the run whose network says the importance; scores alone show none.
        packed: the number of mistakes that are shown without a kernel.

    Raises:
        FileNotFoundError: the run has not been tested, or its data are gone.
        ValueError: scores without a store, or of other samples than the store's.

    Attributes:
        cell: [true, predicted] class of the chosen cell, or [].
        clip: row of the chosen clip in the scores, or -1.
        only_class, subject, camera: the filters; -1 for all. A class is kept as true or predicted.
        at_least, at_most: the confidence, in percent.
    """

    _esm = module("errors.js")
    cell = traitlets.List(traitlets.Int()).tag(sync=True)
    clip = traitlets.Int(-1).tag(sync=True)
    only_class = traitlets.Int(-1).tag(sync=True)
    subject = traitlets.Int(-1).tag(sync=True)
    camera = traitlets.Int(-1).tag(sync=True)
    at_least = traitlets.Int(0, min=0, max=100).tag(sync=True)
    at_most = traitlets.Int(100, min=0, max=100).tag(sync=True)
    pair = traitlets.Dict(help="the chosen clip and a clear case, for the players").tag(sync=True)

    def __init__(
        self,
        run_or_scores: Run | Scores,
        store: Store | None = None,
        *,
        network_of: Run | None = None,
        packed: int = 4,
    ) -> None:
        if isinstance(run_or_scores, Run):
            network_of = run_or_scores
            split = network_of.recipe.data.test_split
            matched = open_matching_store(network_of, store, split=split)
            store, self.scores = matched.store, read_run_scores(network_of, suffix=matched.suffix)
        else:
            self.scores = run_or_scores
        if store is None:
            raise ValueError("scores do not know their clips: expected a store, found none")
        where = {name: i for i, name in enumerate(store.ids)}
        missing = [name for name in self.scores.ids if name not in where]
        if missing:
            raise ValueError(
                f"expected a store with the clips of the scores, found {len(missing)} of "
                f"{len(self.scores.ids)} missing in {store.path.name} ({missing[0]}, ...): give "
                "the store they were tested on"
            )
        self._rows = np.array([where[name] for name in self.scores.ids], dtype=np.int64)
        self._store, self._run = store, network_of
        self._confidence = self.scores.probabilities.max(axis=1)
        self._counts = confusion_counts(self.scores)
        samples = store.samples.iloc[self._rows]
        scores = self.scores
        known = len(scores.ids) <= _ALL_IDS
        data: dict[str, Any] = {
            "names": list(scores.label_names),
            "order": confusion_order(self._counts).tolist(),
            "label": pack(scores.labels.astype(np.uint16)),
            "predicted": pack(scores.predictions.astype(np.uint16)),
            "confidence": pack(np.round(100 * self._confidence).astype(np.uint8)),
            "ids": [
                name if known or wrong else ""
                for name, wrong in zip(scores.ids, ~scores.correct, strict=True)
            ],
            "synthetic": store.synthetic,
        }
        for name in ("subject", "camera"):
            column = samples[name].fillna(-1).to_numpy(dtype=np.int32)
            data[name] = pack(column)
            data[f"{name}s"] = sorted(set(column[column >= 0].tolist()))
        data["packed"] = {str(row): self._pair(row) for row in self._first_mistakes(packed)}
        super().__init__(data=data)

    def _first_mistakes(self, count: int) -> list[int]:
        """Rows of mistakes: the most confident one of each confusion, the most frequent first."""
        wrong = np.flatnonzero(~self.scores.correct)
        cells = [(int(self.scores.labels[i]), int(self.scores.predictions[i])) for i in wrong]
        order = sorted(
            range(len(wrong)), key=lambda i: (-self._counts[cells[i]], -self._confidence[wrong[i]])
        )
        first: dict[tuple[int, int], int] = {}
        for i in order:
            first.setdefault(cells[i], int(wrong[i]))
        rest = [int(wrong[i]) for i in order if int(wrong[i]) not in first.values()]
        return [*first.values(), *rest][:count]

    def _title(self, row: int) -> str:
        names = self.scores.label_names
        true, predicted = names[self.scores.labels[row]], names[self.scores.predictions[row]]
        said = "recognised" if self.scores.correct[row] else f"taken for {predicted}"
        return f"{true}: {said} ({100 * self._confidence[row]:.0f} %)"

    def clear_case(self, label: int, *, besides: int = -1) -> int | None:
        """Return the row of the clip of a class that was recognised with the highest confidence.

        Args:
            label: the class.
            besides: a row that is not returned.
        """
        good = self.scores.correct & (self.scores.labels == label)
        good[besides] &= besides < 0
        if not good.any():
            return None
        return int(np.where(good, self._confidence, -1).argmax())

    def _pair(self, row: int) -> list[dict[str, object]]:
        """Records of a clip and of a clear case of its class, with colours on one scale."""
        shown = [(row, "")]
        clear = self.clear_case(int(self.scores.labels[row]), besides=row)
        if clear is not None:
            shown.append((clear, "a clear case of "))
        seen = [self._seen(r) for r, _ in shown]
        limits = [float(np.abs(values).max()) for _, values in seen if values is not None]
        return [
            store_record(
                self._store,
                int(self._rows[r]),
                frames,
                values=values,
                title=title + self._title(r),
                limit=max(limits, default=None),
            )
            for (r, title), (frames, values) in zip(shown, seen, strict=True)
        ]

    def _seen(self, row: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The frames the network saw, and the importance for the predicted class, (T, V).

        Without a network, all frames.
        """
        index = int(self._rows[row])
        if self._trained is None:
            return np.arange(self._store.frames[index]), None
        network, first = self._trained
        pose = first.pose
        clips = explain.load_clips(first.run, np.array([index]), data=self._store, pose=pose)
        segments = min(_SEGMENTS, clips.x.shape[2])
        options = explain.Options(by="joint_x_segment", num_segments=segments)
        question = clips.question(torch.tensor([self.scores.predictions[row]]), options)
        values = explain.attribute(network, question, GradientInput())
        return clips.frames[0], patterns.shares(values)[0][question.features.index]

    @cached_property
    def _trained(self) -> tuple[MSG3D, explain.Clips] | None:
        """The run's network, and a clip with the mean pose; both are needed with the first clip."""
        if self._run is None:
            return None
        return self._run.model(), explain.load_clips(self._run, np.array([0]), data=self._store)

    @traitlets.validate("clip")
    def _check_clip(self, proposal: Any) -> int:
        last = len(self.scores.ids) - 1
        if not -1 <= proposal["value"] <= last:
            raise ValueError(f"clip is a row, 0 to {last}, or -1, found {proposal['value']}")
        return int(proposal["value"])

    @traitlets.validate("cell")
    def _check_cell(self, proposal: Any) -> list[int]:
        cell, last = list(proposal["value"]), len(self.scores.label_names) - 1
        if cell and (len(cell) != 2 or not all(0 <= label <= last for label in cell)):
            raise ValueError(f"cell is [true, predicted], classes 0 to {last}, or [], found {cell}")
        return cell

    @traitlets.observe("clip")
    def _send_clip(self, change: Any) -> None:
        row = change["new"]
        if row >= 0 and str(row) not in self.data["packed"]:
            self.pair = {"clip": row, "records": self._pair(row)}

    def figure(self) -> Figure:
        """Return the confusion matrix, its classes in the widget's order."""
        order = self.data["order"]
        names = [self.scores.label_names[i] for i in order]
        return closed_figure(confusion_matrix(self._counts[order][:, order], labels=names))

    def describe(self) -> str:
        """Return the accuracy and the most frequent confusion."""
        right = 100 * self.scores.correct.mean()
        text = (
            f"Confusion matrix of {len(self.scores.ids)} clips of {len(self.scores.label_names)} "
            f"classes, {right:.1f} % recognised"
        )
        mistakes = self._first_mistakes(1)
        if not mistakes:
            return text
        names, row = self.scores.label_names, mistakes[0]
        true, predicted = int(self.scores.labels[row]), int(self.scores.predictions[row])
        times = self._counts[true, predicted]
        most = f"the most frequent confusion is {names[true]} taken for {names[predicted]}"
        return f"{text}; {most} ({times})"
