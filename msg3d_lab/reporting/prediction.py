"""A page of predicted recordings: the moving skeletons and what they were recognised by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from msg3d_lab.data.batches.sampling import choose_test_frames
from msg3d_lab.explain import patterns
from msg3d_lab.explain.baselines import make_baseline
from msg3d_lab.explain.clips import playback_fps
from msg3d_lab.explain.features import make_features
from msg3d_lab.explain.methods import Occlusion, attribute
from msg3d_lab.explain.question import Question
from msg3d_lab.files import write_text
from msg3d_lab.inference import Prediction, Predictor, Recording
from msg3d_lab.viz import player_html
from msg3d_lab.viz.html import template

_SEGMENTS = 8


def write_prediction_report(
    predictor: Predictor,
    recordings: Sequence[Recording],
    out: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    top: int = 5,
) -> Path:
    """Write the predictions of recordings as one HTML file; an existing one is replaced.

    Joints are coloured and sized by their importance: how much the logit of the predicted class
    falls when a joint stays, for an eighth of the clip, where it was in the first frame.

    Args:
        predictor: predicts them.
        recordings: at least one.
        out: the file.
        image_size: (height, width) in pixels, for recordings that do not say it.
        top: how many classes are shown of each.

    Raises:
        ValueError: see `Predictor.__call__`.
    """
    entries = []
    for recording in recordings:
        clip = predictor.preparation(
            recording.keypoints, image_size=recording.image_size or image_size
        )
        prediction = Prediction(predictor.probabilities([clip])[0], predictor.label_names)
        entries.append(
            {
                "name": recording.id,
                "classes": prediction.table(top).to_dict("records"),
                "player": _player(predictor, recording.id, clip, prediction),
            }
        )
    page = template("msg3d_lab.reporting", "prediction.html").render(
        title=f"Predictions of {predictor.run.path.name}",
        run=predictor.run.path.name,
        recipe=predictor.run.recipe.name,
        synthetic=predictor.run.environment.get("synthetic", False),
        entries=entries,
    )
    write_text(out, page)
    return Path(out)


def _player(predictor: Predictor, name: str, clip: np.ndarray, prediction: Prediction) -> str:
    data = predictor.run.recipe.data
    frames = choose_test_frames(clip.shape[1], sampling=data.sampling, clip_len=data.clip_len)[0]
    x = torch.from_numpy(predictor.network_input([clip])[:, 0]).to(predictor.device)
    segments = min(_SEGMENTS, data.clip_len)
    features = make_features(
        "joint_x_segment",
        predictor.skeleton,
        num_frames=data.clip_len,
        num_segments=segments,
    )
    question = Question(
        x=x,
        classes=torch.tensor([prediction.label]),
        features=features,
        baseline=make_baseline(x, "first_frame"),
    )
    values = attribute(predictor.network, question, Occlusion())
    return player_html(
        clip[:, frames],
        predictor.skeleton,
        title=f"{name}: {prediction.name}, {100 * prediction.probability:.0f} %",
        values=patterns.shares(values)[0][features.index],
        fps=playback_fps(frames, clip.shape[1]),
    )
