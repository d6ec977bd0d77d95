"""`estep record`: what draws, what is written, and what is refused. No display, no MuJoCo context and no network."""

import base64
import gc
import io
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from commandline import command
from PIL import Image

from estep.errors import UsageError
from estep.report import page
from estep.report.contents import VIDEO, contents
from estep.runs.folder import RunFolder
from estep.settings.run import RunConfig
from estep.video import backends, encoding, live, playing
from estep.video.backends import Backend

RELEASE = Path(__file__).parents[1] / "releases" / "0.1.0"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without a display whose answer is not known."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ESTEP_CACHE_DIR", str(tmp_path / "cache"))


def tried(monkeypatch, *working):
    """Let only these ways work; returns the list of those that are tried."""
    names = []

    def works(name):
        names.append(name)
        return name in working

    monkeypatch.setattr(backends, "works", works)
    return names


def test_egl_comes_first_then_osmesa_and_the_answer_is_remembered(monkeypatch):
    names = tried(monkeypatch, "osmesa")
    assert backends.choose() == Backend("osmesa", "tried in a child process")
    assert names == ["egl", "osmesa"]
    assert backends.choose().name == "osmesa"
    assert names == ["egl", "osmesa"]
    monkeypatch.setattr(backends.ctypes.util, "find_library", lambda name: f"new-{name}")  # something was installed
    assert backends.choose().name == "osmesa"
    assert names == ["egl", "osmesa"] * 2


def test_a_display_is_tried_first_and_a_broken_answer_is_asked_again(monkeypatch):
    names = tried(monkeypatch)
    monkeypatch.setenv("DISPLAY", ":0")
    assert backends.choose() == Backend(None, "none of glfw, egl, osmesa works")
    (backends._file()).write_text('{"machine": 3, "name": "rm -rf"}')
    assert backends.choose().name is None
    assert names == ["glfw", "egl", "osmesa"] * 2


def test_the_choice_of_the_user_wins(monkeypatch):
    names = tried(monkeypatch, "egl")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert backends.use().name == "osmesa"
    monkeypatch.delenv("MUJOCO_GL")
    assert backends.use().name == os.environ["MUJOCO_GL"] == "egl"
    assert names == ["egl"]


def test_a_context_that_ends_its_process_ends_nothing_else(monkeypatch):
    monkeypatch.setattr(backends.ctypes.util, "find_library", lambda name: name)
    monkeypatch.setattr(backends, "DRAW", "import os; os.abort()")
    assert not backends.works("egl")
    monkeypatch.setattr(backends, "DRAW", "import os; assert os.environ['MUJOCO_GL'] == 'osmesa'")
    assert backends.works("osmesa")
    monkeypatch.setattr(backends.ctypes.util, "find_library", lambda name: None)
    assert not backends.works("osmesa")


