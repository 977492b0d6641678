"""The shell's commands that test, and keep or hand on what came out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from msg3d_lab.cli.shared import first_process, sideways

__all__ = ["EVALUATE_COMMANDS"]


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
    if not first_process():
        return
    if split not in (None, opened.recipe.data.test_split):
        top5 = "" if result.top5 is None else f", top-5 {100 * result.top5:.2f} %"
        print(
            f"{split}, {len(result.scores.ids)} samples: top-1 {100 * result.top1:.2f} %{top5}, "
            f"mean class {100 * result.mean_class:.2f} %; nothing is written"
        )
        return
    print(f"\n{sideways(results_table([opened]))}\n")
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


EVALUATE_COMMANDS: dict[str, Callable[..., None]] = {
    "test": test,
    "record": record,
    "convert": convert,
}
