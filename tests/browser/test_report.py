"""The report in a browser: curves are read, tables sorted, mistakes chosen; contrast and names."""

import shutil

import pytest

from msg3d_lab.evaluation import evaluate
from msg3d_lab.reporting.report import write_report
from msg3d_lab.training import open_run

# Text whose colour is too close to what is behind it: WCAG 2.1, 1.4.3, 4.5 to 1, large text 3 to 1.
FAINT = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (el) => {
    for (; el; el = el.parentElement) {
      const color = numbers(getComputedStyle(el).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = new Set();
  while (walker.nextNode()) {
    const el = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !el.checkVisibility()) continue;
    if (el.closest("svg, script, style, option")) continue;
    const css = getComputedStyle(el);
    const [a, b] = [light(numbers(css.color)), light(behind(el))].sort((x, y) => y - x);
    const size = parseFloat(css.fontSize);
    const large = size >= 24 || (size >= 18.66 && css.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) >= (large ? 3 : 4.5)) continue;
    faint.add(`${el.tagName} ${el.className}: ${el.textContent.slice(0, 40)}`);
  }
  return [...faint];
}"""
# Controls without a name that is read out.
UNNAMED = """() => {
  const named = (el) => el.getAttribute("aria-label") || el.labels?.length
    || (el.tagName !== "SELECT" && el.textContent.trim());
  const controls = "button, input, select, canvas:not([aria-hidden=true]), svg[tabindex], summary";
  return [...document.querySelectorAll(controls)]
    .filter((el) => el.checkVisibility() && !named(el)).map((el) => el.outerHTML.slice(0, 120));
}"""


@pytest.fixture
def report(toy_run, tmp_path):
    run = open_run(shutil.copytree(toy_run.path, tmp_path / "run"))
    evaluate(run, device="cpu", progress=False)
    other = open_run(shutil.copytree(run.path, tmp_path / "another"))
    return write_report(run, against=other)


def test_a_report_is_read_sorted_and_its_mistakes_chosen(page, report, screenshot):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.emulate_media(reduced_motion="reduce")
    page.goto(report.as_uri())
    curves = page.locator("figure.curves").first
    readout = curves.locator(".readout")
    assert readout.inner_text().startswith("Epoch 2")
    curves.locator("svg").scroll_into_view_if_needed()
    box = curves.locator("svg").bounding_box()
    page.mouse.move(box["x"] + 55, box["y"] + 40)
    page.wait_for_function("() => document.querySelector('.readout').innerText.includes('Epoch 1')")
    curves.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("Epoch 2")
    assert "another train" in readout.inner_text()
    classes = page.locator("table.sortable").last
    classes.get_by_role("button", name="class").click()
    names = classes.locator("tbody tr td:first-child").all_inner_texts()
    assert names == sorted(names)
    classes.get_by_role("button", name="class").click()
    assert classes.locator("tbody tr td:first-child").all_inner_texts() == names[::-1]
    players = page.locator(".clips .msg3d-player canvas")
    players.first.wait_for()
    chosen = page.locator(".clips .msg3d-player")
    before = chosen.get_attribute("data-clip")
    mistakes = page.get_by_label("Clips", exact=True)
    assert mistakes.locator("option").count() > 1
    mistakes.focus()
    page.keyboard.press("ArrowDown")
    assert chosen.get_attribute("data-clip") != before
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (360, 900, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(60)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(FAINT) == []
        screenshot(page, scheme)
    assert page.evaluate(UNNAMED) == []
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]
