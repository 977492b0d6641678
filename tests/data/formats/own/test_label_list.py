"""Lists of class names: names alone, or numbers and names."""

from __future__ import annotations

import pytest

from msg3d_lab.data.formats.own.label_list import name_classes, read_label_list


@pytest.fixture
def write(tmp_path):
    def _write(text, name="list.txt", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return _write


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("wave\n\n jump up \n", "a.txt", ("wave", "jump up")),
        ("wave\r\n2 hands clap\r\n", "a.txt", ("wave", "2 hands clap")),
        ("1 Apply\n2 Archery\n", "a.txt", {1: "Apply", 2: "Archery"}),
        ("id,name\n0,abseiling\n1,air drumming\n", "a.csv", {0: "abseiling", 1: "air drumming"}),
        ("label;name\n42;fall, sideways\n3;wave\n", "a.csv", {3: "wave", 42: "fall, sideways"}),
        ("label_name\nwave\njump\n", "a.csv", ("wave", "jump")),
        ("\ufeffwave\njump\n", "a.txt", ("wave", "jump")),
    ],
)
def test_read_label_list_takes_names_with_and_without_numbers(write, text, name, expected):
    assert read_label_list(write(text, name)) == expected


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("", "utf-8", "has 0 lines"),
        ("wave\njump\nwave\n", "utf-8", "the name wave in 2 lines"),
        ("1 wave\n1 jump\n", "utf-8", "the number 1 in 2 lines"),
        ("übung\n", "cp1252", "save it as UTF-8"),
    ],
)
def test_read_label_list_says_what_is_wrong(write, text, encoding, message):
    with pytest.raises(ValueError, match=message):
        read_label_list(write(text, encoding=encoding))


def test_read_label_list_refuses_a_table_of_samples(write, tmp_path):
    with pytest.raises(ValueError, match="a table of samples: expected a list of classes"):
        read_label_list(write("sample,label\na,wave\n", "labels.csv"))
    with pytest.raises(FileNotFoundError, match="no label list"):
        read_label_list(tmp_path / "none.txt")


def test_name_classes_without_a_list_names_by_number_and_says_gaps():
    assert name_classes([1, 0], None, where="x").names == ("class 0", "class 1")
    assert len(name_classes([1, 0], None, where="x").notes) == 1
    assert "start at 1 (labels 1 to 2)" in name_classes([1, 2], None, where="x").notes[1]
    assert "3 of 5 classes have no clip (0, 1, 3)" in name_classes([2, 4], None, where="x").notes[1]


def test_name_classes_follows_the_numbers_of_a_list(write):
    found = name_classes([3, 42], write("3 wave\n42 fall\n7 sit\n"), where="x")
    assert (found.names, dict(found.numbers)) == (("wave", "sit", "fall"), {3: 0, 7: 1, 42: 2})
    found = name_classes([0, 1], write("1 wave\n2 fall\n"), where="own.pkl")
    assert dict(found.numbers) == {0: 0, 1: 1}
    assert found.notes == ("list.txt counts classes from 1, own.pkl from 0: its order was taken",)


def test_name_classes_refuses_labels_without_a_name(write):
    names = write("wave\njump\n")
    with pytest.raises(ValueError, match=r"labels 1 to 2, .* the labels start at 1"):
        name_classes([1, 2], names, where="own.pkl")
    with pytest.raises(ValueError, match=r"labels 0 to 7, and .* no name for 5, 7"):
        name_classes([0, 5, 7], names, where="own.pkl")