class Painted(gymnasium.Env):
    """Three steps, each with a picture of another brightness."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 (as Gymnasium has it)
    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        self.count += 1
        return np.full(3, self.count, np.float32), 1.0, self.count == 3, False, {}

    def render(self):
        return np.full((49, 65, 3), 60 * self.count, np.uint8)


@pytest.fixture(scope="module")
def painted():
    if "Painted-v0" not in gymnasium.registry:
        gymnasium.register("Painted-v0", Painted)
        gymnasium.register("Blind-v0", lambda render_mode=None: Painted())
    return "Painted-v0"


@pytest.fixture
def folder(tmp_path, painted):
    """A run of the release whose environment is one that draws."""
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", str(RELEASE / "sac-Pendulum-v1"), str(run)], check=True)
    opened = RunFolder.open(run)
    config = opened.read_config()
    config["env"]["id"] = painted
    opened.write_config(config, {})
    return opened


def test_the_episodes_of_a_policy_become_a_file_that_the_report_shows(folder, monkeypatch):
    tried(monkeypatch)
    monkeypatch.setattr(encoding, "kind", lambda: encoding.WEBP)
    ended = command("record", str(folder.path), "--episodes", "2", "--overlay", "--json")
    assert ended.code == 0, ended.err
    path = folder.path / "videos" / "step_300.webp"
    assert (ended.record["file"], ended.record["returns"], ended.record["lengths"]) == (str(path), [3.0, 3.0], [3, 3])
    with Image.open(path) as image:
        image.seek(2)
        lit = np.asarray(image.convert("RGB"))
        assert (image.n_frames, image.size, image.info["duration"]) == (8, (65, 49), 200)
    assert abs(int(np.median(lit)) - 120) < 6
    assert lit.std() > 5  # something is written on it
    shown = contents(folder)["video"]
    assert shown["kind"] == "image/webp"
    assert base64.b64decode(shown["data"].partition(",")[2]) == path.read_bytes()
    text = page.write(folder)[0].read_text()
    assert text.count(shown["data"]) == 1
    assert "<h2>Video</h2>" in text


def test_the_video_of_the_latest_step_is_shown_unless_it_is_too_large(folder):
    videos = folder.path / "videos"
    videos.mkdir()
    for name, size in (("step_90.webp", 10), ("step_200.mp4", 10), ("step_x.mp4", 10), ("other.mp4", 10)):
        (videos / name).write_bytes(b"v" * size)
    assert contents(folder)["video"]["name"] == "step_200.mp4"
    assert "<video controls" in page.write(folder)[0].read_text()
    (videos / "step_300.mp4").write_bytes(b"v" * (VIDEO + 1))
    assert contents(folder)["video"] == {"name": "step_300.mp4", "kind": "video/mp4", "data": ""}
    assert "too large for this page" in page.write(folder)[0].read_text()


def test_what_cannot_be_recorded_is_refused_and_leaves_nothing(folder, monkeypatch, tmp_path):
    tried(monkeypatch)
    monkeypatch.setattr(encoding, "kind", lambda: encoding.WEBP)
    blind = folder.read_config()
    blind["env"]["id"] = "Blind-v0"
    other = tmp_path / "other"
    subprocess.run(["cp", "-r", str(folder.path), str(other)], check=True)
    RunFolder.open(other).write_config(blind, {})
    run = str(folder.path)
    for arguments, code, says in (
        ([str(tmp_path)], 3, "not a run folder"),
        ([run, "--out", "a.mp4"], 2, "pip install 'estep[video]'"),
        ([run, "--out", "a.gif"], 2, "A video is no .gif"),
        ([run, "--camera", "side"], 2, "not drawn by MuJoCo"),
        ([run, "--size", "0", "9"], 2, "--size"),
        ([run, "--fps", "0"], 2, "--fps"),
        ([run, "--episodes", "0"], 2, "--episodes"),
        ([run, "--task", "walk"], 2, "task"),
        ([run, "--checkpoint", "7"], 3, "no checkpoint '7'"),
        ([run, "--samples", "3"], 2, "--inference"),
        ([str(other)], 2, "Blind-v0 draws no pictures"),
    ):
        ended = command("record", *arguments)
        assert (ended.code, says in ended.err) == (code, True), (arguments, ended.err)
    assert not (folder.path / "videos").exists()
    with pytest.raises(UsageError, match="cannot be drawn without a display: none works") as error:
        playing.open_env("InvertedPendulum-v5", playing.Settings(), Backend(None, "none works"))
    assert "apt-get install" in error.value.fix


def test_a_long_webp_has_fewer_frames_of_the_same_length(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "HELD", 8)
    frames = (np.full((16, 16, 3), 10 * i, np.uint8) for i in range(20))
    assert encoding.write(frames, 10.0, tmp_path / "a.webp") == 5
    with Image.open(io.BytesIO((tmp_path / "a.webp").read_bytes())) as image:
        image.load()
        assert (image.n_frames, image.info["duration"]) == (5, 400)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg leaves a pipe open
def test_an_mp4_is_what_a_browser_plays(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="pip install 'estep[video]'")
    frames = (np.full((49, 65, 3), 10 * i, np.uint8) for i in range(20))  # with odd sides
    assert encoding.write(frames, 10.0, tmp_path / "a.mp4") == 20
    gc.collect()
    data = (tmp_path / "a.mp4").read_bytes()
    assert b"avc1" in data  # H.264
    assert data.index(b"moov") < data.index(b"mdat")  # it plays before it is whole


def test_a_recording_that_fails_is_noted_once_and_never_waited_for(tmp_path, monkeypatch):
    notes, started = [], []
    monkeypatch.setattr(live.shutil, "which", lambda name: None)
    real = subprocess.Popen

    def fail(command, **options):
        started.append(command)
        script = "import sys; sys.stderr.write('estep: Nothing draws here.\\nInstall it.\\n'); sys.exit(2)"
        return real([sys.executable, "-c", script], **options)

    monkeypatch.setattr(live.subprocess, "Popen", fail)
    video = live.LiveVideo(tmp_path, notes.append)
    video.update()
    video.update()  # the first one goes on
    assert len(started) == 1
    assert started[0][1:] == ["-m", "estep", "record", str(tmp_path), "--checkpoint", "latest", "--allow-import"]
    video.close()
    video.update()  # it took more than its share of such a short run
    video.close()
    assert len(started) == 1
    video._spent = 0.0
    video.update()
    video.close()
    assert len(started) == 2
    assert notes == ["note     a video was not recorded, and training goes on: Nothing draws here."]


def test_a_recording_that_says_much_ends_all_the_same(tmp_path, monkeypatch):
    """A pipe holds 64 KiB, and who writes more waits until it is read."""
    notes, real = [], subprocess.Popen
    script = "import sys; sys.stderr.write('warning\\n' * 40_000 + 'estep: The end.\\n'); sys.exit(2)"
    monkeypatch.setattr(live.subprocess, "Popen", lambda command, **more: real([sys.executable, "-c", script], **more))
    monkeypatch.setattr(live, "PATIENCE", 20.0)
    video = live.LiveVideo(tmp_path, notes.append)
    video.update()
    video._process.wait(20)
    video.update()
    assert notes == ["note     a video was not recorded, and training goes on: The end."]


class Recording:
    """Stands for a process that records for so many seconds of a clock."""

    def __init__(self, clock, seconds):
        self.clock, self.end = clock, clock[0] + seconds
        self.stderr, self.returncode = io.BytesIO(), 0

    def poll(self):
        return 0 if self.clock[0] >= self.end else None


@pytest.mark.parametrize("seconds", [5.0, 90.0])
def test_recordings_take_two_hundredths_of_the_time_of_a_run(tmp_path, monkeypatch, seconds):
    clock, started = [0.0], []
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(live.subprocess, "Popen", lambda *a, **b: started.append(clock[0]) or Recording(clock, seconds))
    video = live.LiveVideo(tmp_path, print)
    while clock[0] < 36_000:
        clock[0] += 5.0
        video.update()
    assert seconds * (len(started) - 1) <= 0.02 * clock[0]  # after the first one
    assert len(started) > 5


def test_a_population_is_recorded_by_the_command_alone():
    with pytest.raises(UsageError, match="record_every records one run"):
        RunConfig(population=2, record_every=10)


@pytest.mark.parametrize(
    ("env", "camera", "known"),
    [("Hopper-v5", "1", "it has 0 (track)"), ("Hopper-v5", "-1", "track"), ("InvertedPendulum-v5", "0", "none of its")],
)
def test_a_camera_that_is_not_there_is_refused(env, camera, known):
    model = gymnasium.make(env).unwrapped.model
    with pytest.raises(UsageError) as refused:
        playing.check_camera(env, model, camera)
    assert f"has no camera {camera}" in refused.value.what
    assert known in refused.value.what
    if model.ncam:
        playing.check_camera(env, model, "0")
        playing.check_camera(env, model, "track")


@pytest.mark.long
@pytest.mark.parametrize("name", ["egl", "osmesa"])
def test_mujoco_draws_without_a_display(name, tmp_path):
    if not backends.works(name):
        pytest.skip(f"{name} does not work here")
    script = """
from estep.video.playing import Settings, open_env
from estep.video.backends import use
env = open_env("Hopper-v5", Settings(size=(64, 48), camera="track"), use())
env.reset(seed=0)
picture = env.render()
assert picture.shape == (48, 64, 3) and picture.max() > 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "MUJOCO_GL": name})


@pytest.mark.long
def test_a_run_is_recorded_while_it_goes_on(tmp_path):
    if backends.choose().name is None:
        pytest.skip("nothing draws here")
    small = ["--steps", "300", "--warmup-steps", "100", "--hidden-sizes", "8", "8", "--eval-episodes", "0"]
    train = [sys.executable, "-m", "estep", "train", "sac", "--env", "InvertedPendulum-v5", *small]
    subprocess.run([*train, "--record-every", "200", "--out", str(tmp_path)], check=True, capture_output=True)
    (video,) = tmp_path.glob("sac/*/*/videos/step_*")
    assert video.stat().st_size > 1000
