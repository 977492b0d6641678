"""What the comparison of methods costs, said before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msg3d_lab.analysis.features import make_features
from msg3d_lab.data.store import Store
from msg3d_lab.explain.clips import store_of
from msg3d_lab.explain.methods import CONTROLS, METHODS, explain_cost
from msg3d_lab.training.runs import Run, open_run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ranking_cost"]


def ranking_cost(
    run: Run | str | Path,
    *,
    others: Sequence[Run | str | Path] = (),
    methods: Sequence[str] = METHODS,
    by: str = "joint",
    data: Store | str | Path | None = None,
    split: str | None = None,
    num_clips: int = 48,
    num_segments: int = 8,
    samples: int = 8,
    steps: int = 16,
    repeats: int = 20,
    points: int = 8,
    batch_size: int = 64,
    device: str = "auto",
) -> pd.DataFrame:
    """Say beforehand what `rank_methods` takes; the arguments are the same.

    Every method is asked of the network, of its shuffled copy and of every other network, and is
    checked by two deletion curves, as are the controls.

    Args:
        run: a run or its folder.
        others: runs with other seeds.
        methods: which methods.
        by: the features.
        data: the store; the one the run was trained on if left out.
        split: the clips; the recipe's training split if left out.
        num_clips: how many.
        num_segments: stretches of time.
        samples: orders drawn by Shapley sampling.
        steps: points of integrated gradients.
        repeats: sets of features per clip for `faithfulness`.
        points: steps of each deletion curve.
        batch_size: clips at a time.
        device: where to compute.

    Returns:
        A row "ranking" with the columns of `explain_cost`, to be put below its rows: clips, all
        forward and backward passes per clip, and minutes.

    Raises:
        FileNotFoundError: no run, no weights, or the store is gone.
        ValueError: an unknown method, or a store that does not fit the run.
    """
    import pandas as pd

    run = run if isinstance(run, Run) else open_run(run)
    store, data_recipe = store_of(run, data), run.recipe.data
    # The one goes forwards only, the other also back, so that they tell the time of each way.
    timed = ("class_activation", "gradient_x_input")
    costs = explain_cost(
        run,
        by=by,
        num_clips=num_clips,
        methods=[*timed, *methods],
        data=store,
        split=split or data_recipe.train_split,
        num_segments=num_segments,
        samples=samples,
        steps=steps,
        batch_size=batch_size,
        device=device,
    )
    there, back = costs.loc[timed[0]], costs.loc[timed[1]]
    forward_minutes = there["minutes"] / (there["forward"] + 1)  # with one for the prediction
    backward_minutes = (back["minutes"] - there["minutes"]) / back["backward"]
    features = make_features(
        by, store.skeleton, num_frames=data_recipe.clip_len, num_segments=num_segments
    )
    curve = min(points, len(features)) + 1
    # The prediction; the whole clip and sets of its features; the random curve, and two of each.
    checks = 1 + (1 + repeats) + curve * (1 + 2 * (len(methods) + len(CONTROLS)))
    networks = 2 + len(others)
    asked = costs.loc[list(methods), ["forward", "backward"]].sum()
    forward, backward = checks + networks * asked["forward"], networks * asked["backward"]
    row = {
        "clips": there["clips"],
        "forward": forward,
        "backward": backward,
        "minutes": forward * forward_minutes + backward * backward_minutes,
    }
    table = pd.DataFrame.from_dict({"ranking": row}, orient="index").rename_axis("method")
    return table.astype(costs.dtypes.to_dict())
