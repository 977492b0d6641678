"""Print the tests of what changed since the main branch: `pytest $(python .ci/changed.py)`.

tests/ mirrors msg3d_lab/, so the tests of msg3d_lab/a/b.py are tests/a/test_b.py. A module without
a test file of its own has those of its folder that use one of its public names; if there are none,
those of the modules that import it.
"""

import ast
import re
import subprocess
from pathlib import Path


def git(*arguments: str) -> list[str]:
    """Return the lines that git prints; none where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def tests_of(path: Path) -> set[Path]:
    """Return the test files of a changed file."""
    if path.parts[0] == "notebooks":
        return {Path("tests/test_notebooks.py")}
    if path.parts[0] == "tests" and path.name.startswith("test_"):
        return {path}
    if path.parts[0] not in ("msg3d_lab", "benchmarks", "tests"):
        return set()
    if mirrored(path).is_file():
        return {mirrored(path)}
    names = public_names(path)
    tests = {test for test in mirrored(path).parent.glob("test_*.py") if names & words(test)}
    return tests or {mirrored(other) for other in importers(path) if mirrored(other).is_file()}


def mirrored(path: Path) -> Path:
    """Return where a module's test file is, if it has one."""
    folder = path.parent.parts[path.parts[0] != "benchmarks" :]
    return Path("tests", *folder, f"test_{path.stem}.py")


def importers(path: Path) -> list[Path]:
    """Return the modules of the package that import a module."""
    module, room = ".".join(path.with_suffix("").parts), ".".join(path.parent.parts)
    pattern = re.compile(rf"from {module} import|from {room} import .*\b{path.stem}\b")
    return [
        other
        for other in Path("msg3d_lab").rglob("*.py")
        if other.name != "__init__.py" and pattern.search(other.read_text(encoding="utf-8"))
    ]


def public_names(path: Path) -> set[str]:
    """Return the functions and classes that a module defines, and for others their file's name."""
    if path.suffix != ".py" or not path.is_file():
        return {path.name}
    tree = ast.parse(path.read_text(encoding="utf-8")).body
    defined = (node.name for node in tree if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return {name for name in defined if not name.startswith("_")}


def words(path: Path) -> set[str]:
    """Return the words of a file."""
    return set(re.findall(r"[\w.]+", path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    base = (git("merge-base", "HEAD", "origin/main") or git("rev-parse", "HEAD"))[0]
    changed = git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")
    tests = set().union(*(tests_of(Path(path)) for path in changed))
    print(*sorted({path for path in tests if path.exists()} | {Path("tests/test_architecture.py")}))
