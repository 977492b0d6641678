"""Run notebooks and keep their outputs clean, for committing.

python notebooks/execute.py [NOTEBOOK ...]      all of them, in order, without arguments
"""

import base64
import io
import re
import sys
from html import escape
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
IMAGE = re.compile(r"(data:image/png;base64,)([A-Za-z0-9+/=]+)")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> None:
    """Run a notebook from its own folder and write it back, unless a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=1800, record_timing=False, resources=resources).execute()
    clean(notebook)
    nbformat.write(notebook, path)


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what is no result: widget state, progress bars and warnings, machine-made metadata.

    Figures keep 256 colours, which is a third of their size, and get the alternative text that the
    cell's line `# alt: ...` gives them.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
        if cell.cell_type != "code":
            continue
        cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        for output in cell.outputs:
            # Without its state a widget's view is an error message; its text stays.
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            if "image/png" in data:
                # JupyterLab gives a PNG no alternative text; HTML has one, trusted or not.
                told = output.metadata.get("image/png", output.metadata).get("alt")
                alt = escape(told or alternative_text(cell.source), quote=True)
                image = data.pop("image/png")
                data["text/html"] = f'<img src="data:image/png;base64,{image}" alt="{alt}">'
                output.metadata = nbformat.from_dict({})
            if "text/html" in data:
                data["text/html"] = IMAGE.sub(lambda m: m[1] + smaller(m[2]), data["text/html"])


def alternative_text(source: str) -> str:
    """Return what a cell's comment `# alt:` says its figure shows."""
    found = re.search(r"^# alt: (.+(?:\n#      .+)*)", source, re.MULTILINE)
    if found is None:
        raise ValueError(f"expected a comment '# alt: what the figure shows' in the cell\n{source}")
    return re.sub(r"\s*\n#\s*", " ", found[1])


def smaller(png: str) -> str:
    """Store a figure, base64 of a PNG, with a palette, unless that is no smaller."""
    image, out = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    if image.mode != "P":
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            out, "PNG", optimize=True, dpi=image.info.get("dpi", (100, 100))
        )
    again = base64.b64encode(out.getvalue()).decode()
    return again if 0 < len(again) < len(png) else png


if __name__ == "__main__":
    for path in [Path(name).resolve() for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        print(path.name, flush=True)
        execute(path)
