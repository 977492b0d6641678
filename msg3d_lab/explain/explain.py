"""Explaining many clips of a run, so that nothing is computed twice after a kill."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from glob import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from msg3d_lab.analysis import importance
from msg3d_lab.analysis.saved import (
    Importance,
    join_importance,
    read_importance,
    write_importance,
)
from msg3d_lab.data.store import Store
from msg3d_lab.explain.clips import choose_clips, load_clips, run_in_a_circle
from msg3d_lab.explain.methods import (
    check_names,
    device_of,
    importance_of,
    network_of,
    predictions_of,
)
from msg3d_lab.files import locked
from msg3d_lab.training.runs import Run, open_run

__all__ = ["explain"]

log = logging.getLogger(__name__)

_CHUNK = 32  # clips: what a kill can cost


def explain(
    run: Run | str | Path,
    *,
    method: str = "occlusion",
    by: str = "joint",
    baseline: str = "mean_pose",
    target: Literal["predicted", "true"] = "predicted",
    data: Store | str | Path | None = None,
    split: str | None = None,
    num_clips: int | None = None,
    num_segments: int = 8,
    score: str = "logit",
    samples: int = 8,
    steps: int = 16,
    batch_size: int = 64,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    progress: bool = True,
) -> Importance:
    """Explain the clips of a run and write a table by sample id.

    Finished chunks are kept beside the table until it is whole: the same call goes on after a kill.
    A table that is there already, of the same weights, data and arguments, is read. Over time, a
    warning says how many recordings a clip runs through more than once.

    Args:
        run: a run or its folder.
        method: see `importance_of`.
        by: "joint", "part", "segment" or "joint_x_segment".
        baseline: what takes a feature's place.
        target: the class asked about: what the network says, or what is true.
        data: the store; the one the run was trained on if left out.
        split: the clips; the recipe's test split if left out.
        num_clips: how many, balanced over classes; all if left out.
        num_segments: stretches of time.
        score: "logit" or "log_probability".
        samples: orders drawn by Shapley sampling.
        steps: points of integrated gradients.
        batch_size: clips at a time.
        seed: of the clips chosen and of what is drawn.
        device: "auto", "cpu", "cuda" or "mps".
        out: the table; `importance-METHOD-BY.parquet` in the run's folder if left out.
        progress: whether to show a progress bar.

    Raises:
        BlockingIOError: another process is at work on this table.
        FileExistsError: another table is at `out`.
        FileNotFoundError: no run, no weights, or the store is gone.
        ValueError: an unknown name, or a store that does not fit the run.
    """
    run = run if isinstance(run, Run) else open_run(run)
    check_names(method, baseline)
    if target not in ("predicted", "true"):
        raise ValueError(f"target is 'predicted' or 'true', found {target!r}")
    where = device_of(device)
    model, store = network_of(run, data, device=where)
    split = split or run.recipe.data.test_split
    indices = choose_clips(store, split, num_clips=num_clips, seed=seed)
    facts: dict[str, Any] = {
        "method": method,
        "by": by,
        "baseline": baseline if method in importance.METHODS else "none",
        "score": score,
        "target": target,
        "split": split,
        "num_segments": num_segments if "segment" in by else None,
        "samples": samples if method == "shapley" else None,
        "steps": steps if method == "integrated_gradients" else None,
        "seed": seed,
        "dataset": store.dataset,
        "synthetic": store.synthetic,
        "layout": store.skeleton.name,
        "stream": run.recipe.data.stream,
        "clip_len": run.recipe.data.clip_len,
        "sampling": run.recipe.data.sampling,
        "recipe": run.recipe.name,
        "recipe_hash": run.recipe.hash,
        "weights": hashlib.sha256(run.checkpoint.read_bytes()).hexdigest()[:16],
        "data_fingerprint": store.fingerprint,
    }
    if method == "shapley":
        facts["orders"] = "by clip"  # tables begun when all clips had the same are not gone on with
    facts["key"] = _key(facts, indices)
    again = run_in_a_circle(
        store.frames[indices], sampling=facts["sampling"], clip_len=facts["clip_len"]
    )
    if "segment" in by and again.any():
        log.warning(
            "%d of %d recordings are shorter than the %d frames of a clip and are seen again from"
            " their start: in them later stretches of time are earlier ones once more, and to"
            " replace one leaves the other in place",
            again.sum(),
            len(again),
            facts["clip_len"],
        )
    path = Path(out) if out is not None else run.path / f"importance-{method}-{by}.parquet"
    if path.exists():
        return _same(path, facts["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = path.with_name(f".{path.name}.{facts['key']}.parts")
    with locked(path.with_name(f".{path.name}.lock")):
        if path.exists():  # another process has just finished it
            return _same(path, facts["key"])
        if others := [folder.name for folder in _parts_of(path) if folder != parts]:
            log.warning(
                "%s: begun before with other weights, clips or arguments; what is kept of that (%s)"
                " is not used, and is removed when this is done",
                path,
                ", ".join(others),
            )
        pose: Tensor | None = None
        found = []
        starts = range(0, len(indices), _CHUNK)
        for start in tqdm(
            starts, desc=f"{method} by {by}", unit="chunk", disable=not progress, dynamic_ncols=True
        ):
            kept = parts / f"{start:07d}.parquet"
            if not kept.is_file():
                clips = load_clips(
                    run, indices[start : start + _CHUNK], data=store, device=where, pose=pose
                )
                pose = clips.pose
                answers = predictions_of(model, clips.x, batch_size=batch_size)
                classes = answers if target == "predicted" else torch.from_numpy(clips.labels)
                features = clips.features(by, num_segments=num_segments)
                values = importance_of(
                    model,
                    clips,
                    classes=classes.to(where),
                    method=method,
                    features=features,
                    baseline=baseline,
                    score=score,
                    samples=samples,
                    steps=steps,
                    batch_size=batch_size,
                    seed=seed,
                )
                chunk = Importance(
                    ids=clips.ids,
                    labels=clips.labels,
                    predictions=answers.cpu().numpy(),
                    classes=classes.cpu().numpy(),
                    values=values,
                    names=features.names,
                    label_names=tuple(store.label_names),
                    facts=facts,
                )
                write_importance(chunk, kept)
            found.append(read_importance(kept))
        whole = join_importance(found)
        write_importance(whole, path)
        for folder in _parts_of(path):
            shutil.rmtree(folder)
        return whole


def _parts_of(path: Path) -> list[Path]:
    """Folders of chunks that calls for this table have kept."""
    return sorted(path.parent.glob(f".{escape(path.name)}.*.parts"))


def _key(facts: dict[str, Any], indices: np.ndarray) -> str:
    """Changes with the weights, the data, the clips, the arguments and the library."""
    from msg3d_lab import __version__

    content = json.dumps([facts, indices.tolist(), _CHUNK, __version__], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _same(path: Path, key: str) -> Importance:
    """The table that is there, if it is this very one."""
    try:
        there = read_importance(path)
    except ValueError as error:
        raise FileExistsError(f"{path} is in the way: {error}") from error
    if there.facts.get("key") != key:
        raise FileExistsError(
            f"{path} holds importance of other weights, clips or arguments: choose another path "
            "with out, or remove it"
        )
    log.info("%s is there already", path)
    return there
