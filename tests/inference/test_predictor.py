import numpy as np
import pytest

from msg3d_lab import Predictor, evaluate
from msg3d_lab.data.synthetic.dataset import record


@pytest.fixture(scope="module")
def predictor(small_run):
    return Predictor(small_run, device="cpu")


@pytest.fixture(scope="module")
def raw():
    """A recording of the test split, before preparation."""
    return record("S001C001P003R001A005")[0]


def test_a_recording_gets_the_scores_of_the_test(small_run, predictor, raw):
    scores = evaluate(small_run, device="cpu", progress=False).scores
    expected = scores.values[scores.ids.index("S001C001P003R001A005")]
    prediction = predictor(raw)
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)
    assert prediction.label == expected.argmax()
    assert prediction.name == scores.label_names[prediction.label]
    table = prediction.table(3)
    assert table["class"].iloc[0] == prediction.name
    assert table["probability"].is_monotonic_decreasing


def test_one_person_needs_no_axis_of_persons(predictor, raw):
    one = predictor(raw[0]).probabilities
    assert np.array_equal(one, predictor(raw[:1]).probabilities)


@pytest.mark.parametrize(
    "settings",
    [
        ["stream=bone"],
        ["stream=joint_motion"],
        ["sampling=resize", "rotation=[0, 0, 180]", "test_clips=3"],
    ],
    ids=lambda settings: settings[0],
)
def test_the_recipes_clips_are_computed(small_run, small_store, settings, tmp_path):
    from msg3d_lab.training import recipes
    from msg3d_lab.training.runs import create_run

    recipe = recipes.with_settings(small_run.recipe, settings)
    run = create_run(tmp_path / "run", recipe, small_run.environment)
    run.checkpoint.write_bytes(small_run.checkpoint.read_bytes())
    scores = evaluate(run, data=small_store, device="cpu", progress=False).scores
    raw = record(scores.ids[7])[0]
    found = Predictor(run, device="cpu")(raw).probabilities
    np.testing.assert_allclose(found, scores.values[7], atol=1e-5)


def test_an_older_run_asks_its_store(small_run, small_store, tmp_path, raw, predictor):
    from msg3d_lab.training.runs import create_run

    facts = {"path": "gone.arrow", "fingerprint": small_store.fingerprint}
    run = create_run(tmp_path / "old", small_run.recipe, {"data": facts})
    run.checkpoint.write_bytes(small_run.checkpoint.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"gone\.arrow"):
        Predictor(run, device="cpu")
    found = Predictor(run, data=small_store, device="cpu")(raw).probabilities
    assert np.array_equal(found, predictor(raw).probabilities)


def test_a_store_of_other_data_is_refused(small_run, toy_store):
    with pytest.raises(ValueError, match="choose another store"):
        Predictor(small_run, data=toy_store, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[..., :2], r"expected a recording \(persons, frames, 25, 3\)"),
        (lambda x: x[:, :, :17], r"expected a recording \(persons, frames, 25, 3\)"),
        (lambda x: x * np.nan, "nobody is in any frame"),
        (lambda x: x + np.inf, "coordinates are infinite"),
        (lambda x: x * 0, "nobody is in any frame"),
        (lambda x: x[0, 0, 0], r"expected numbers \(persons, frames, joints, channels\)"),
    ],
)
def test_what_cannot_be_predicted_is_refused(predictor, raw, change, message):
    with pytest.raises(ValueError, match=message):
        predictor(change(raw))


@pytest.mark.parametrize("wrong", [{"window": 0}, {"stride": 0}, {"fps": 0}])
def test_windows_of_nothing_are_refused(predictor, raw, wrong):
    with pytest.raises(ValueError, match=r"expected .*found "):
        predictor.windows(raw, **wrong)


def test_windows_are_prepared_each_as_a_recording(predictor, raw):
    long = np.concatenate([raw[:1], np.zeros_like(raw[:1]), raw[:1]], axis=1)
    found = predictor.windows(long, window=16, stride=16)
    first = predictor(long[:, :16]).probabilities
    np.testing.assert_allclose(found.probabilities[0], first, atol=1e-5)
    empty = found.probabilities[raw.shape[1] + 16 : 2 * raw.shape[1] - 32]
    assert np.isnan(empty).all()
    assert found.table().shape == (3 * raw.shape[1], 18)
    long[:, raw.shape[1] : 2 * raw.shape[1]] = np.nan  # not seen, as with zeros
    again = predictor.windows(long, window=16, stride=16).probabilities
    np.testing.assert_array_equal(again, found.probabilities)


def test_a_stream_answers_as_the_newest_frames_would(predictor, raw):
    stream = predictor.stream(window=16, every=5)
    answers = [stream.add(frame) for frame in raw[0]]
    assert [i for i, answer in enumerate(answers) if answer] == list(range(4, len(answers), 5))
    np.testing.assert_allclose(
        answers[4].probabilities, predictor(raw[0, :5]).probabilities, atol=1e-6
    )
    np.testing.assert_allclose(
        answers[34].probabilities, predictor(raw[0, 19:35]).probabilities, atol=1e-6
    )
    assert len(stream.latency_ms) == len(answers) // 5
    assert min(stream.latency_ms) > 0


def test_a_stream_keeps_no_more_than_its_window(predictor, raw):
    stream = predictor.stream(window=16, every=10**9)
    for _ in range(20):
        for frame in raw[0]:
            stream.add(frame)
    assert stream._ring.shape == (1, 16, 25, 3)
    assert stream.num_frames == 20 * raw.shape[1]


def test_a_stream_says_nothing_of_an_empty_room(predictor):
    stream = predictor.stream(window=2, every=1)
    nobody = np.zeros((25, 4))  # how many channels persons will have is not known yet
    assert stream.add(nobody) is None
    assert stream.add(np.ones((25, 3))) is not None
    assert [stream.add(nobody) is None for _ in range(2)] == [False, True]
    assert stream.add(np.full((25, 3), np.nan)) is None
    with pytest.raises(ValueError, match=r"as before, found \(2, 25, 3\)"):
        stream.add(np.ones((2, 25, 3)))
