"""`msg3d-lab weights`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

__all__ = ["WEIGHTS_COMMANDS"]


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


WEIGHTS_COMMANDS: dict[str, Callable[..., None]] = {"weights": weights}
