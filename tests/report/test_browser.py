"""The report in a real browser: Chromium, driven by selenium. `make browser` runs it where both are installed."""

import json
import os
import shutil
from pathlib import Path

import pytest

from estep.comparing import comparison
from estep.comparing import page as comparing
from estep.comparing.reference import Line, Reference
from estep.comparing.sources import Found
from estep.plots.learning_curves import Point
from estep.report import page
from estep.runs import tables
from estep.runs.folder import RunFolder

pytestmark = pytest.mark.long
webdriver = pytest.importorskip("selenium.webdriver", reason="pip install --group browser")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)

RELEASE = Path(__file__).parents[1] / "releases" / "0.1.0" / "iterative-sac-Pendulum-v1"
SIZES = 390, 1400
CSS = "css selector"


@pytest.fixture(scope="module")
def browser():
    """A browser without a display, which keeps what it logs."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(RELEASE, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    return RunFolder.open(tmp_path / "run")


def show(browser, path, width=1400, theme="light"):
    """Open a page; returns the addresses that were asked for."""
    browser.set_window_size(width, 1200)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(path.as_uri())
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent" and not one["params"]["request"]["url"].startswith("data:")
    ]


def of(browser, selector):
    return browser.find_element(CSS, selector)


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_opens_without_an_error_or_a_request(browser, folder, width, theme):
    path, _ = page.write(folder)
    assert show(browser, path, width, theme) == [path.as_uri()]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (theme == "light")
    assert of(browser, "#returns svg polyline").get_attribute("points")


def test_the_curve_under_the_pointer_is_the_number_of_the_file(browser, folder):
    path, _ = page.write(folder)
    show(browser, path)
    rows = list(tables.cells(folder.path / "eval.csv"))
    dots = browser.find_elements(CSS, "#returns svg .line0 circle")
    assert len(dots) == len(rows)
    for dot, row in zip(dots, rows, strict=True):
        webdriver.ActionChains(browser).move_to_element(dot).perform()
        said = of(browser, "#returns .read").text.replace(",", "")
        assert said.startswith(f"{row['env_steps']} steps:")
        assert str(float(row["mean"])) in said


def test_a_curve_is_hidden_enlarged_and_found(browser, folder):
    path, _ = page.write(folder)
    show(browser, path)
    of(browser, "#returns .legend button").click()
    assert not browser.find_elements(CSS, "#returns svg .line0 polyline")
    of(browser, "#returns .legend button").click()

    def shown():
        return [one.text for one in browser.find_elements(CSS, "#returns svg text")]

    whole = shown()
    chart = of(browser, "#returns svg")
    chart.send_keys("+")
    chart.send_keys("+")
    assert shown() != whole
    chart.send_keys("0")
    assert shown() == whole
    chart.send_keys(webdriver.Keys.ARROW_RIGHT)
    assert "steps" in of(browser, "#returns .read").text
    of(browser, "#search").send_keys("temperature")
    found = [one.text.split()[0] for one in browser.find_elements(CSS, ".metric") if one.is_displayed()]
    assert found
    assert "m/alpha" in found
    assert "data/replay" not in found
    one = next(one for one in browser.find_elements(CSS, ".metric") if one.is_displayed())
    one.find_element(CSS, "summary").click()
    assert one.find_element(CSS, "polyline").get_attribute("points")
    assert browser.get_log("browser") == []


HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">\u202e"


def test_hostile_names_empty_and_long_runs_open(browser, folder):
    config = folder.read_config()
    config["algorithm"]["name"] = HOSTILE
    folder.write_config(config, {HOSTILE: HOSTILE})
    lines = "".join(
        json.dumps({"env_steps": 1000 * i, "updates": i, "wall_s": i, HOSTILE: None if i % 7 == 0 else i}) + "\n"
        for i in range(3000)
    )
    (folder.path / "metrics.jsonl").write_text(lines)
    path, _ = page.write(folder)
    assert path.stat().st_size < 1_000_000
    assert show(browser, path) == [path.as_uri()]
    assert browser.title != "broken"
    for name in ("metrics.jsonl", "eval.csv", "episodes.csv"):
        (folder.path / name).unlink()
    path, _ = page.write(folder)
    show(browser, path)
    assert browser.get_log("browser") == []


def curve(name, seed, ends, env="Some-v0"):
    return [Point(env, name, "{}", seed, 1000 * (i + 1), i, end, 1.0, 3) for i, end in enumerate(ends)]


def write_comparison(path, names, seeds=5):
    """The page of curves on two tasks."""
    points = [
        point
        for env in ("Some-v0", HOSTILE)
        for i, name in enumerate(names)
        for seed in range(seeds)
        for point in curve(name, seed, [seed, i + seed / 3, 2.0 * i + seed / 4], env)
    ]
    scale = Reference("mine.csv", (Line("*", 0.0, 10.0),))
    return comparing.write(comparison.compare(Found(points, []), reference=scale), path)


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_comparison_opens_without_an_error_or_a_request(browser, tmp_path, width, theme):
    path = write_comparison(tmp_path / "cmp.html", ["sac", "mpo", HOSTILE])
    assert show(browser, path, width, theme) == [path.as_uri()]
    assert browser.get_log("browser") == []
    assert browser.title != "broken"
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    for name in ("efficiency", "profile", "env0", "profile0", "env1", "profile1"):
        assert len(browser.find_elements(CSS, f"#{name} svg polyline")) == 3
        assert len(browser.find_elements(CSS, f"#{name} .legend button")) == 3
    for where in filter(None, [os.environ.get("ESTEP_TEST_SCREENSHOTS")]):
        browser.set_window_size(width, browser.execute_script("return document.body.scrollHeight") + 200)
        browser.save_screenshot(f"{where}/compare-{width}-{theme}.png")


def test_a_comparison_says_the_share_under_the_pointer(browser, tmp_path):
    path = write_comparison(tmp_path / "cmp.html", ["sac", "mpo"])
    show(browser, path)
    chart = of(browser, "#profile svg")
    for _ in range(2):
        chart.send_keys(webdriver.Keys.ARROW_RIGHT)
    said = of(browser, "#profile .read").text
    assert " score: sac, n = 5 " in said
    assert " · mpo, n = 5 1" in said  # all seeds are above the lowest score of sac
    assert not browser.find_elements(CSS, "#profile select")  # there is one axis
    assert browser.find_elements(CSS, "#env0 select")


def test_two_hundred_curves_are_compared_on_one_page(browser, tmp_path):
    path = write_comparison(tmp_path / "cmp.html", [f"sac{i}" for i in range(200)], seeds=1)
    assert show(browser, path) == [path.as_uri()]
    assert browser.get_log("browser") == []
    assert len(browser.find_elements(CSS, "#env0 svg polyline")) == 200
