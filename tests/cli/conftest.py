import pytest

from msg3d_lab.cli import main


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        try:
            main([str(w) for w in words])
            code = 0
        except SystemExit as exit_:
            code = exit_.code or 0
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run
