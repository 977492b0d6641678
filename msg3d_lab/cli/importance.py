"""The shell's command for joint importance."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from msg3d_lab.cli.shared import chosen_run


def importance(
    run: Positional[str | None] = None,
    method: Literal[
        "class_activation", "gradient_x_input", "integrated_gradients", "occlusion", "shapley"
    ] = "occlusion",
    by: Literal["joint", "part", "segment", "joint_x_segment"] = "joint",
    baseline: Literal["mean_pose", "first_frame", "removed"] = "mean_pose",
    target: Literal["predicted", "true"] = "predicted",
    weights: str | None = None,
    recipe: str | None = None,
    data: Path | None = None,
    split: str | None = None,
    clips: int | None = None,
    segments: int = 8,
    score: Literal["logit", "log_probability"] = "logit",
    samples: int = 8,
    steps: int = 16,
    batch_size: int = 64,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    out: Path | None = None,
    cost: bool = False,
) -> None:
    """Explain a run: the importance of joints, body parts or moments as Parquet, PDF and SVG.

    A stopped call continues where it was. Notebook 07 compares the methods.

    Args:
        run: the run's folder; or a checkpoint, or the name of published weights.
        method: the attribution method.
        by: what importance is given to.
        baseline: what replaces a joint.
        target: which class is explained: the predicted or the true one.
        weights: instead of a run, as for `test`.
        recipe: of a checkpoint; runs and published weights know theirs.
        data: the store. Default: the one the run was trained on.
        split: the clips. Default: the recipe's test split.
        clips: how many, balanced over classes. Default: all.
        segments: number of time segments.
        score: what is explained.
        samples: random orders of Shapley sampling.
        steps: points of integrated gradients.
        batch_size: the largest number of clips in one forward pass.
        seed: of the choice of clips and of what is drawn.
        device: where to compute.
        out: the table; .parquet is added if it has no ending. Default:
            importance-METHOD-BY.parquet in the run's folder. Figures go into a folder of the same
            name beside it; with time segments also clips.html, the first clips as players.
        cost: print what each method costs and stop.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.explain import (
        ClassActivation,
        GradientInput,
        IntegratedGradients,
        Method,
        Occlusion,
        Options,
        Shapley,
        explain_cost,
        explain_run,
    )
    from msg3d_lab.explain.figures import write_figures
    from msg3d_lab.explain.over_clips import table_path
    from msg3d_lab.training.matching.tested_store import open_matching_store

    tune_allocator()
    methods: dict[str, Method] = {
        "class_activation": ClassActivation(),
        "gradient_x_input": GradientInput(),
        "integrated_gradients": IntegratedGradients(steps=steps),
        "occlusion": Occlusion(),
        "shapley": Shapley(samples=samples),
    }
    chosen = methods[method]
    opened = chosen_run(run, weights=weights, recipe=recipe)
    tested = open_matching_store(opened, data, split=opened.recipe.data.test_split)
    store = tested.store if data is not None else None
    own = table_path(opened, chosen, by)
    path = out if out is not None else own.with_stem(f"{own.stem}{tested.suffix}")
    if not path.suffix:
        path = path.with_name(f"{path.name}.parquet")
    if path.suffix != ".parquet":
        raise ValueError(f"the table is a Parquet file: expected --out to end in .parquet: {path}")
    folder = path.with_suffix("")
    if folder.exists() and not path.exists() and not cost:
        raise FileExistsError(
            f"{folder}, where the figures go, exists without {path.name}: remove it or choose "
            "another path with --out"
        )
    options = Options(
        data=store,
        split=split,
        num_clips=clips,
        by=by,
        num_segments=segments,
        baseline=baseline,
        score=score,
        seed=seed,
        batch_size=batch_size,
        device=device,
    )
    table = explain_cost(opened, list(methods.values()) if cost else [chosen], options)
    print("Passes per clip, and minutes for all clips:")
    print(table.to_string(float_format="{:.2g}".format))
    if cost:
        return
    found = explain_run(opened, chosen, options, target=target, out=path)
    if folder.exists():
        print(f"\n{path} and its figures exist already")
        return
    figures = write_figures(found, tested.store.skeleton, folder, data=tested.store)
    synthetic = "SYNTHETIC data, " if found.facts["synthetic"] else ""
    print(f"\n{synthetic}{len(found)} clips of {found.facts['split']}: {path}")
    print("Figures: " + ", ".join(str(f) for f in figures if f.suffix != ".svg") + " (and SVG)")
