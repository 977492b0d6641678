import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msg3d_lab.data import Clip, open_store, write_store
from msg3d_lab.training import recipes
from msg3d_lab.training.setup import build_batches
from msg3d_lab.training.validation import split_validation


@pytest.fixture(scope="module")
def make_store(tmp_path_factory, toy_skeleton):
    """Stores of one-frame clips, given (subject, split) of each."""
    folder = tmp_path_factory.mktemp("validation")

    def make(people):
        clips = [
            Clip(f"c{i}", np.ones((1, 1, 5, 3), np.float32), 0, (split,), subject=subject)
            for i, (subject, split) in enumerate(people)
        ]
        path = folder / f"{len(list(folder.iterdir()))}.arrow"
        write_store(
            path,
            clips,
            dataset="toy",
            skeleton=toy_skeleton,
            label_names=["a"],
            channels=3,
            preparation={"name": "none"},
        )
        return open_store(path)

    return make


def with_subjects(recipe, subjects):
    return recipes.with_settings(recipe, {"validation_subjects": list(subjects)})


@settings(max_examples=60)
@given(
    people=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["xsub_train", "xsub_val"])),
        min_size=1,
        max_size=30,
    ),
    data=st.data(),
)
def test_split_validation_divides_the_training_split_by_subject(
    people, data, make_store, toy_recipe
):
    trained = sorted({subject for subject, split in people if split == "xsub_train"})
    assume(len(trained) > 1)
    wanted = data.draw(
        st.lists(st.sampled_from(trained), min_size=1, max_size=len(trained) - 1, unique=True)
    )
    store = make_store(people)
    training, validation = split_validation(store, with_subjects(toy_recipe, wanted))
    assert training.dtype == validation.dtype == np.int64
    assert not set(training) & set(validation)
    assert sorted([*training, *validation]) == store.indices("xsub_train").tolist()
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()
    subjects = np.array([subject for subject, _ in people])
    assert set(subjects[validation]) == set(wanted)
    assert set(subjects[training]) == set(trained) - set(wanted)


def test_split_validation_without_subjects_trains_on_everything(toy_store, toy_recipe):
    training, validation = split_validation(toy_store, toy_recipe)
    assert training.tolist() == toy_store.indices("xsub_train").tolist()
    assert validation.shape == (0,)


@pytest.mark.parametrize(
    ("people", "wanted", "message"),
    [
        (
            [(1, "xsub_train"), (4, "xsub_train"), (2, "xsub_val")],
            [2, 7],
            r"xsub_train of \d+\.arrow has no clips of 2, 7; expected some of 1, 4",
        ),
        ([(1, "xsub_train"), (2, "xsub_val")], [1], "are all subjects of xsub_train"),
        ([(None, "xsub_train")] * 3, [1], r"none of the 3 clips .* have one: import the data set"),
        (
            [(None, "xsub_train"), (1, "xsub_train"), (2, "xsub_train")],
            [1],
            "only 2 of the 3 clips",
        ),
        ([(1, "xview_train")], [1], "no split 'xsub_train'"),
    ],
)
def test_split_validation_explains_what_is_wrong(people, wanted, message, make_store, toy_recipe):
    with pytest.raises(ValueError, match=message):
        split_validation(make_store(people), with_subjects(toy_recipe, wanted))


def test_split_validation_needs_no_subjects_of_other_splits(make_store, toy_recipe):
    store = make_store([(1, "xsub_train"), (2, "xsub_train"), (None, "xsub_val")])
    training, validation = split_validation(store, with_subjects(toy_recipe, [2]))
    assert (training.tolist(), validation.tolist()) == ([0], [1])


def test_build_batches_follow_the_validation_part(toy_store, toy_recipe):
    recipe = with_subjects(toy_recipe, [3])
    training, validation = split_validation(toy_store, recipe)
    train_batches, held_out = build_batches(recipe, toy_store)
    assert train_batches.indices.tolist() == training.tolist()
    assert held_out.indices.tolist() == validation.tolist()
    _, plain = build_batches(toy_recipe, toy_store)
    assert plain.indices.tolist() == toy_store.indices("xsub_val").tolist()
    shares = [build_batches(recipe, toy_store, rank=r, world_size=2)[1].indices for r in (0, 1)]
    assert sorted(np.concatenate(shares)) == validation.tolist()
