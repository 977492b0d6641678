"""Explain many clips of a run and save the result as a table; a stopped call can be continued."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from glob import escape
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from msg3d_lab.explain.clips import (
    DEFAULT_OPTIONS,
    Options,
    choose_run_clips,
    load_clips,
    predict_classes,
)
from msg3d_lab.explain.methods import Method, attribute, check_method
from msg3d_lab.explain.tables import (
    Importance,
    join_importance,
    read_importance,
    write_importance,
)
from msg3d_lab.files import locked
from msg3d_lab.training.runs import Run
from msg3d_lab.training.signals import say_when_interrupted

log = logging.getLogger(__name__)

_CHUNK = 32  # clips that are saved at a time


@say_when_interrupted("stopped: finished chunks of clips are kept; the same call goes on")
def explain_run(
    run: Run | str | Path,
    method: Method,
    options: Options = DEFAULT_OPTIONS,
    *,
    target: Literal["predicted", "true"] = "predicted",
    out: str | Path | None = None,
    progress: bool = True,
) -> Importance:
    """Explain the clips of a run and write a table by sample id.

    Finished chunks are kept beside the table until it is complete; the same call continues from
    them. An existing table of the same weights, data and arguments is read. With time segments, a
    warning says how many recordings are shorter than a clip and therefore repeated in it.

    Args:
        method: an attribution method, such as `Occlusion()`.
        options: the clips, features, baseline and more.
        target: which class is explained: the predicted or the true one.
        out: the table. Default: `importance-METHOD-BY.parquet` in the run's folder.

    Raises:
        BlockingIOError: another process is writing this table.
        FileExistsError: another table is at `out`.
        Requeue: SIGTERM; the finished chunks are kept.
        Stopped: Ctrl-C, likewise.
        ValueError: no method, or an unknown name.
    """
    check_method(method)
    if target not in ("predicted", "true"):
        raise ValueError(f"target is 'predicted' or 'true', found {target!r}")
    run, model, store, device, split, indices = choose_run_clips(run, options)
    by = options.by
    parameters = asdict(method)
    facts: dict[str, Any] = {
        "method": parameters.pop("name"),
        "parameters": parameters,
        "version": method.version,
        "by": by,
        "baseline": options.baseline if method.uses_baseline else "none",
        "score": options.score,
        "target": target,
        "split": split,
        "num_segments": options.num_segments if "segment" in by else None,
        "seed": options.seed,
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
    content = json.dumps([facts, indices.tolist(), _CHUNK], sort_keys=True)
    facts["key"] = hashlib.sha256(content.encode()).hexdigest()[:12]
    repeated = (store.frames[indices] < facts["clip_len"]) & (facts["sampling"] != "resize")
    if "segment" in by and repeated.any():
        log.warning(
            "%d of %d recordings are shorter than the %d frames of a clip and are repeated in it:"
            " later time segments show earlier frames again, and replacing one segment leaves its"
            " repetition in place",
            repeated.sum(),
            len(repeated),
            facts["clip_len"],
        )
    path = Path(out) if out is not None else table_path(run, method, by)
    if path.exists():
        return _read_same(path, facts["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = path.with_name(f".{path.name}.{facts['key']}.parts")
    with locked(path.with_name(f".{path.name}.lock")):
        if path.exists():  # another process has just finished it
            return _read_same(path, facts["key"])
        pose: Tensor | None = None
        chunks = []
        for start in tqdm(
            range(0, len(indices), _CHUNK),
            desc=f"{method.name} by {by}",
            unit="chunk",
            disable=not progress,
            dynamic_ncols=True,
        ):
            chunk = parts / f"{start:07d}.parquet"
            if not chunk.is_file():
                own = indices[start : start + _CHUNK]
                clips = load_clips(run, own, data=store, device=device, pose=pose)
                pose = clips.pose
                predictions = predict_classes(model, clips.x, batch_size=options.batch_size)
                labels = torch.from_numpy(clips.labels)
                question = clips.question(predictions if target == "predicted" else labels, options)
                importance = Importance(
                    ids=clips.ids,
                    labels=clips.labels,
                    predictions=predictions.cpu().numpy(),
                    classes=question.classes.cpu().numpy(),
                    values=attribute(model, question, method),
                    names=question.features.names,
                    label_names=tuple(store.label_names),
                    facts=facts,
                )
                write_importance(importance, chunk)
            chunks.append(read_importance(chunk))
        whole = join_importance(chunks)
        write_importance(whole, path)
        # Also chunks of a call with other weights, clips or arguments that was stopped.
        for folder in path.parent.glob(f".{escape(path.name)}.*.parts"):
            shutil.rmtree(folder)
        return whole


def table_path(run: Run, method: Method, by: str) -> Path:
    """Return where `explain_run` writes by default."""
    return run.path / f"importance-{method.name}-{by}.parquet"


def _read_same(path: Path, key: str) -> Importance:
    """Read an existing table if it is the wanted one."""
    try:
        there = read_importance(path)
    except ValueError as error:
        raise FileExistsError(f"{path} exists: {error}") from error
    if there.facts.get("key") != key:
        raise FileExistsError(
            f"{path} holds importance of other weights, clips, arguments or an earlier version of "
            "the method: choose another path with out, or remove it"
        )
    log.info("%s exists already", path)
    return there
