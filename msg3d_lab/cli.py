"""The shell: `msg3d-lab COMMAND ...`. Every command is a library function with a line of text.

What a user can get wrong ends in one line on stderr and exit code 2, without a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from msg3d_lab.cli_data import DATA_COMMANDS, data_help

__all__ = ["main"]

Settings = Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: the shell's words; the process's own if left out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands, program, description = COMMANDS, "msg3d-lab", DESCRIPTION
    if words[:1] == ["data"]:
        commands, program, words = DATA_COMMANDS, "msg3d-lab data", words[1:]
        description = str(data_help.__doc__)
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands, prog=program, description=description, args=words or ["--help"]
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:  # the last: a missing extra
        # str(OSError) of the system itself has no file name; its own text does.
        sys.exit(_fail(f"msg3d-lab: {' '.join(str(error).split())}"))
    except KeyboardInterrupt:
        sys.stderr.write("\nmsg3d-lab: stopped\n")
        sys.exit(130)


DESCRIPTION = (
    "MS-G3D Lab: train, test and look into MS-G3D on skeleton sequences. "
    "`msg3d-lab COMMAND --help` tells the options of a command; `msg3d-lab demo` shows everything "
    "at work on embedded synthetic data."
)


def _fail(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 2


def demo(run: Path | None = None, settings: Settings = ()) -> None:
    """Train and test a compact MS-G3D on embedded synthetic data and write a report.

    Args:
        run: the run's folder; runs/demo, or the next free runs/demo-N, if left out.
        settings: changes to the recipe synthetic-joint, e.g. epochs=2.
    """
    from msg3d_lab.demo import demo as run_demo
    from msg3d_lab.reporting import results_table

    print("Making or opening the embedded synthetic data set, then training on its X-Sub split.")
    finished = run_demo(run, settings=settings)
    print(
        f"\nResults on SYNTHETIC data (held-out subjects)\n\n{_text(results_table([finished]))}\n"
    )
    print(f"Report:        {(finished.path / 'report.html').resolve()}")
    print(f"Run folder:    {finished.path}")
    print("What next:     make lab                     the notebooks, 00_start_here first")
    print("               . .venv/bin/activate         then msg3d-lab works in this shell:")
    print("               msg3d-lab recipes            NW-UCLA, NTU RGB+D; data sets: README.md")


def train(
    recipe: Positional[str],
    data: Path | None = None,
    run: Path | None = None,
    settings: Settings = (),
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    on_nan: Literal["stop", "skip"] = "stop",
    checkpoint_minutes: float = 5,
    seeds: str | None = None,
    slurm: str | None = None,
) -> None:
    """Train a recipe's network; under torchrun or srun, on all their processes.

    SIGTERM ends training with a checkpoint and exit code 75: the same words with --resume go on.

    Args:
        recipe: a recipe's name (see msg3d-lab recipes) or the path of its YAML.
        data: the store; where `data import` puts it if left out.
        run: the run's folder, which must not exist without --resume; runs/RECIPE if left out.
        settings: changes to the recipe, e.g. epochs=5 model.dropout=0.1.
        resume: go on with the run in that folder; start it if there is none.
        device: where to compute.
        devices: processes on this machine; what torchrun or srun started if left out.
        num_nodes: machines; what torchrun or srun started on if left out.
        precision: of the arithmetic.
        on_nan: at a loss or a gradient that is not finite, stop or skip the step.
        checkpoint_minutes: between two checkpoints; one is written after every epoch anyway.
        seeds: train once per seed, e.g. 1,2,3, into folders below --run, and show mean and sd;
            what is there already is gone on with.
        slurm: submit to a cluster instead of training here, e.g. partition=gpu,gpus=8,hours=4.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.training import fit, recipes

    whole = recipes.with_settings(recipes.get(recipe), settings)
    arguments: dict[str, Any] = {
        "data": data,
        "precision": precision,
        "on_nan": on_nan,
        "checkpoint_minutes": checkpoint_minutes,
    }
    places: dict[str, Any] = {"device": device, "devices": devices, "num_nodes": num_nodes}
    if slurm is not None:
        from msg3d_lab.training.cluster import parse_slurm, submit

        if seeds is not None or (device, devices, num_nodes) != ("auto", None, None):
            raise ValueError(
                "--slurm goes without --seeds, --device, --devices and --num-nodes: submit one "
                "seed at a time, and ask for machines and GPUs in --slurm"
            )
        job = submit(whole, run=run, resume=resume, **arguments, **parse_slurm(slurm))
        print(f"Submitted: job {job.job_id}; script and logs in {job.paths.folder}")
        return
    tune_allocator()
    if seeds is not None:
        from msg3d_lab.training.seeds import fit_seeds, parse_seeds

        table = fit_seeds(whole, seeds=parse_seeds(seeds), runs=run, **places, **arguments)
        if _first_process():
            print(table.to_string(float_format="{:.4g}".format))
        return
    finished = fit(whole, run=run, resume=resume, **places, **arguments)
    if _first_process():
        kept = finished.environment.get("kept_epoch", len(finished.metrics))
        top1 = finished.metrics["val_top1"].iloc[kept - 1]
        part = "validation" if finished.recipe.data.validation_subjects else "test"
        print(f"Finished: {finished.path}; {part} (1 clip) {100 * top1:.2f} % top-1")
        print(f"Next: msg3d-lab test {finished.path}")


