"""Checkpoints: our own, the author's, mmaction2's and pyskl's; read, written, converted.

Ours is a safetensors file whose metadata holds the arguments that rebuild the model. Nothing in the
files of others is run, see `load_torch`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from msg3d_lab.files import write_aside
from msg3d_lab.model import upstream
from msg3d_lab.model.fused import fuse
from msg3d_lab.model.msg3d import MSG3D
from msg3d_lab.model.weights import download_weights, near_names, published_weights
from msg3d_lab.safe_pickle import load_torch
from msg3d_lab.skeletons import Skeleton

Format = Literal["lab", "mmaction2", "author"]
_KEY = "msg3d_lab"
_LOG = logging.getLogger(__name__)
# Where training code of the field puts a state dict, and what wrappers put before its names.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "weights")
_PREFIXES = ("module.", "model.", "_orig_mod.")


def load_model(
    path: str | Path,
    *,
    skeleton: Skeleton | None = None,
    fused: bool = False,
    window_dilations: Sequence[int] | None = None,
    tcn_dilations: Sequence[int] | None = None,
    dropout: float | None = None,
) -> MSG3D:
    """Return the model of a checkpoint, in eval mode, whichever program wrote it.

    Our own files hold all arguments of the model. Of a published file the arguments are inferred;
    the last three leave no trace in it.

    Args:
        path: our `model.safetensors` (or the run folder that holds it), the author's `.pt`, or a
            `.pth` of mmaction2 or pyskl. The content decides, not the name. Or the name of
            published weights, such as "mmaction2/ntu60-xsub-2d-joint", which are downloaded to
            `data/weights` if they are not there.
        skeleton: the joint layout, for published files on a layout that is not one of ours.
        fused: whether to return the form for evaluation only; see `fuse`.
        window_dilations: see `MSG3D`. Default: all 1, as published.
        tcn_dilations: see `MSG3D`. Default: 1, 2, 3 and so on, as published.
        dropout: see `MSG3D`. Default: 0.

    Returns:
        A model that takes (N, M, T, V, C), float32, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, would run code, is of another network, or has tensors
            missing, left over, misshapen or with NaN or infinite numbers; the message lists them.
    """
    path = find_checkpoint(path)
    given = {
        "window_dilations": window_dilations,
        "tcn_dilations": tcn_dilations,
        "dropout": dropout,
    }
    told = {name: value for name, value in given.items() if value is not None}
    try:
        if _is_safetensors(path):
            if skeleton is not None or told:
                raise ValueError("our own checkpoints know their arguments; give none")
            model = _load_own(path)
            return fuse(model) if fused else model
        state = _read_torch(path)
        dialect, head = upstream.recognise(state)
        inferred = upstream.infer_arguments(state, dialect=dialect, head=head, skeleton=skeleton)
        _check_finite(state)
        model = MSG3D(**{**inferred, **told})
        model.load_state_dict(_from_upstream(state, model, dialect, head))
    except ValueError as error:
        raise ValueError(f"cannot load {path}: {error}") from error
    return fuse(model) if fused else model.eval()


def find_checkpoint(path: str | Path) -> Path:
    """Return the file that `load_model` reads; published weights are downloaded.

    Raises:
        FileNotFoundError: no such file.
    """
    found = Path(path)
    if isinstance(path, str) and path in published_weights() and not found.exists():
        return download_weights(path)
    if found.is_dir():
        found = found / "model.safetensors"
    if not found.is_file():
        raise FileNotFoundError(f"no checkpoint or run folder at {found}{near_names(str(found))}")
    return found


def save_model(
    model: MSG3D,
    path: str | Path,
    *,
    notes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model in our format; the file alone rebuilds it.

    Args:
        notes: anything JSON can hold, such as label names or the recipe; see `read_notes`.
        overwrite: whether an existing file may be replaced.

    Raises:
        FileExistsError: the file exists.
        ValueError: the model is fused.
    """
    from safetensors.torch import save

    if model.fused:
        raise ValueError(
            "a fused model is not saved: save the one it was made of, and load it with fused=True"
        )

    arguments = {**model.arguments, "skeleton": model.skeleton.to_dict()}
    record = json.dumps({"version": 1, "arguments": arguments, "notes": dict(notes or {})})
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with write_aside(path, overwrite=overwrite) as aside:
        # `save_file` would make a file that only its owner can read.
        aside.write_bytes(save(state, metadata={_KEY: record}))


