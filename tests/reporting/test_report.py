import re

from msg3d_lab.reporting.report import write_report


def test_write_report_is_one_file_that_names_its_data(run):
    path = write_report(run)
    page = path.read_text(encoding="utf-8")
    assert path == run.path / "report.html"
    assert "ynthetic" in page
    assert page.count('<figure class="picture">') == 4
    assert page.count('class="msg3d-player"') >= 3
    assert run.recipe.hash in page
    # Nothing is fetched: no address of anything to load but inline data.
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!data:|#)[^"]*"', page)
    assert write_report(run) == path  # a report may be made again
    assert str(run.path) in page


def test_write_report_goes_where_it_is_told(run, tmp_path):
    assert write_report(run, out=tmp_path / "page.html") == tmp_path / "page.html"
