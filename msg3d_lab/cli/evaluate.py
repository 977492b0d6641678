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
    average: Literal["softmax", "logits"] = "softmax",
    split: str | None = None,
    batch_size: int = 16,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
) -> None:
    """Test a run: top-1, top-5 and mean-class accuracy; writes scores.parquet and report.html.

    A test that was killed goes on where it was when it is started again.

    Args:
        run: the run's folder.
        data: the store; the one it was trained on if left out.
        clips: clips per sample; the recipe's number if left out.
        average: what is averaged over them, and kept.
        split: another split than the recipe's; nothing is written then.
        batch_size: clips at a time.
        device: where to compute.
        devices: processes on this machine; what torchrun or srun started if left out.
        num_nodes: machines; what torchrun or srun started on if left out.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.data import open_store
    from msg3d_lab.evaluation import test as run_test
    from msg3d_lab.reporting.report import results_table, write_report
    from msg3d_lab.training import open_run

    tune_allocator()
    opened = open_run(run)
    store = open_store(data) if data is not None else None
    result = run_test(
        opened,
        data=store,
        num_clips=clips,
        average=average,
        split=split,
        batch_size=batch_size,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
    )
    if not first_process():
        return
    low, high = (100 * share for share in result.interval)
    sure = (
        f"95 % interval of top-1 over samples {low:.2f} to {high:.2f} %, "
        f"calibration error {100 * result.calibration_error:.2f} %"
    )
    if split not in (None, opened.recipe.data.test_split):
        top5 = "" if result.top5 is None else f", top-5 {100 * result.top5:.2f} %"
        print(
            f"{split}, {len(result.scores.ids)} samples: top-1 {100 * result.top1:.2f} %{top5}, "
            f"mean class {100 * result.mean_class:.2f} %; {sure}; nothing is written"
        )
        return
    print(f"\n{sideways(results_table([opened]))}\n\n{sure[0].upper()}{sure[1:]}")
    print(f"Scores: {opened.scores_path}\nReport: {write_report(opened, store=store)}")


def scores(
    file: Positional[Path],
    out: Path,
    store: Path | None = None,
    split: str | None = None,
    order: str | None = None,
    stream: str | None = None,
    overwrite: bool = False,
) -> None:
    """Bring a score pickle of MS-G3D, CTR-GCN, pyskl or mmaction2 to sample ids, as Parquet.

    Args:
        file: the pickle; nothing in it is run.
        out: the Parquet file to write.
        store: the data the scores are of; not needed if the file has names of NTU recordings.
        split: what was tested; found out by the names if left out.
        order: what scores by position count in: store, name, ctrgcn, or a file of sample ids.
        stream: which stream the network saw, for the record.
        overwrite: replace an existing file.
    """
    from msg3d_lab.data import open_store
    from msg3d_lab.evaluation import accuracies, read_external_scores, write_scores

    opened = open_store(store) if store is not None else None
    found = read_external_scores(file, store=opened, split=split, order=order, stream=stream)
    write_scores(found, out, overwrite=overwrite)
    shares = accuracies(found)
    print(
        f"{out}: {found.facts['format']} ({found.kind}) of {len(found.ids)} samples in "
        f"{len(found.label_names)} classes, {found.facts['split'] or 'of no whole split'}: "
        + ", ".join(f"{name} {100 * share:.2f} %" for name, share in shares.items())
    )


def record(run: Positional[Path], table: Path = Path("data/results.csv")) -> None:
    """Append a tested run, with its facts, to the table of results worth keeping.

    Args:
        run: the run's folder.
        table: the table.
    """
    from msg3d_lab.reporting.report import record_result
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
    "scores": scores,
    "record": record,
    "convert": convert,
}
