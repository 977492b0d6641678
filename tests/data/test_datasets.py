from __future__ import annotations

import pytest

from msg3d_lab import skeletons
from msg3d_lab.data import datasets


@pytest.mark.parametrize(
    ("name", "classes"), [("ntu60", 60), ("ntu120", 120), ("nw-ucla", 10), ("utd-mhad", 27)]
)
def test_dataset_has_distinct_class_names_and_known_layouts(name, classes):
    dataset = datasets.DATASETS[name]
    assert len(set(dataset.label_names)) == len(dataset.label_names) == classes
    assert set(dataset.layouts) <= set(skeletons.names())


def test_label_names_are_in_the_order_of_the_action_numbers():
    names = datasets.DATASETS["ntu120"].label_names
    numbers = {1: "drink water", 43: "falling", 58: "handshaking", 60: "walking apart"}
    numbers |= {61: "put on headphone", 80: "squat down", 99: "running on the spot"}
    numbers |= {100: "butt kicks", 112: "high-five", 120: "finger-guessing game"}
    for number, start in numbers.items():
        assert names[number - 1].startswith(start)
    assert datasets.DATASETS["ntu60"].label_names == names[:60]
    assert datasets.DATASETS["nw-ucla"].label_names[6:8] == ("donning", "doffing")
    utd = datasets.DATASETS["utd-mhad"].label_names
    assert (utd[5], utd[21], utd[23]) == ("cross arms on the chest", "jog in place", "sit to stand")


def test_ntu_splits_follow_the_authors_rules():
    assert datasets.ntu_splits("S001C001P001R001A001") == ("xsub_train", "xview_val")
    assert datasets.ntu_splits("S001C002P003R002A060") == ("xsub_val", "xview_train")
    assert datasets.ntu_splits("S018C003P045R001A061", dataset="ntu120") == (
        "xsub_train",
        "xset_train",
    )
    assert datasets.ntu_splits("S031C003P106R001A061", dataset="ntu120") == ("xsub_val", "xset_val")


def test_ntu60_tests_on_the_other_subjects():
    val = [
        p for p in range(1, 41) if "xsub_val" in datasets.ntu_splits(f"S001C001P{p:03d}R001A001")
    ]
    assert val == [3, 6, 7, 10, 11, 12, 20, 21, 22, 23, 24, 26, 29, 30, 32, 33, 36, 37, 39, 40]


@pytest.mark.parametrize(("dataset", "subjects", "train"), [("ntu60", 40, 20), ("ntu120", 106, 53)])
def test_ntu_splits_train_on_half_of_the_subjects(dataset, subjects, train):
    splits = [
        datasets.ntu_splits(f"S001C001P{p:03d}R001A001", dataset=dataset)[0]
        for p in range(1, subjects + 1)
    ]
    assert splits.count("xsub_train") == train
    assert splits.count("xsub_val") == subjects - train


def test_ntu_facts_are_those_of_a_clip():
    facts = datasets.ntu_facts("S001C002P003R002A013")
    assert facts == {"subject": 3, "camera": 2, "setup": 1}


@pytest.mark.parametrize(
    "name", ["", "S001", "S001C002P003R002A013.skeleton", "s001c002p003r002a013"]
)
def test_ntu_splits_refuse_other_names(name):
    assert datasets.ntu_facts(name) == {}
    assert datasets.parse_ntu_name(name) is None
    with pytest.raises(ValueError, match="expected a name such as"):
        datasets.ntu_splits(name)


def test_ntu_splits_refuse_other_data_sets():
    with pytest.raises(ValueError, match="'nw-ucla'"):
        datasets.ntu_splits("S001C002P003R002A013", dataset="nw-ucla")


def test_the_lists_of_missing_skeletons():
    of_60, of_120 = datasets.missing_skeletons("ntu60"), datasets.missing_skeletons("ntu120")
    assert (len(of_60), len(of_120)) == (302, 535)
    assert of_60 == {name for name in of_120 if int(name[1:4]) <= 17}
    assert {"S001C002P005R002A008", "S017C003P020R001A059"} <= of_60
    assert {"S019C001P046R001A075", "S032C002P067R002A077"} <= of_120 - of_60
    for name in of_120:
        numbers = datasets.parse_ntu_name(name)
        assert (numbers.setup <= 17) == (numbers.action <= 60), name
        assert 1 <= numbers.setup <= 32
        assert 1 <= numbers.action <= 120
