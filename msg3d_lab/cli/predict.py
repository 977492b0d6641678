"""`msg3d-lab predict` and `export`."""

from __future__ import annotations

import json as json_format
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from msg3d_lab.cli.shared import chosen_run

if TYPE_CHECKING:
    from msg3d_lab.inference import ClassCurves, Predictor, Recording


def predict(
    run: Positional[str | None] = None,
    files: Positional[tuple[Path, ...]] = (),
    image_size: tuple[int, int] | None = None,
    top: int = 5,
    json: Path | None = None,
    report: Path | None = None,
    windows: bool = False,
    figure: Path | None = None,
    window: int | None = None,
    stride: int | None = None,
    fps: float = 30,
    stream: bool = False,
    every: int = 10,
    clips: int | None = None,
    weights: str | None = None,
    recipe: str | None = None,
    data: Path | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> None:
    """Predict the action of recordings, of long recordings in windows, or of a stream of frames.

    Files may be .skeleton, .npy, .csv, .parquet, .json or .pkl, or folders of JSON files with a
    frame each (OpenPose, MediaPipe): docs/predict.md. They are prepared as the training data were.

    Args:
        run: the run's folder; or a checkpoint, or the name of published weights.
        files: the recordings.
        image_size: height and width of the images in pixels, for networks of 2D recordings.
        top: how many classes are shown.
        json: also write the result to this file.
        report: also write a page with the moving skeletons and the importance of the joints.
        windows: slide a window over each recording, and show the segments that were found.
        figure: with --windows, also draw the classes over time (.png, .pdf or .svg).
        window: frames per window. Default: the recipe's clip_len.
        stride: frames from one window to the next. Default: an eighth of a window.
        fps: frames per second of the recordings.
        stream: read frames as lines of JSON from standard input, and answer with lines of JSON.
        every: frames between two answers of a stream.
        clips: test clips per recording. Default: the recipe's number.
        weights: instead of a run, as for `test`; then only recordings are named.
        recipe: of a checkpoint; runs and published weights know theirs.
        data: the store the run was trained on, for runs of earlier versions.
        device: where to compute.
    """
    from msg3d_lab.allocator import tune_allocator
    from msg3d_lab.files import write_json
    from msg3d_lab.inference import Predictor, read_recordings

    if weights is not None and run is not None:
        files, run = (Path(run), *files), None
    if stream == bool(files):
        raise ValueError("expected recordings to predict, or --stream and frames on standard input")
    if top < 1:
        raise ValueError(f"expected --top of at least 1, found {top}")
    if report is not None and (stream or windows):
        raise ValueError("--report goes without --windows and --stream")
    if stream and (windows or json is not None):
        raise ValueError("--stream goes without --windows and --json")
    if figure is not None and (not windows or len(files) != 1):
        raise ValueError("--figure goes with --windows and one file")
    tune_allocator()
    opened = chosen_run(run, weights=weights, recipe=recipe)
    predictor = Predictor(opened, data=data, num_clips=clips, device=device)
    if stream:
        _answer_stream(predictor, window=window, every=every, image_size=image_size)
        return
    results: list[dict[str, Any]] = []
    shown: list[Recording] = []
    failed: list[str] = []
    for path in files:
        try:
            for recording in read_recordings(
                path,
                skeleton=predictor.skeleton,
                num_persons=predictor.num_persons,
                bodies=predictor.preparation.bodies,
            ):
                size = recording.image_size or image_size
                if windows:
                    found = predictor.windows(
                        recording.keypoints, window=window, stride=stride, fps=fps, image_size=size
                    )
                    table = found.segments()
                    if figure is not None and results:
                        raise ValueError("--figure draws one recording, and here are several")
                    if figure is not None:
                        _draw_timeline(found, recording.id, figure)
                    print(f"{recording.id}: {len(table)} segments")
                    key = "segments"
                else:
                    table = predictor(recording.keypoints, image_size=size).table(top)
                    print(recording.id)
                    key, shown = "classes", [*shown, recording]
                if not table.empty:
                    print(table.round(3).to_string(index=False))
                results.append(
                    {"id": recording.id, "file": str(path), key: table.to_dict("records")}
                )
        except (ValueError, OSError) as error:
            failed.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if json is not None and results:
        write_json(json, results)
    if report is not None and shown:
        from msg3d_lab.reporting.prediction import write_prediction_report

        page = write_prediction_report(predictor, shown, report, image_size=image_size, top=top)
        print("Report:", page)
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(files)} could not be predicted: {'; '.join(failed)}"
        )


def _draw_timeline(curves: ClassCurves, name: str, path: Path) -> None:
    from msg3d_lab import viz

    drawn = viz.timeline_figure(curves.table(), curves.segments(), title=name)
    ending = path.suffix.removeprefix(".") or "png"
    viz.save_figure(drawn, path, formats=(ending,), overwrite=True)


def _answer_stream(
    predictor: Predictor, *, window: int | None, every: int, image_size: tuple[int, int] | None
) -> None:
    from msg3d_lab.inference import read_frame

    stream = predictor.stream(window=window, every=every, image_size=image_size)
    for number, line in enumerate(sys.stdin):
        if not line.strip():
            continue
        try:
            document = json_format.loads(line)
            frame = read_frame(document, predictor.skeleton, num_persons=predictor.num_persons)
            prediction = stream.add(frame)
        except ValueError as error:
            wrong = "is no JSON" if isinstance(error, json_format.JSONDecodeError) else error
            raise ValueError(f"line {number + 1} of standard input: {wrong}") from error
        if prediction is not None:
            answer = {
                "frame": stream.num_frames - 1,
                "class": prediction.name,
                "label": prediction.label,
                "probability": round(prediction.probability, 4),
                "latency_ms": round(stream.latency_ms[-1], 1),
            }
            print(json_format.dumps(answer), flush=True)


def export(
    run: Positional[str | None] = None,
    out: Positional[Path | None] = None,
    weights: str | None = None,
    recipe: str | None = None,
    data: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a run's network as ONNX or as a program of torch.export, for use without this library.

    The file takes any number of clips and frames. It is run and compared with the network before it
    is written; docs/examples/run_onnx.py uses one.

    Args:
        run: the run's folder; or a checkpoint, or the name of published weights.
        out: the file, NAME.onnx or NAME.pt2.
        weights: instead of a run, as for `test`; then only the file is named.
        recipe: of a checkpoint; runs and published weights know theirs.
        data: the store the run was trained on, for runs of earlier versions.
        overwrite: replace an existing file.
    """
    from msg3d_lab.inference import Predictor
    from msg3d_lab.model.export import export_model

    if weights is not None and run is not None and out is None:
        out, run = Path(run), None
    if out is None:
        raise ValueError("expected a run and the file to write, NAME.onnx or NAME.pt2")
    opened = chosen_run(run, weights=weights, recipe=recipe)
    predictor = Predictor(opened, data=data, device="cpu")
    facts, length = predictor.facts(), predictor.run.recipe.data.clip_len
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages it lacks
    export_model(predictor.run.model(), out, facts=facts, num_frames=length, overwrite=overwrite)
    print(f"{out}: takes x (clips, persons, frames, joints, channels), returns logits")
