"""Shell commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from msg3d_lab.cli.shared import Settings, first_process, transposed

if TYPE_CHECKING:
    from msg3d_lab.training.loop import FitOptions, JobOptions


def demo(run: Path | None = None, settings: Settings = ()) -> None:
    """Train and test a compact MS-G3D on embedded synthetic data and write a report.

    Args:
        run: the run's folder. Default: runs/demo, or the next free runs/demo-N.
        settings: changes to the recipe synthetic-joint, e.g. epochs=2.
    """
    from msg3d_lab.demo import run_demo
    from msg3d_lab.reporting import results_table

    print("Making or opening the embedded synthetic data set, then training on its X-Sub split.")
    finished = run_demo(run, settings=settings)
    table = transposed(results_table([finished]))
    print(f"\nResults on SYNTHETIC data (held-out subjects)\n\n{table}\n")
    print(f"Report:        {(finished.path / 'report.html').resolve()}")
    print(f"Run folder:    {finished.path}")
    print("What next:     make lab                     the notebooks, 00_start_here first")
    print("               . .venv/bin/activate         then msg3d-lab works in this shell:")
    print("               msg3d-lab recipes            NW-UCLA, NTU RGB+D; data sets: README.md")


def train(
    recipe: Positional[str],
    data: Path | None = None,
    run: Path | None = None,
    init: str | None = None,
    settings: Settings = (),
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    on_nan: Literal["stop", "skip"] = "stop",
    checkpoint_minutes: float = 5,
    seeds: tuple[int, ...] = (),
    slurm: str | None = None,
    tensorboard: bool = False,
) -> None:
    """Train a recipe's network; under torchrun or srun, on all their processes.

    Ctrl-C and SIGTERM stop training with a checkpoint (SIGTERM with exit code 75); the same command
    with --resume goes on.

    Args:
        recipe: a recipe's name (see msg3d-lab recipes) or the path of its YAML.
        data: the store. Default: where `data import` puts it.
        run: the run's folder, which must not exist without --resume. Default: runs/RECIPE.
        init: the weights to start from (fine-tuning): a checkpoint of anybody's, a run's folder, or
            the name of published weights (msg3d-lab weights). The classifier is new where the
            classes differ.
        settings: changes to the recipe, e.g. epochs=5 model.dropout=0.1.
        resume: go on with the run in that folder; start it if there is none.
        device: where to compute.
        devices: processes on this machine. Default: as many as torchrun or srun started.
        num_nodes: machines. Default: as torchrun or srun started.
        precision: of the arithmetic.
        on_nan: at a loss or a gradient that is not finite, stop, or skip the step.
        checkpoint_minutes: between two checkpoints; one is written after every epoch anyway.
        seeds: train once per seed, e.g. 1 2 3, into folders below --run, and show mean and sd;
            finished seeds are not trained again.
        slurm: submit to a cluster instead of training here, e.g. partition=gpu,gpus=8,hours=4;
            with --seeds a job per seed.
        tensorboard: also write the curves for TensorBoard, into the run's folder.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.training import TensorBoard, fit, recipes

    whole = recipes.with_settings(recipes.get(recipe), settings)
    options: JobOptions = {
        "precision": precision,
        "on_nan": on_nan,
        "checkpoint_minutes": checkpoint_minutes,
        "init": init,
        "callbacks": (TensorBoard(),) if tensorboard else (),
    }
    if slurm is not None:
        from msg3d_lab.training.distributed.slurm import parse_slurm, submit

        if (device, devices, num_nodes) != ("auto", None, None):
            raise ValueError(
                "--slurm goes without --device, --devices and --num-nodes: ask for machines and "
                "GPUs in --slurm"
            )
        request = parse_slurm(slurm)
        if seeds:
            from msg3d_lab.experiments.seeds import submit_seeds

            jobs = submit_seeds(whole, slurm=request, seeds=seeds, runs=run, data=data, **options)
            for seed, job in jobs.items():
                print(f"Submitted: seed {seed}, job {job.job_id}; logs in {job.paths.folder}")
            when = "When they are finished," if jobs else "All seeds are finished:"
            print(f"{when} the same command without --slurm shows mean and sd.")
            return
        job = submit(whole, slurm=request, data=data, run=run, resume=resume, **options)
        print(f"Submitted: job {job.job_id}; script and logs in {job.paths.folder}")
        return
    tune_allocator()
    here: FitOptions = {
        **options,
        "data": data,
        "device": device,
        "devices": devices,
        "num_nodes": num_nodes,
        "progress": True,
    }
    if seeds:
        from msg3d_lab.experiments.seeds import fit_seeds

        table = fit_seeds(whole, seeds=seeds, runs=run, **here)
        if first_process():
            print(table.to_string(float_format="{:.4g}".format))
        return
    finished = fit(whole, run=run, resume=resume, **here)
    if first_process():
        kept = finished.environment.get("kept_epoch", len(finished.metrics))
        held_out = finished.recipe.held_out
        top1 = finished.metrics[f"{held_out}_top1"].iloc[kept - 1]
        part = "validation" if held_out == "val" else "test"
        print(f"Finished: {finished.path}; {part} (1 clip) {100 * top1:.2f} % top-1")
        print(f"Next: msg3d-lab test {finished.path}")


