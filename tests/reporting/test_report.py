import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from msg3d_lab.data import open_store, write_store
from msg3d_lab.evaluation import (
    accuracy_interval,
    calibration_error,
    evaluate,
    read_run_scores,
)
from msg3d_lab.reporting.report import write_report
from msg3d_lab.training import open_run, recipes


class Names(HTMLParser):
    """The headings, and what lacks a name, a caption or a scope."""

    def __init__(self):
        super().__init__()
        self.headings, self.unnamed = [], []

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if (
            (tag == "img" and not known.get("alt"))
            or (tag == "th" and "scope" not in known)
            or (known.get("tabindex") == "0" and not known.get("aria-label"))
        ):
            self.unnamed.append((tag, known))


@pytest.fixture(scope="module")
def page(run):
    return write_report(run).read_text(encoding="utf-8")


def test_write_report_is_one_file_that_names_its_data(run, page):
    path = run.path / "report.html"
    assert "ynthetic" in page
    assert page.count('<figure class="picture">') == 4
    assert page.count('class="msg3d-player"') >= 3
    assert run.recipe.hash in page
    assert path.stat().st_size < 5_000_000
    # Nothing is fetched: no address of anything to load but inline data.
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!data:|#)[^"]*"', page)
    assert str(run.path) in page


def test_write_report_says_how_sure_it_is_and_how_it_was_made(run, page):
    scores = read_run_scores(run)
    low, high = (100 * end for end in accuracy_interval(scores.correct))
    assert f"95 % interval over clips {low:.1f} to {high:.1f} %" in page
    assert f"calibration error is {100 * calibration_error(scores):.1f} %" in page
    assert run.environment["started"] in page
    assert str(run.environment["commit"]) in page
    assert "no other seed of this recipe" in page
    assert "base_channels: 6" in page  # the whole recipe
    curves = re.findall(r'<figure class="curves">.*?json">(.*?)</script>', page, re.S)
    accuracy = json.loads(curves[0])
    assert accuracy["epochs"] == run.metrics["epoch"].tolist()
    train = next(one for one in accuracy["series"] if one["name"] == "train")
    np.testing.assert_allclose(train["values"], 100 * run.metrics["train_top1"], rtol=1e-5)


def test_write_report_can_be_read_without_seeing_it(page):
    names = Names()
    names.feed(page)
    assert names.unnamed == []
    assert names.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(names.headings, names.headings[1:], strict=False))


def test_write_report_against_another_run(run, tmp_path):
    other = open_run(shutil.copytree(run.path, tmp_path / "other"))
    changed = recipes.with_settings(run.recipe, ["seed=5"])
    (other.path / "recipe.yaml").unlink()
    recipes.save(changed, other.path / "recipe.yaml")
    path = write_report(run, against=open_run(other.path), out=tmp_path / "both.html")
    page = path.read_text(encoding="utf-8")
    assert "Against other" in page
    assert "training.seed" in page
    assert "difference of +0.00 percentage points" in page
    assert '"other train"' in page
    (other.path / "scores.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="no test scores"):
        write_report(run, against=other)


def test_write_report_goes_where_it_is_told(run, tmp_path):
    (tmp_path / "page.html").write_text("an older one")  # a report may be made again
    assert write_report(run, out=tmp_path / "page.html") == tmp_path / "page.html"
    assert (tmp_path / "page.html").stat().st_size > 100_000


def test_write_report_of_another_store_has_the_scores_on_it(run, toy_store, tmp_path):
    facts = {"dataset": "toy", "skeleton": toy_store.skeleton, "channels": 3, "synthetic": True}
    facts |= {"label_names": toy_store.label_names, "preparation": toy_store.preparation}
    clips = [toy_store.clip(i) for i in range(len(toy_store))]
    noise = np.random.default_rng(0).normal(0, 1, (len(clips), 5, 3)).astype(np.float32)
    moved = [replace(c, keypoints=c.keypoints + n) for c, n in zip(clips, noise, strict=True)]
    other = open_store(write_store(tmp_path / "other.arrow", moved, **facts))
    with pytest.raises(FileNotFoundError, match=r"no test scores .*scores-other\.parquet"):
        write_report(run, store=other)
    scores = evaluate(run, data=other, device="cpu", progress=False).scores
    path = write_report(run, store=other)
    assert path == run.path / "report-other.html"
    page = path.read_text(encoding="utf-8")
    error = 100 * calibration_error(scores)
    assert f"{error:.1f}" != f"{100 * calibration_error(read_run_scores(run)):.1f}"
    assert f"calibration error is {error:.1f} %" in page
    assert "(this run)" not in page  # the seeds beside it were tested on the run's own store
    second = open_run(shutil.copytree(run.path, tmp_path / "second"))
    (second.path / "scores-other.parquet").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"second has no test scores \(scores-other\.parquet"
    ):
        write_report(run, store=other, against=second)
    evaluate(second, data=other, device="cpu", progress=False)
    page = write_report(run, store=other, against=second).read_text(encoding="utf-8")
    assert "difference of +0.00 percentage points" in page
