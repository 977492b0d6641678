"""Export a network as ONNX or as a program of torch.export, for use without this library."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from msg3d_lab.files import write_aside
from msg3d_lab.model.cost import noise
from msg3d_lab.model.fused import fuse
from msg3d_lab.model.msg3d import MSG3D

FACTS = "msg3d_lab"  # the entry of the file's metadata
_TOLERANCE = 1e-5  # of the largest logit
_SHAPES = ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC},)  # any clips and frames


def export_model(
    model: MSG3D,
    path: str | Path,
    *,
    facts: Mapping[str, Any],
    num_frames: int = 32,
    overwrite: bool = False,
) -> Path:
    """Write a network for evaluation, with any number of clips and of frames.

    The file takes `x` (N, M, T, V, C) float32 and returns `logits` (N, classes). Before it is put
    in its place it is run and compared with the network, for other numbers of clips and frames than
    it was traced with.

    Args:
        model: a network that was not fused; it does not change.
        path: `.onnx` (needs the extra `export`) or `.pt2` (read by `torch.export.load`).
        facts: class names, preparation and whatever else a user of the file must know, in plain
            types; written as JSON into the file's metadata, entry `msg3d_lab`.
        num_frames: T of the clips that are traced.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        FileExistsError: the file exists.
        ModuleNotFoundError: ONNX without the extra `export`.
        ValueError: another ending, or a file whose logits differ from the network's by more than
            1e-5 of the largest.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"expected a file name that ends in .onnx or .pt2, found {path}")
    network = fuse(model)
    example = noise(model, 2, num_frames)
    write = _write_onnx if path.suffix == ".onnx" else _write_program
    with write_aside(path, overwrite=overwrite) as aside, torch.no_grad():
        run = write(network, example, aside, json.dumps({**facts, "version": 1}))
        for clips, frames in ((1, num_frames), (3, num_frames + 1)):
            x = noise(model, clips, frames)
            expected = network(x)
            worst = float((run(x) - expected).abs().max() / expected.abs().max().clamp(min=1))
            if not worst <= _TOLERANCE:
                raise ValueError(
                    f"the exported network differs from its original by {worst:.1e} of the largest "
                    f"logit, more than {_TOLERANCE:.0e}: nothing was written"
                )
    return path


def _write_program(
    network: MSG3D, example: Tensor, path: Path, facts: str
) -> Callable[[Tensor], Tensor]:
    program = torch.export.export(network, (example,), dynamic_shapes=_SHAPES)
    with path.open("wb") as file:  # its own check of names wants .pt2
        torch.export.save(program, file, extra_files={FACTS: facts})
    with path.open("rb") as file:
        loaded: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return loaded


def _write_onnx(
    network: MSG3D, example: Tensor, path: Path, facts: str
) -> Callable[[Tensor], Tensor]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx.export needs it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"ONNX needs the package {error.name}: pip install 'msg3d-lab[export]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        exported = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=_SHAPES,
            input_names=["x"],
            output_names=["logits"],
            verbose=False,
        )
    document = cast(torch.onnx.ONNXProgram, exported).model_proto
    onnx.helper.set_model_props(document, {FACTS: facts})
    onnx.checker.check_model(document)
    content = document.SerializeToString()
    path.write_bytes(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"x": x.numpy()})
        return torch.from_numpy(np.asarray(logits))

    return run