def info(
    recipe: Positional[str],
    data: Path | None = None,
    settings: Settings = (),
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    calibration: bool = True,
    seconds: float = 20,
) -> None:
    """Measure what training a recipe costs: parameters, operations, memory, time.

    Without a store noise is used, and there is no time per epoch.

    Args:
        recipe: a recipe's name (see msg3d-lab recipes) or the path of its YAML.
        data: the store. Default: where `data import` puts it.
        settings: changes to the recipe, e.g. batch_size=32.
        device: where to compute.
        precision: of the arithmetic.
        calibration: run some steps, to measure time and memory.
        seconds: that measuring may take.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.training import estimate, recipes

    tune_allocator()
    whole = recipes.with_settings(recipes.get(recipe), settings)
    print(
        estimate(
            whole,
            data=data,
            device=device,
            precision=precision,
            calibrate=calibration,
            seconds=seconds,
        )
    )


def recipes(
    name: Positional[str | None] = None,
    data: Path | None = None,
    out: Path | None = None,
    like: str | None = None,
    settings: Settings = (),
) -> None:
    """List the recipes, print one as YAML, or write one that fits a store.

    `msg3d-lab recipes new --data STORE` takes the store's data set, layout, splits and persons, and
    the other settings from another recipe.

    Args:
        name: the recipe to print; or `new`.
        data: for `new`: the store.
        out: for `new`: the YAML file to write. Default: DATASET-joint.yaml.
        like: for `new`: the recipe whose other settings are taken. Default: ntu60-xsub-3d-joint or
            ntu60-xsub-2d-joint, by the store's coordinates.
        settings: for `new`: changes to it, e.g. epochs=5.
    """
    from msg3d_lab.training import recipes as library

    if name == "new":
        _new_recipe(data, out, like, settings)
        return
    if (data, out, like, settings) != (None, None, None, ()):
        raise ValueError("--data, --out, --like and --set go with `msg3d-lab recipes new`")
    if name is None:
        print("\n".join(library.names()))
    else:
        print(library.to_yaml(library.get(name)), end="")


def _new_recipe(data: Path | None, out: Path | None, like: str | None, settings: Settings) -> None:
    from msg3d_lab.data import open_store
    from msg3d_lab.files import write_aside
    from msg3d_lab.training import recipes as library
    from msg3d_lab.training.matching.recipe import recipe_for, store_notes

    if data is None:
        raise ValueError("recipes new needs the store to write a recipe for: --data STORE")
    store = open_store(data)
    name = out.stem if out is not None else None
    recipe = recipe_for(store, like=like, name=name, settings=library.parse_settings(settings))
    path = out if out is not None else Path(f"{recipe.name}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"expected a recipe's name to end in .yaml, found {path}")
    with write_aside(path) as aside:
        library.save(recipe, aside)
    others = [split for split in store.splits if split not in vars(recipe.data).values()]
    rest = f" (other splits: {', '.join(others)})" if others else ""
    print(
        f"{path}: {recipe.data.layout}, {store.num_classes} classes, "
        f"num_persons {recipe.model.num_persons}, trained on {recipe.data.train_split} and "
        f"tested on {recipe.data.test_split}{rest}"
    )
    for note in store_notes(recipe, store):
        print(f"note: {note}")
    print(f"Next: msg3d-lab train {path} --data {data}")
