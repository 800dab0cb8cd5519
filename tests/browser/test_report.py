"""The report as it is seen: wide and narrow, light and dark, sorted by mouse and by keyboard, without a network."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.analysis.filler import Filler
from tests.analysis.reports import troubled
from tests.commandline import TINY, run

pytestmark = pytest.mark.browser

OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"
CONTRASTS = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const known = new Map();
const rgba = (colour) => {
  if (!known.has(colour)) {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
  }
  return known.get(colour);
};
const luminance = (colour) => {
  const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const [r, g, b] = colour.slice(0, 3).map((v) => linear(v / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const colour = rgba(getComputedStyle(element).backgroundColor);
    if (colour[3] === 255) return colour;
    if (colour[3] !== 0) throw new Error("a background that shines through");
  }
  return [255, 255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
  const [a, b] = [rgba(getComputedStyle(element).color), behind(element)].map(luminance);
  found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), walker.currentNode.textContent.trim().slice(0, 80)]);
}
return found;
"""
IMAGES = """
return [...document.images].map((image) => [image.alt, image.complete, image.naturalWidth, image.clientWidth])
"""
COLUMN = """
const table = document.querySelector(arguments[0] + " table");
const head = [...table.tHead.rows].at(-1).cells[arguments[1]];
return [head.getAttribute("aria-sort"), [...table.tBodies].map((body) => {
  const cells = body.rows[0].cells;
  return [cells[0].innerText, cells[arguments[1]].querySelector(".text").innerText, body.rows.length];
})]
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """{name: file} of three reports: over the paper's own numbers, over troubled ones, and after two real runs."""

    def paper(folder):
        return Filler().fill(folder)

    def demo(folder):
        run(folder, "-m", *TINY, "altub=none,alternating")
        return f"sqlite:///{folder}/mlflow.db"

    made = {}

    def page(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            uri = {"paper": paper, "troubled": troubled, "demo": demo}[name](folder)
            run(folder, "--tracking-uri", uri, module="analysis.report", seconds=1200)
            made[name] = folder / "results" / "report.html"
        return made[name]

    return page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
@pytest.mark.parametrize("name", ["paper", "troubled", "demo"])
def test_the_page_looks_right(browser, pages, tmp_path, name, width, dark):
    browser.open(pages(name).as_uri(), width, dark)
    browser.screenshot(tmp_path / "closed.png")
    for _ in range(2):  # as it opens, and with everything unfolded
        assert browser.script("return [document.documentElement.scrollWidth, innerWidth]") == [width, width]
        contrasts = browser.script(CONTRASTS)
        assert len(contrasts) > 100
        assert min(contrasts) >= [4.5], min(contrasts)
        browser.script(OPEN_ALL)
    images = browser.script(IMAGES)
    assert images
    assert all(complete and natural > 300 and 200 < shown <= width for _, complete, natural, shown in images), images
    browser.screenshot(tmp_path / "open.png")
    assert browser.console() == []
    assert [one for one in browser.requests() if not one.startswith(("file:", "data:"))] == []
    background = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert (background != "rgb(255, 255, 255)") is dark


def button(browser, table, name):
    heads = browser.find(f"{table} thead tr:last-child > *")
    (place,) = [place for place, head in enumerate(heads) if head.text.split("\n")[0].strip(" ↕▲▼") == name][:1]
    return place, heads[place].find_element("tag name", "button")


def state(browser, table, place):
    direction, rows = browser.script(COLUMN, table, place)
    return direction, rows


def numbers(rows):
    """The values of a column in order, the overall row aside; None where a cell has none."""
    shown = [text for name, text, _ in rows if name != "Overall"]
    return [float(text.strip("()").split(",")[0].split(" ")[0]) if text[0] in "(0123456789" else None for text in shown]


@pytest.mark.parametrize("press", ["click", Keys.ENTER, Keys.SPACE], ids=["click", "enter", "space"])
def test_a_column_is_sorted_by_number_and_back(browser, pages, press):
    browser.open(pages("troubled").as_uri())
    table = "#table_a1-table"
    heads = browser.find(f"{table} thead tr:last-child th")
    assert heads
    place, control = button(browser, table, "+ AltUB")

    def sort():
        control.click() if press == "click" else control.send_keys(press)
        return state(browser, table, place)

    before, original = state(browser, table, place)
    assert before == "none"
    direction, rows = sort()
    values = numbers(rows)
    there = [value for value in values if value is not None]
    assert direction == "descending"
    assert len(there) > 1
    assert there == sorted(there, reverse=True)
    assert values == there + [None] * (len(values) - len(there))  # what is missing is last
    assert rows[-1][0] == "Overall"
    assert sorted(rows) == sorted(original)  # rows of several lines stay together
    direction, rows = sort()
    assert direction == "ascending"
    values = numbers(rows)
    assert values == sorted(there) + [None] * (len(values) - len(there))
    assert sort() == ("none", original)


def test_text_is_sorted_and_only_one_column_says_so(browser, pages):
    browser.open(pages("troubled").as_uri())
    table = "#table_a1-table"
    place, category = button(browser, table, "category")
    other, control = button(browser, table, "w/o")
    control.click()
    category.click()
    assert state(browser, table, other)[0] == "none"
    direction, rows = state(browser, table, place)
    names = [name for name, _, _ in rows[:-1]]
    assert direction == "ascending"
    assert names == sorted(names, key=str.lower)


def test_the_keyboard_reaches_tables_and_heads(browser, pages):
    browser.open(pages("demo").as_uri())
    reached = set()
    body = browser.driver.switch_to.active_element
    for _ in range(40):
        body.send_keys(Keys.TAB)
        body = browser.driver.switch_to.active_element
        reached.add((body.tag_name, body.get_attribute("class")))
    assert ("button", "") in reached
    assert ("div", "scroll") in reached
    assert ("summary", "") in reached


def test_footnotes_lead_there_and_back(browser, pages):
    browser.open(pages("troubled").as_uri())
    (mark,) = browser.find("#table_a1-mark-1")
    (note,) = browser.find("#table_a1-note-1")
    assert mark.get_attribute("href").endswith("#table_a1-note-1")
    browser.script("arguments[0].click()", mark)
    assert browser.script("return document.querySelector(':target').id") == "table_a1-note-1"
    note.find_element("css selector", "a[href='#table_a1-mark-1']").click()
    assert browser.script("return document.querySelector(':target').id") == "table_a1-mark-1"


def test_without_scripts_everything_is_there(browser, pages):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(pages("troubled").as_uri())
        assert browser.find("#table_a1-table tbody")
        assert browser.find("thead button") == []
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_what_runs_are_called_does_not_run(browser, pages):
    browser.open(pages("troubled").as_uri())
    assert len(browser.find("script")) == 1
    assert "<script>alert(1)</script>" in browser.find("#own")[0].text


def test_in_print(browser, pages, tmp_path):
    browser.open(pages("demo").as_uri(), dark=True)
    browser.command("Emulation.setEmulatedMedia", media="print")
    assert browser.script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not browser.find("nav")[0].is_displayed()
    assert browser.command("Page.printToPDF", printBackground=True)["data"].startswith("JVBERi0")  # %PDF-
    browser.command("Emulation.setEmulatedMedia", media="")
