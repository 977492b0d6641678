"""`msg3d-lab weights` and `reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from msg3d_lab.cli.shared import Settings


def weights(
    action: Positional[Literal["list", "download"]] = "list",
    names: Positional[tuple[str, ...]] = (),
    folder: Path = Path("data/weights"),
) -> None:
    """List the published weights of MS-G3D, or download some.

    Their names can stand for a file: msg3d-lab test --weights pyskl/ntu60-xsub-3d-joint.

    Args:
        action: list or download.
        names: which; for list, only names that contain one of these.
        folder: where downloads go.
    """
    import pandas as pd

    from msg3d_lab.model.weights import download_weights, find_weights, published_weights
    from msg3d_lab.training import recipes

    if action == "download":
        if not names:
            raise ValueError(
                "expected the names of weights to download: msg3d-lab weights lists them"
            )
        for known in [find_weights(name) for name in names]:
            print(download_weights(known.name, folder=folder))
        return
    rows = []
    for known in published_weights().values():
        if names and not any(part in known.name for part in names):
            continue
        data = recipes.get(known.recipe).data
        rows.append(
            {
                "name": known.name,
                "data": data.dataset,
                "split": data.test_split.removesuffix("_val"),
                "layout": data.layout,
                "stream": data.stream,
                "published top-1 %": known.top1,
                "here": "yes" if (folder / known.file).is_file() else "",
            }
        )
    if not rows:
        raise ValueError(f"no published weights have {' or '.join(names)} in their name")
    print(pd.DataFrame(rows).to_string(index=False))
    print(
        "\nSources: the READMEs of mmaction2 projects/msg3d and pyskl configs/msg3d; 10 test clips."
    )


def reproduce(
    row: Positional[str | None] = None,
    origin: Annotated[Literal["weights", "training"] | None, arg(name="from")] = None,
    zoo: Literal["pyskl", "mmaction2"] = "pyskl",
    data: Path | None = None,
    runs: Path = Path("runs/reproduce"),
    settings: Settings = (),
    compact: bool = False,
    seeds: tuple[int, ...] = (),
    plan: bool = False,
    batch_size: int = 16,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
) -> None:
    """Do a whole row of the results: data, weights or training, tests of all streams, fusions.

    The steps and what they need are shown first. The same command again continues where it was,
    after Ctrl-C or a kill too. The last epoch is tested: the test split chooses nothing.

    Args:
        row: such as ntu60-xsub-2d or nw-ucla; without one, the rows are listed.
        origin: test published weights, or train first. Default: weights where there are any;
            nw-ucla and utd-mhad are trained.
        zoo: whose weights: pyskl has four streams, mmaction2 (the MS-G3D project) joints.
        data: the data set as `data import` takes it (a pickle, all_sqe.zip, ...), or a store of it.
            Default: the store in data/; else it is downloaded where it can be.
        runs: the folder of the run folders; the table is written there too, as ROW.csv.
        settings: changes to the recipes.
        compact: train narrower networks with fewer passes (the recipes *-compact), for CPUs.
        seeds: of the trainings. Default: one, that of the recipes.
        plan: only show the steps.
        batch_size: clips per forward pass of the tests.
        device: where to compute.
        precision: of the arithmetic of trainings.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.reporting.reproduce import Reproduction, rows

    if row is None:
        print("Rows:", ", ".join(rows()))
        return
    tune_allocator()
    work = Reproduction(
        row,
        origin=origin,
        zoo=zoo,
        data=data,
        runs=runs,
        settings=tuple(settings),
        compact=compact,
        seeds=tuple(seeds),
    )

    def show_plan() -> None:
        print(work.plan().replace({True: "done", False: "to do"}).to_string(), flush=True)

    has_data = work.store_path.is_file()
    show_plan()
    if not plan:
        if not has_data:
            work.open_store()
            show_plan()  # now with times
        work.run(device=device, precision=precision, batch_size=batch_size)
    table = work.table()
    if not work.trains:
        table = table[["streams", "source", "published", "measured", "difference", "clips"]]
    print(f"\n{table.round(2).to_string(index=False, na_rep='')}")
    if work.trains:
        print(
            "\nmeasured: mean over the seeds, of the last epoch; low and high: 95 % interval over "
            "what the column says.\nbest epoch: what keeping the epoch with the highest test "
            "accuracy would have given; no result of ours is chosen so."
        )
