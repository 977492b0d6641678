"""The published weights of MS-G3D, by name: those of mmaction2 and of pyskl."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from msg3d_lab.download import fetch_file
from msg3d_lab.published import read_published

FOLDER = Path("data/weights")
_ZOOS = {"mmaction2 projects/msg3d README": "mmaction2", "pyskl configs/msg3d README": "pyskl"}
_HASH = re.compile(r"-([0-9a-f]{8})\.pth")  # torch.hub's convention


@dataclass(frozen=True)
class PublishedWeights:
    """A checkpoint that was published with an accuracy.

    Args:
        name: the zoo and the recipe without "-pyskl", such as "pyskl/ntu60-xsub-3d-bone".
        recipe: the name of the recipe it was trained and is tested with.
        address: where it is.
        top1: its published accuracy, percent, with 10 test clips.
        source: the page that says so.
    """

    name: str
    recipe: str
    address: str
    top1: float
    source: str

    @property
    def sha256_start(self) -> str:
        """The first digits of the file's sha256, where the file's name has them; else empty."""
        match = _HASH.search(self.address)
        return match[1] if match else ""

    @property
    def file(self) -> str:
        """The name of the file here."""
        return f"{self.name.replace('/', '-')}.pth"


@cache
def published_weights() -> dict[str, PublishedWeights]:
    """Return all published checkpoints by name.

    Source: mmaction2 `projects/msg3d/README.md` and pyskl `configs/msg3d/README.md`, which link the
        files and state the accuracies.
    """
    table = read_published()
    found = {}
    for _, row in table[table["source"].isin(_ZOOS) & (table["checkpoint"] != "")].iterrows():
        name = f"{_ZOOS[row['source']]}/{row['recipe'].removesuffix('-pyskl')}"
        found[name] = PublishedWeights(
            name, row["recipe"], row["checkpoint"], float(row["top1_percent"]), row["reference"]
        )
    return found


def find_weights(name: str) -> PublishedWeights:
    """Return the published checkpoint of a name.

    Raises:
        ValueError: there is none; the message lists near names.
    """
    known = published_weights()
    if name not in known:
        raise ValueError(
            f"no published weights {name!r}{near_names(name)}; `msg3d-lab weights` lists all"
        )
    return known[name]


def near_names(name: str) -> str:
    """Return ": did you mean ...?" with published names near to one, or nothing."""
    near = difflib.get_close_matches(name, published_weights(), n=3, cutoff=0.75)
    return f": did you mean {', '.join(near)}?" if near else ""


def download_weights(
    name: str,
    *,
    folder: str | Path = FOLDER,
    progress: bool = True,
    address: str | None = None,
    retries: int = 5,
    wait: float = 1.0,
) -> Path:
    """Download published weights, or resume their download; check the file if it is there already.

    The sha256 of the first download is recorded beside the file, and later ones are compared with
    it. Where the published name has the first digits, they must match.

    Args:
        name: see `published_weights`.
        folder: where the file goes; made if missing.
        progress: whether to show a progress bar.
        address: instead of the published one.
        retries: attempts in a row that may bring nothing.
        wait: seconds before the first retry.

    Returns:
        The file's path.

    Raises:
        ValueError: unknown name, something else than a checkpoint, or another checksum.
        ConnectionError: the address did not give the file; the message says what is kept.
    """
    weights = find_weights(name)
    return fetch_file(
        Path(folder) / weights.file,
        [address or weights.address],
        kind="checkpoint",
        sha256_start=weights.sha256_start,
        progress=progress,
        retries=retries,
        wait=wait,
    )