def read_notes(path: str | Path) -> dict[str, Any]:
    """Return the notes saved with a checkpoint of ours.

    Raises:
        ValueError: the file is not ours.
    """
    notes: dict[str, Any] = _read_record(find_checkpoint(path))["notes"]
    return notes


def read_arguments(path: str | Path) -> dict[str, Any]:
    """Return the arguments of the model in a checkpoint of ours, without reading its weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not ours.
    """
    arguments: dict[str, Any] = _read_record(find_checkpoint(path))["arguments"]
    return {**arguments, "skeleton": Skeleton.from_record(arguments["skeleton"])}


def convert(
    source: str | Path, target: str | Path, *, to: Format = "lab", overwrite: bool = False
) -> None:
    """Write a checkpoint in another format. There and back gives the same tensors to the bit.

    Args:
        source: any file `load_model` reads.
        to: "lab", "mmaction2" (pyskl's differs only in the classifier's name) or "author".
        overwrite: whether an existing file may be replaced.

    Raises:
        FileExistsError: the target exists.
        ValueError: see `load_model`; or the other side cannot express the model.
    """
    source = find_checkpoint(source)
    model = load_model(source)
    if to == "lab":
        own_notes = read_notes(source) if _is_safetensors(source) else None
        save_model(model, target, notes=own_notes, overwrite=overwrite)
        return
    _check_expressible(model, to)
    dialect: upstream.Dialect = "author" if to == "author" else "openmmlab"
    own = model.state_dict()
    state: dict[str, Tensor] = {}
    for rule in upstream.rules(model, dialect=dialect, head=upstream.HEADS[to]):
        state |= zip(rule.theirs, rule.write(own[rule.own]), strict=True)
    if to == "mmaction2":
        state["backbone.A"] = torch.from_numpy(model.skeleton.adjacency).float()
        for _, theirs, layer in upstream.adjacencies(model, prefix="backbone."):
            state[f"{theirs}.A"] = layer.adjacency.A.transpose(1, 2).contiguous()
    with write_aside(target, overwrite=overwrite) as aside:
        torch.save({"state_dict": state, "meta": {}} if to == "mmaction2" else state, aside)


def _check_expressible(model: MSG3D, to: Format) -> None:
    """Refuse a model that the other implementation would compute differently."""
    has = model.arguments
    windows = len(has["window_sizes"])
    needed: dict[str, Any] = {
        "residual_mask": True,
        "pathways": has["pathways"] if len(set(has["pathways"])) == 2 else ("factorized", "g3d"),
        # Dilations leave no trace in a file; the other implementation has these built in. It pads
        # windows equally on both sides, which an even number of steps does not allow.
        "window_dilations": (1,) * windows,
        "tcn_dilations": tuple(range(1, 1 + len(has["tcn_dilations"]))),
        "window_sizes": tuple(size + (size + 1) % 2 for size in has["window_sizes"]),
    }
    if to == "author":
        # The author's files carry no adjacency: the code that reads them builds it.
        needed |= {
            "aggregation": "disentangled",
            "normalization": "symmetric",
            "window_edges": "dense",
        }
        # A reader infers the layout from the number of joints.
        taken_for = upstream.author_layout(model.skeleton.num_joints) or model.skeleton
        needed["skeleton"] = taken_for
    wrong = {k: has[k] for k, v in needed.items() if has[k] != v}
    if wrong:
        expected = ", ".join(f"{k}={_short(needed[k])}" for k in wrong)
        found = ", ".join(f"{k}={_short(v)}" for k, v in wrong.items())
        raise ValueError(f"{to}'s MS-G3D cannot express this model: it has {expected}, not {found}")


def _short(value: Any) -> str:
    return value.label if isinstance(value, Skeleton) else repr(value)