def test(
    run: Positional[Path],
    data: Path | None = None,
    clips: int | None = None,
    split: str | None = None,
    batch_size: int = 16,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
) -> None:
    """Test a run: top-1, top-5 and mean-class accuracy; writes scores.parquet and report.html.

    Args:
        run: the run's folder.
        data: the store; the one it was trained on if left out.
        clips: clips per sample, softmax scores averaged; the recipe's number if left out.
        split: another split than the recipe's; nothing is written then.
        batch_size: clips at a time.
        device: where to compute.
        devices: processes on this machine; what torchrun or srun started if left out.
        num_nodes: machines; what torchrun or srun started on if left out.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.data import open_store
    from msg3d_lab.evaluation import test as run_test
    from msg3d_lab.reporting import results_table, write_report
    from msg3d_lab.training import open_run

    tune_allocator()
    opened = open_run(run)
    store = open_store(data) if data is not None else None
    result = run_test(
        opened,
        data=store,
        num_clips=clips,
        split=split,
        batch_size=batch_size,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
    )
    if not _first_process():
        return
    if split not in (None, opened.recipe.data.test_split):
        top5 = "" if result.top5 is None else f", top-5 {100 * result.top5:.2f} %"
        print(
            f"{split}, {len(result.scores.ids)} samples: top-1 {100 * result.top1:.2f} %{top5}, "
            f"mean class {100 * result.mean_class:.2f} %; nothing is written"
        )
        return
    print(f"\n{_text(results_table([opened]))}\n")
    print(f"Scores: {opened.scores_path}\nReport: {write_report(opened, store=store)}")


def record(run: Positional[Path], table: Path = Path("data/results.csv")) -> None:
    """Append a tested run, with its facts, to the table of results worth keeping.

    Args:
        run: the run's folder.
        table: the table.
    """
    from msg3d_lab.reporting import record_result
    from msg3d_lab.training import open_run

    rows = len(record_result(open_run(run), table))
    print(f"{table}: row {rows} is {run}")


def convert(
    source: Positional[Path],
    target: Positional[Path],
    to: Literal["lab", "mmaction2", "author"] = "lab",
    overwrite: bool = False,
) -> None:
    """Write a checkpoint in our format, or in mmaction2's or the author's.

    Args:
        source: a checkpoint of ours, of the author (.pt), of mmaction2 or pyskl (.pth).
        target: the file to write.
        to: its format.
        overwrite: replace an existing file.
    """
    from msg3d_lab.model import convert as run_convert

    run_convert(source, target, to=to, overwrite=overwrite)
    print(f"{target}: {source} in the format of {to}")


def recipes(name: Positional[str | None] = None) -> None:
    """List the recipes, or print one as YAML, ready to be saved, changed and trained.

    Args:
        name: the recipe to print.
    """
    from msg3d_lab.training import recipes as library

    if name is None:
        print("\n".join(library.names()))
    else:
        print(library.to_yaml(library.get(name)), end="")


def _first_process() -> bool:
    """Whether this is the process that talks, of those that torchrun or srun started."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _text(table: Any) -> str:
    """A data frame on its side, so that it fits any terminal."""
    return table.T.to_string(header=len(table) > 1 or None)


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "data": data_help,
    "recipes": recipes,
    "train": train,
    "test": test,
    "record": record,
    "convert": convert,
}
