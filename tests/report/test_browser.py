"""The report in a real browser: Chromium, driven by selenium. `make browser` runs it where both are installed."""

import base64
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from report_pages import long_run

from estep.comparing import comparison
from estep.comparing import page as comparing
from estep.comparing.reference import Line, Reference
from estep.comparing.sources import Found
from estep.plots.learning_curves import Point
from estep.report import page
from estep.runs import tables
from estep.runs.folder import RunFolder
from estep.video import encoding

pytestmark = pytest.mark.long
webdriver = pytest.importorskip("selenium.webdriver", reason="pip install --group browser")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
WebDriverException = pytest.importorskip("selenium.common.exceptions").WebDriverException
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
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 1200, "deviceScaleFactor": 1, "mobile": False}
    )
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


def shoot(browser, name):
    """The whole page as a picture, where a folder for them is given."""
    where = os.environ.get("ESTEP_TEST_SCREENSHOTS")
    if where:
        height = browser.execute_script("return document.documentElement.scrollHeight")
        clip = {
            "x": 0,
            "y": 0,
            "width": browser.execute_script("return window.innerWidth"),
            "height": height,
            "scale": 1,
        }
        found = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        Path(where, f"{name}.png").write_bytes(base64.b64decode(found["data"]))


def of(browser, selector):
    return browser.find_element(CSS, selector)


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_opens_without_an_error_or_a_request(browser, folder, width, theme):
    path, _ = page.write(folder)
    assert show(browser, path, width, theme) == [path.as_uri()]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    shoot(browser, f"report-{width}-{theme}")
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


def test_a_run_of_one_evaluation_that_goes_on_opens_and_reads_itself_again(browser, folder):
    rows = list(tables.cells(folder.path / "eval.csv"))[:1]
    tables.write(folder.path / "eval.csv", list(rows[0]), [list(row.values()) for row in rows])
    folder.write_run({**folder.read_run(), "status": "running", "ended": None})
    path, _ = page.write(folder)
    assert show(browser, path) == [path.as_uri()]
    assert browser.get_log("browser") == []
    assert of(browser, ".status").text == "running"
    assert of(browser, "meta[http-equiv=refresh]").get_attribute("content") == str(page.RELOAD)
    assert len(browser.find_elements(CSS, "#returns svg .line0 circle")) == 1
    shoot(browser, "report-running")
    soon = path.read_text().replace(f'content="{page.RELOAD}"', 'content="1"').replace(">running<", ">reads again<")
    path.write_text(soon)
    show(browser, path)
    path.write_text(soon.replace(">reads again<", ">done<"))
    wait(browser, lambda: of(browser, ".status").text == "done")


def wait(browser, until, seconds=10.0):
    WebDriverWait(browser, seconds, ignored_exceptions=[WebDriverException]).until(lambda _: until())


def test_a_run_of_three_million_steps_is_one_small_page(browser, folder):
    long_run(folder)
    begin = time.process_time()
    path, _ = page.write(folder)
    assert time.process_time() - begin < 3.0
    assert path.stat().st_size < 1_000_000
    assert show(browser, path) == [path.as_uri()]
    assert browser.get_log("browser") == []
    assert len(of(browser, "#returns svg .line0 polyline").get_attribute("points").split()) == 600
    chart = of(browser, "#returns svg")
    chart.send_keys(webdriver.Keys.ARROW_RIGHT)
    assert of(browser, "#returns .read").text.startswith("10,000 steps")
    shoot(browser, "report-3M")


def frames(count=40):
    """A ball that moves, with the number of the frame in its colour."""
    for i in range(count):
        picture = np.full((120, 160, 3), 6 * i % 256, np.uint8)
        picture[40:80, 2 * i : 2 * i + 40] = (255, 60, 0)
        yield picture


def test_a_video_plays_in_the_report(browser, folder):
    pytest.importorskip("imageio_ffmpeg", reason="the extra video is not installed")
    encoding.write(frames(), 20.0, folder.path / "videos" / "step_600.mp4")
    path, _ = page.write(folder)
    assert show(browser, path) == [path.as_uri()]
    wait(browser, lambda: browser.execute_script("return document.querySelector('video').readyState") >= 2)
    browser.execute_script("document.querySelector('video').play()")
    wait(browser, lambda: browser.execute_script("return document.querySelector('video').currentTime") > 0.5)
    film = "const v = document.querySelector('video'); return [v.error, v.videoWidth, v.videoHeight, v.duration]"
    error, *size, seconds = browser.execute_script(film)
    assert (error, size) == (None, [160, 120])
    assert seconds == pytest.approx(2.0, abs=0.1)
    assert browser.get_log("browser") == []
    shoot(browser, "report-video")


def test_where_no_mp4_was_written_the_report_shows_a_moving_picture(browser, folder):
    pytest.importorskip("PIL")
    encoding.write(frames(), 20.0, folder.path / "videos" / "step_600.webp")
    path, _ = page.write(folder)
    assert show(browser, path) == [path.as_uri()]
    assert not browser.find_elements(CSS, "video")
    shown = "const i = document.querySelector('#video img'); return [i.complete, i.naturalWidth, i.naturalHeight]"
    wait(browser, lambda: browser.execute_script(shown) == [True, 160, 120])
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
    assert "\\u202e" in of(browser, "#efficiency .legend").text  # a mark that would turn the sentence round
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    for name in ("efficiency", "profile", "env0", "profile0", "env1", "profile1"):
        assert len(browser.find_elements(CSS, f"#{name} svg polyline")) == 3
        assert len(browser.find_elements(CSS, f"#{name} .legend button")) == 3
    shoot(browser, f"compare-{width}-{theme}")


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
