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

__all__ = ["main"]

Settings = Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: the shell's words; the process's own if left out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands, program = COMMANDS, "msg3d-lab"
    if words[:1] == ["data"]:
        commands, program, words = DATA_COMMANDS, "msg3d-lab data", words[1:]
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands, prog=program, description=DESCRIPTION, args=words or ["--help"]
        )
    except (ValueError, OSError) as error:
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
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
) -> None:
    """Train a recipe's network; under torchrun or srun, on all their processes.

    Args:
        recipe: a recipe's name (see msg3d-lab recipes) or the path of its YAML.
        data: the store; where `data import` puts it if left out.
        run: the run's folder, which must not exist; runs/RECIPE if left out.
        settings: changes to the recipe, e.g. epochs=5 model.dropout=0.1.
        device: where to compute.
        devices: processes on this machine; what torchrun or srun started if left out.
        num_nodes: machines; what torchrun or srun started on if left out.
        precision: of the arithmetic.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.training import fit, recipes

    tune_allocator()
    finished = fit(
        recipes.with_settings(recipes.get(recipe), settings),
        data=data,
        run=run,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
    )
    if _first_process():
        last = finished.metrics.iloc[-1]
        print(f"Run folder: {finished.path}; test (1 clip) {100 * last['val_top1']:.2f} % top-1")
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


def data_import(source: Positional[Path], dataset: str, out: Path | None = None) -> None:
    """Import a download into a store; the format is recognised from the source.

    Args:
        source: an OpenMMLab pickle, or NW-UCLA's all_sqe folder or zip.
        dataset: ntu60, ntu120 or nw-ucla; decides class names, splits and joint layout.
        out: the new store; data/DATASET.arrow, for NTU with -2d or -3d, if left out.
    """
    from msg3d_lab.data import import_dataset, open_store
    from msg3d_lab.data.importing import describe

    path = import_dataset(source, dataset=dataset, out=out)
    print(describe(open_store(path)))


def data_info(store: Positional[Path]) -> None:
    """Say what is in a store.

    Args:
        store: the store's path.
    """
    from msg3d_lab.data import open_store
    from msg3d_lab.data.importing import describe

    print(describe(open_store(store)))


def data_help() -> None:
    """Import data and look into stores: msg3d-lab data --help."""


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
DATA_COMMANDS: dict[str, Callable[..., None]] = {"import": data_import, "info": data_info}
