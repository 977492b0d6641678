import pytest

from msg3d_lab.files import write_aside


def test_write_aside_leaves_the_file_and_nothing_else(tmp_path):
    with write_aside(tmp_path / "new" / "file.txt") as aside:
        aside.write_text("whole")
        assert not (tmp_path / "new" / "file.txt").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file.txt"]


def test_write_aside_moves_folders(tmp_path):
    with write_aside(tmp_path / "folder") as aside:
        aside.mkdir()
        (aside / "a").write_text("1")
    assert (tmp_path / "folder" / "a").read_text() == "1"


@pytest.mark.parametrize("folder", [True, False])
def test_write_aside_cleans_up_after_an_error(folder, tmp_path):
    (tmp_path / "out").write_text("old")

    def stop_halfway():
        with write_aside(tmp_path / "out", overwrite=True) as aside:
            if folder:
                aside.mkdir()
                (aside / "half").write_text("half")
            else:
                aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_write_aside_never_overwrites_silently(tmp_path):
    (tmp_path / "out").write_text("old")
    with pytest.raises(FileExistsError, match="out exists already"), write_aside(tmp_path / "out"):
        pytest.fail("the block must not run")
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(FileExistsError),
        write_aside(tmp_path / "folder", overwrite=True),
    ):
        pytest.fail("the block must not run")
