"""The shell's command that asks which joints a trained network looks at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

__all__ = ["IMPORTANCE_COMMANDS"]


def importance(
    run: Positional[Path],
    method: Literal[
        "class_activation", "gradient_x_input", "integrated_gradients", "occlusion", "shapley"
    ] = "occlusion",
    by: Literal["joint", "part", "segment", "joint_x_segment"] = "joint",
    baseline: Literal["mean_pose", "first_frame", "removed"] = "mean_pose",
    target: Literal["predicted", "true"] = "predicted",
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
    """Explain a run: the importance of joints, parts or moments as Parquet, PDF and SVG.

    A call that was stopped goes on where it was. Notebook 07 compares the methods.

    Args:
        run: the run's folder.
        method: how importance is found.
        by: what it is given to.
        baseline: what takes the place of what is taken away.
        target: the class asked about: the network's answer, or the true one.
        data: the store; the one it was trained on if left out.
        split: the clips; the recipe's test split if left out.
        clips: how many, balanced over classes; all if left out.
        segments: stretches of time.
        score: what is explained.
        samples: orders that Shapley sampling draws.
        steps: points of integrated gradients.
        batch_size: clips at a time.
        seed: of the clips chosen and of what is drawn.
        device: where to compute.
        out: the table; .parquet is added if it has no ending; importance-METHOD-BY.parquet in the
            run's folder if left out. Figures go into a folder of the same name beside it; over
            time also clips.html, the first clips in motion.
        cost: say what all the methods cost and do nothing.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.data import open_store
    from msg3d_lab.explain import METHODS, explain, explain_cost
    from msg3d_lab.explain.clips import store_of
    from msg3d_lab.explain.figures import write_figures
    from msg3d_lab.training import open_run

    tune_allocator()
    opened = open_run(run)
    store = open_store(data) if data is not None else None
    path = out if out is not None else run / f"importance-{method}-{by}.parquet"
    if not path.suffix:
        path = path.with_name(f"{path.name}.parquet")
    if path.suffix != ".parquet":
        raise ValueError(f"the table is a Parquet file: expected --out to end in .parquet: {path}")
    folder = path.with_suffix("")
    if folder.exists() and not path.exists() and not cost:
        raise FileExistsError(
            f"{folder}, where the figures go, is there without {path.name}: remove it or choose "
            "another path with --out"
        )
    table = explain_cost(
        opened,
        by=by,
        num_clips=clips,
        methods=METHODS if cost else [method],
        data=store,
        split=split,
        num_segments=segments,
        samples=samples,
        steps=steps,
        batch_size=batch_size,
        device=device,
    )
    print("Passes per clip, and minutes for all clips:")
    print(table.to_string(float_format="{:.2g}".format))
    if cost:
        return
    found = explain(
        opened,
        method=method,
        by=by,
        baseline=baseline,
        target=target,
        data=store,
        split=split,
        num_clips=clips,
        num_segments=segments,
        score=score,
        samples=samples,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        device=device,
        out=path,
    )
    if folder.exists():
        print(f"\n{path} and its figures are there already")
        return
    shown = store_of(opened, store)
    figures = write_figures(found, shown.skeleton, folder, data=shown)
    made_up = "SYNTHETIC data, " if found.facts["synthetic"] else ""
    print(f"\n{made_up}{len(found)} clips of {found.facts['split']}: {path}")
    print("Figures: " + ", ".join(str(f) for f in figures if f.suffix != ".svg") + " (and SVG)")


IMPORTANCE_COMMANDS: dict[str, Callable[..., None]] = {"importance": importance}
