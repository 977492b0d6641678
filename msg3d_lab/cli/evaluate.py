"""`msg3d-lab test`, `report`, `scores`, `record` and `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from msg3d_lab.cli.shared import chosen_run, first_process, transposed


def test(
    run: Positional[Path | None] = None,
    weights: str | None = None,
    recipe: str | None = None,
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

    A killed test continues when it is started again. Another store than the run's must have its
    joints, preparation and class names; what is written about it is named after it
    (scores-STORE.parquet, report-STORE.html) and is no result of the run.

    Args:
        run: the run's folder.
        weights: instead of a run, a checkpoint of anybody's or the name of published weights
            (msg3d-lab weights). They become a run in runs/weights.
        recipe: of the weights; published ones and those of finished runs know theirs.
        data: the store. Default: the one it was trained on.
        clips: clips per sample. Default: the recipe's number.
        average: what is averaged over the clips.
        split: another split than the recipe's test split; nothing is written then.
        batch_size: clips per forward pass.
        device: where to compute.
        devices: processes on this machine. Default: what torchrun or srun started.
        num_nodes: machines. Default: what torchrun or srun started on.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.data import open_store
    from msg3d_lab.evaluation import describe_copies, evaluate
    from msg3d_lab.reporting import results_table, write_report

    tune_allocator()
    opened = chosen_run(run, weights=weights, recipe=recipe)
    store = open_store(data) if data is not None else None
    result = evaluate(
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
    low, high = (100 * end for end in result.interval)
    certainty = (
        f"95 % interval of top-1 over samples {low:.2f} to {high:.2f} %, "
        f"calibration error {100 * result.calibration_error:.2f} %"
    )
    if split not in (None, opened.recipe.data.test_split):
        top5 = "" if result.top5 is None else f", top-5 {100 * result.top5:.2f} %"
        print(
            f"{split}, {len(result.scores.ids)} samples: top-1 {100 * result.top1:.2f} %{top5}, "
            f"mean class {100 * result.mean_class:.2f} %; {certainty}; nothing is written"
        )
        return
    table = results_table([opened], scores=[result.scores]).dropna(axis="columns")
    report = write_report(opened, store=result.tested.store, scores=result.scores)
    copies = describe_copies(result.scores, result.tested, trained=opened.recipe.data.train_split)
    text = "\n".join(filter(None, (certainty, copies)))
    print(f"\n{transposed(table)}\n\n{text}\nScores: {result.path}\nReport: {report}")


def report(
    run: Positional[Path | None] = None,
    weights: str | None = None,
    recipe: str | None = None,
    against: Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
) -> None:
    """Write a tested run's report again, as one HTML file, or one that compares it with another.

    Args:
        run: the run's folder.
        weights: instead of a run, weights that `test --weights` has tested: a file, or a name.
        recipe: of the weights of a file.
        against: a second tested run of the same samples: settings, paired difference with its
            interval, classes, curves over each other.
        data: the store. Default: the one it was trained on.
        out: the file. Default: report.html in the run's folder, report-against-OTHER.html with a
            second run.
    """
    from msg3d_lab.data import open_store
    from msg3d_lab.reporting import write_report
    from msg3d_lab.training import open_run

    tested = chosen_run(run, weights=weights, recipe=recipe)
    second = open_run(against) if against is not None else None
    store = open_store(data) if data is not None else None
    print(f"Report: {write_report(tested, out=out, store=store, against=second)}")


def scores(
    file: Positional[Path],
    out: Path,
    store: Path | None = None,
    split: str | None = None,
    order: str | None = None,
    labels: str | None = None,
    names: str | None = None,
    stream: str | None = None,
    overwrite: bool = False,
) -> None:
    """Convert a score file of MS-G3D, CTR-GCN, pyskl or mmaction2 to scores by sample id.

    Args:
        file: the pickle, or an .npy array; nothing in it is run.
        out: the Parquet file to write.
        store: the data the scores are of; not needed with labels, or if the file has names of NTU
            recordings or the true classes (gt_label).
        split: the split that was tested. Default: found from the names.
        order: the order of scores by position: store, name, ctrgcn, or a file of sample ids.
        labels: instead of a store, a file of true classes: a pickle of (names, labels), a CSV of
            name,label, ...
        names: how names in the file become sample ids: a regular expression with one group, or a
            CSV of name,id.
        stream: the stream the network saw, for the record.
        overwrite: replace an existing file.
    """
    from msg3d_lab.data import open_store
    from msg3d_lab.evaluation import accuracies, read_external_scores, write_scores

    opened = open_store(store) if store is not None else None
    found = read_external_scores(
        file, store=opened, split=split, order=order, stream=stream, labels=labels, names=names
    )
    write_scores(found, out, overwrite=overwrite)
    whole = found.facts["split"] or ("split unknown" if opened is None else "of no whole split")
    print(
        f"{out}: {found.facts['format']} ({found.kind}) of {len(found.ids)} samples in "
        f"{len(found.label_names)} classes, {whole}: "
        + ", ".join(f"{name} {100 * value:.2f} %" for name, value in accuracies(found).items())
    )
    for note in found.facts["notes"]:
        print(f"Note: {note}")


def record(
    run: Positional[Path | None] = None,
    weights: str | None = None,
    recipe: str | None = None,
    table: Path = Path("data/results.csv"),
    keep: bool = False,
) -> None:
    """Append a tested run to the table of recorded results.

    Args:
        run: the run's folder.
        weights: instead of a run, weights that `test --weights` has tested: a file, or a name.
        recipe: of the weights of a file.
        table: the table.
        keep: also keep the run without its weights beside the table, in runs/, so that its scores
            can be fused and compared.
    """
    from msg3d_lab.reporting import keep_run, record_result

    tested = chosen_run(run, weights=weights, recipe=recipe)
    if keep:  # first: it refuses a second run of a recipe and seed, of which no row must be left
        print(f"Kept: {keep_run(tested, table.with_name('runs'))}")
    rows = len(record_result(tested, table))
    print(f"{table}: row {rows} is {tested.path}")


def convert(
    source: Positional[Path],
    target: Positional[Path],
    to: Literal["lab", "mmaction2", "author"] = "lab",
    overwrite: bool = False,
) -> None:
    """Write a checkpoint in the format of this library, of mmaction2 or of the author.

    Args:
        source: a checkpoint of this library, of the author (.pt), of mmaction2 or pyskl (.pth).
        target: the file to write.
        to: its format.
        overwrite: replace an existing file.
    """
    from msg3d_lab.model import convert as run_convert

    run_convert(source, target, to=to, overwrite=overwrite)
    print(f"{target}: {source} in the format of {to}")
