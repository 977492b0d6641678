"""Print the tests of what changed since the main branch: `pytest $(python .ci/changed.py)`.

tests/ mirrors msg3d_lab/, so the tests of msg3d_lab/a/b.py are tests/a/test_b.py; a module without
a test file of its own has those of its folder.
"""

import subprocess
from pathlib import Path


def git(*arguments: str) -> list[str]:
    """Return the lines that git prints; none where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def tests_of(path: Path) -> Path | None:
    """Return the test file or folder of a changed file."""
    if path.parts[0] == "notebooks":
        return Path("tests/test_notebooks.py")
    if path.parts[0] == "tests" and path.name.startswith("test_"):
        return path
    if path.parts[0] not in ("msg3d_lab", "benchmarks", "tests"):
        return None
    folder = Path("tests", *path.parent.parts[path.parts[0] != "benchmarks" :])
    mirrored = folder / f"test_{path.stem}.py"
    return mirrored if mirrored.is_file() else folder


base = (git("merge-base", "HEAD", "origin/main") or git("rev-parse", "HEAD"))[0]
changed = git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")
tests = {tests_of(Path(path)) for path in changed} - {None, Path("tests")}
tests = {path for path in tests if path.exists()} | {Path("tests/test_architecture.py")}
print(*sorted(path for path in tests if not tests & set(path.parents)))