def _is_safetensors(path: Path) -> bool:
    """Eight bytes of length, then a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_record(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error})") from error
    if _KEY not in metadata:
        raise ValueError(f"{path} is a safetensors file, but not one of MS-G3D Lab's")
    record: dict[str, Any] = json.loads(metadata[_KEY])
    if record["version"] != 1:
        raise ValueError(
            f"{path} has format version {record['version']}, this library reads 1: update it"
        )
    return record


def _load_own(path: Path) -> MSG3D:
    from safetensors.torch import load_file

    model = MSG3D(**read_arguments(path))
    state = load_file(path)
    expected = model.state_dict()
    _check_names(missing=expected.keys() - state.keys(), unused=state.keys() - expected.keys())
    _check_shapes(state, expected)
    _check_finite(state)
    model.load_state_dict(state)
    return model.eval()


def _read_torch(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a PyTorch file, without what training code wraps around it."""
    content, found = load_torch(path), list[str]()
    while isinstance(content, Mapping):
        inner = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content, found = content[inner], [*found, inner]
    if not isinstance(content, Mapping):
        raise ValueError(f"expected a state dict, found {type(content).__name__}")
    state = {str(name): t for name, t in content.items() if isinstance(t, Tensor)}
    if not state:
        raise ValueError(
            f"no tensors found: the file's keys are {_some(map(str, content))}; a state "
            f"dict is looked for at the top and under {', '.join(_WRAPPERS)}"
        )
    prefix = ""
    while head := next((p for p in _PREFIXES if next(iter(state)).startswith(prefix + p)), ""):
        prefix += head
    if prefix or found not in ([], ["state_dict"]):
        where = f"the weights are under {' / '.join(found)}" if found else "the weights are read"
        _LOG.warning("%s: %s%s", path, where, f", without the prefix {prefix}" if prefix else "")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _from_upstream(
    state: Mapping[str, Tensor], model: MSG3D, dialect: upstream.Dialect, head: str
) -> dict[str, Tensor]:
    """Our state dict from theirs; every tensor used, none missing, all shapes right."""
    table = list(upstream.rules(model, dialect=dialect, head=head))
    needed = {name for rule in table for name in rule.theirs}
    graphs: dict[str, Tensor] = {}
    if dialect == "openmmlab":
        for _, theirs, layer in upstream.adjacencies(model, prefix="backbone."):
            graphs[f"{theirs}.A"] = layer.adjacency.A
        needed |= {"backbone.A", *graphs}
    _check_names(missing=needed - state.keys(), unused=state.keys() - needed)
    other = [
        name
        for name, A in graphs.items()
        if state[name].shape != A.shape
        or not torch.allclose(state[name].transpose(1, 2).float(), A, rtol=0, atol=1e-6)
    ]
    if other:
        raise ValueError(
            f"{len(other)} adjacencies are not those of {model.skeleton.label}, "
            f"{model.arguments['normalization']}, {model.arguments['aggregation']}: {_some(other)}"
        )
    own = {}
    for rule in table:
        try:
            own[rule.own] = rule.read([state[name] for name in rule.theirs])
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"misshapen: {_some(rule.theirs)} ({error})") from error
    _check_shapes(own, model.state_dict())
    return own


def _check_names(*, missing: set[str], unused: set[str]) -> None:
    if missing or unused:
        raise ValueError(
            f"{len(missing)} tensors are missing ({_some(missing)}), "
            f"{len(unused)} are not MS-G3D's ({_some(unused)})"
        )


def _check_finite(state: Mapping[str, Tensor]) -> None:
    broken = [
        f"{name}: {int((~torch.isfinite(tensor)).sum())} of {tensor.numel()}"
        for name, tensor in state.items()
        if not torch.isfinite(tensor).all()
    ]
    if broken:
        raise ValueError(
            f"{len(broken)} tensors hold NaN or infinite numbers ({_some(broken)}): the training "
            "that wrote them diverged, take an earlier checkpoint"
        )


def _check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if state[name].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors have another shape: {_some(wrong)}")


def _some(names: Any) -> str:
    """All names up to ten, then how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 10} more" if len(ordered) > 10 else ""
    return ", ".join(ordered[:10]) + more if ordered else "none"
