import sys

import gymnasium
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from faulty import UNIT, Cached, Counter, NoGym, Plain, act, quiet, raising

from estep.envs import build
from estep.envs.build import EVAL, env_ids
from estep.envs.gymnasium import make
from estep.errors import EnvironmentFailure, NumericHalt, UsageError


def test_episode_ends_keep_true_successor():
    for terminates in (True, False):
        env = quiet(lambda terminates=terminates: Counter(3, terminates))
        obs = env.reset()
        seen = []
        for _ in range(7):
            step = env.step(act())
            assert step.valid.all()
            assert step.next_obs[0, 0] == obs[0, 0] + 1
            assert step.next_obs[0, 1] == obs[0, 1]
            seen.append((bool(step.terminated[0]), bool(step.truncated[0])))
            obs = step.obs
        end = (terminates, not terminates)
        assert seen == [(False, False)] * 2 + [end] + [(False, False)] * 2 + [end] + [(False, False)]
        assert [(e.number, e.total, e.length) for e in env.finished()] == [(0, 6.0, 3), (1, 6.0, 3)]
        assert env.finished() == []


def test_reset_by_mask_and_seeds():
    made = []

    def factory():
        made.append(Counter(2 + 3 * len(made)))
        return made[-1]

    env = quiet(factory, num_envs=2, seed=7)
    env.reset()
    for _ in range(6):
        env.step(act(2))
    assert [one.episode for one in made] == [3, 1]
    seeds = [seed for one in made for seed in one.seeds]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    other = Counter(2)
    again = quiet(lambda: other, seed=7)
    again.reset()
    assert other.seeds[0] == made[0].seeds[0]
    held_out = Counter(2)
    quiet(lambda: held_out, seed=7, stream=EVAL).reset()
    assert held_out.seeds[0] != other.seeds[0]


@pytest.mark.parametrize(("length", "terminates"), [(1, True), (1, False), (0, True)])
def test_degenerate_episodes(length, terminates):
    env = quiet(lambda: Counter(length, terminates))
    env.reset()
    for _ in range(20):
        env.step(act())
    assert len(env.finished()) == (20 if length else 0)


def test_cut_only_without_a_time_limit():
    env = quiet(lambda: Counter(0), max_episode_steps=4)
    env.reset()
    ends = [bool(env.step(act()).truncated[0]) for _ in range(8)]
    assert ends == [False, False, False, True] * 2
    assert "cut at 4" in env.describe()["time limit"]
    limited = quiet(lambda: gymnasium.wrappers.TimeLimit(Counter(0), 6), max_episode_steps=4)
    limited.reset()
    assert [bool(limited.step(act()).truncated[0]) for _ in range(6)] == [False] * 5 + [True]
    assert limited.describe()["time limit"] == "6 steps"
    assert quiet(lambda: Counter(0)).describe()["time limit"] == "no TimeLimit wrapper"


def test_terminated_at_the_time_limit_is_terminated():
    env = quiet(lambda: gymnasium.wrappers.TimeLimit(Counter(3), 3))
    env.reset()
    step = [env.step(act()) for _ in range(3)][-1]
    assert step.terminated[0]


def box(low, high):
    space = gymnasium.spaces.Box(-1.0, 1.0, np.shape(low), np.float32)
    space.low, space.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return space


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (box([-1, -np.inf], [1, 1]), ["dimension 1", "infinite"]),
        (box([-1, 0], [np.inf, 1]), ["dimension 0", "infinite"]),
        (box([np.nan], [1]), ["dimension 0", "NaN"]),
        (box([-1, 2], [1, 1]), ["dimension 1", "inverted"]),
        (box([-1, 1], [1, 1]), ["dimension 1", "equal"]),
        (box([-3e38], [3e38]), ["dimension 0", "overflows"]),
        (gymnasium.spaces.Discrete(1), ["1 discrete action", "two"]),
        (gymnasium.spaces.MultiDiscrete([1, 1]), ["no actions to choose", "two choices"]),
        (gymnasium.spaces.Tuple((UNIT, UNIT)), ["Tuple", "one Box"]),
        (gymnasium.spaces.Text(3), ["Text", "MultiDiscrete"]),
        (gymnasium.spaces.Box(0, 5, (2,), np.int32), ["int32"]),
        (gymnasium.spaces.Box(0, 1, (0,), np.float32), ["empty"]),
    ],
)
def test_unfit_action_spaces(space, names):
    with pytest.raises(EnvironmentFailure) as error:
        quiet(lambda: Counter(act=space))
    assert all(name in str(error.value) for name in names)
    assert error.value.exit_code == 5


def test_actions_stay_inside_and_reach_the_ends():
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        low = random.uniform(-1e6, 1e6, 200).astype(dtype)
        high = (low + 10.0 ** random.uniform(-6, 6, 200)).astype(dtype)
        high = np.maximum(high, np.nextafter(low, dtype(np.inf)))
        inner = Counter(act=gymnasium.spaces.Box(low, high, dtype=dtype), length=0)
        env = quiet(inner)
        env.reset()
        for value in (-1.0, 1.0, -2.0, 2.0, None):
            for _ in range(1 if value else 300):
                point = random.uniform(-1, 1, (1, 200)).astype(np.float32) if value is None else act(1, 200, value)
                env.step(point)
        given = np.stack(inner.actions)
        assert given.dtype == dtype
        assert ((given >= low) & (given <= high)).all()
        for i in (0, 2):
            assert (given[i] <= np.nextafter(low, dtype(np.inf))).all()
            assert (given[i + 1] >= np.nextafter(high, dtype(-np.inf))).all()


def test_shapes_and_dtypes_of_spaces():
    inner = Counter(
        act=gymnasium.spaces.Box(-2.0, 4.0, (2, 3), np.float64),
        obs=gymnasium.spaces.Box(-9, 9, (3, 1), np.float64),
        fault=lambda env, kind, value: value.astype(np.float64)[:, None] if kind == "obs" else value,
    )
    env = quiet(inner)
    assert env.spec.obs_dim == 3
    assert env.spec.action_dim == 6
    assert env.reset().shape == (1, 3)
    assert env.step(act(1, 6)).next_obs.dtype == np.float32
    assert inner.actions[0].shape == (2, 3)
    assert (inner.actions[0] == 1.0).all()
    assert "[-2, 4], rescaled" in env.describe()["action"]


def test_nothing_is_aliased():
    env = quiet(Cached)
    obs = env.reset()
    kept = [env.step(act()) for _ in range(4)]
    assert obs[0, 0] == 0
    assert [step.next_obs[0, 0] for step in kept] == [1, 2, 3, 4]


def test_non_finite_action_is_ours():
    env = quiet(Counter)
    env.reset()
    with pytest.raises(NumericHalt):
        env.step(act(value=np.nan))


def test_exceptions_say_where():
    env = quiet(lambda: Counter(fault=raising(2)))
    env.reset()
    env.step(act())
    told = r"episode 0, step 1\) raised RuntimeError: boom \(\w+\.py, line \d+\)\.\n"
    with pytest.raises(EnvironmentFailure, match=told) as error:
        env.step(act())
    assert isinstance(error.value.__cause__, RuntimeError)
    with pytest.raises(EnvironmentFailure, match="raised RuntimeError"):
        quiet(lambda: Counter(fault=raising(0))).reset()


def test_old_interfaces_are_named():
    env = quiet(lambda: Counter(fault=lambda env, kind, value: (False,) if kind == "flags" else value))
    env.reset()
    with pytest.raises(EnvironmentFailure, match="from step"):
        env.step(act())
    old = Counter()
    old.reset = lambda **_: np.zeros(3, np.float32)
    with pytest.raises(EnvironmentFailure, match="from reset"):
        quiet(old).reset()


def test_sources(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="HalfCheetah-v5") as error:
        quiet("HalfCheeta-v5")
    assert error.value.exit_code == 2
    with pytest.raises(UsageError, match="Pendulum-v1"):
        quiet("pendulum-v9")
    with pytest.raises(UsageError, match="no environment 'Xyzzy"):
        quiet("Xyzzy-v0")
    with pytest.raises(UsageError, match="nowhere_at_all"):
        quiet("nowhere_at_all:Pendulum-v1")
    with pytest.raises(EnvironmentFailure, match=r"not a gymnasium\.Env"):
        quiet(NoGym)
    with pytest.raises(EnvironmentFailure, match="function that makes one"):
        quiet(3)
    with pytest.raises(EnvironmentFailure, match=r"SyncVectorEnv is not .*\nPass one of its environments .* num_envs"):
        quiet(gymnasium.make_vec("Pendulum-v1", 2))
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError"):
        quiet(lambda: 1 / 0)
    sizes = iter([1, 2])
    with pytest.raises(EnvironmentFailure, match="different spaces"):
        quiet(lambda: Counter(act=gymnasium.spaces.Box(-1, 1, (next(sizes),))), num_envs=2)
    module = "import gymnasium\ngymnasium.register('Mine-v0', 'faulty:Counter')\n"
    (tmp_path / "mine_module.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    assert quiet("mine_module:Mine-v0").reset().shape == (1, 3)
    assert "Mine-v0" in env_ids()


def test_a_class_or_a_function_of_a_module_is_an_environment(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    lines = (
        "from __future__ import annotations",
        "import gymnasium",
        "from faulty import Counter as Counting",
        "def short(length=3) -> gymnasium.Env[object, object]: return Counting(length=length)",
        "def untold(): raise AssertionError('it is called')",
    )
    (tmp_path / "module_of_classes.py").write_text("\n".join(lines))
    assert quiet("module_of_classes:Counting").reset().shape == (1, 3)
    for text, length in (("module_of_classes:short", 3), ("module_of_classes:short?length=2", 2)):
        env = quiet(text)
        env.reset()
        ends = [bool(env.step(act()).terminated[0]) for _ in range(length)]
        assert ends == [False] * (length - 1) + [True]
    assert "short" not in env_ids()
    with pytest.raises(UsageError, match=r"cannot be made with size: .*size"):
        quiet("module_of_classes:short?size=2")
    with pytest.raises(UsageError, match="Did you mean module_of_classes:Counting"):
        quiet("module_of_classes:Countin")
    with pytest.raises(UsageError, match=r"does not say that .*\nWrite def untold\(\.\.\.\) -> gymnasium\.Env"):
        quiet("module_of_classes:untold")


@pytest.mark.parametrize("text", ["subprocess:getoutput", "os:system", "pathlib:Path", "builtins:exec", "os:environ"])
def test_no_other_thing_of_a_module_is_called(text, tmp_path):
    """A run folder may hold any text, and consent to import a module is none to call what is in it."""
    made = tmp_path / "made"
    for name in ("cmd", "command", "source"):
        with pytest.raises(UsageError, match=r"There is no environment|does not say"):
            quiet(f'{text}?{name}="touch {made}"')
    assert not made.exists()


def test_an_id_comes_before_a_class_of_its_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    lines = "import gymnasium", "from faulty import Counter as Both", "gymnasium.register('Both', 'faulty:Counter')"
    (tmp_path / "module_of_both.py").write_text("\n".join(lines))
    assert quiet("module_of_both:Both").envs[0].spec.id == "Both"
    del gymnasium.registry["Both"]


@pytest.mark.parametrize("text", ["hover.py", "hover.py:Hover", "./hover.py:Hover"])
def test_a_file_is_answered_with_the_module(text):
    with pytest.raises(UsageError, match=r"names a file.*\nWrite hover:(NAME|Hover)"):
        quiet(text)


def test_instances():
    with pytest.raises(UsageError, match="one environment"):
        quiet(Counter(), num_envs=2)
    made = gymnasium.make("Pendulum-v1")
    mine = quiet(made)
    assert mine.envs == [made]
    assert mine.describe()["time limit"] == "200 steps"
    mine.close()
    mine.close()


def test_arrays_without_axes_are_numbers():
    for wrap in (np.asarray, jnp.asarray, np.float32):
        env = quiet(
            lambda: Counter(fault=lambda env, kind, value, wrap=wrap: wrap(value) if kind != "flags" else value)
        )
        env.reset()
        assert env.step(act()).valid.all(), wrap
    for wrap in (np.asarray, jnp.asarray, np.bool_):
        flags = lambda env, kind, value, wrap=wrap: tuple(map(wrap, value)) if kind == "flags" else value
        env = quiet(lambda: Counter(length=2, fault=flags))
        env.reset()
        steps = [env.step(act()) for _ in range(2)]
        assert [bool(step.terminated[0]) for step in steps] == [False, True], wrap


def test_an_id_of_another_package_names_the_package():
    with pytest.raises(UsageError, match="pip install gymnasium-robotics, then give gymnasium_robotics:FetchReach-v4"):
        quiet("FetchReach-v4")
    with pytest.raises(UsageError, match="shimmy:dm_control/cheetah-run-v0"):
        quiet("dm_control/cheetah-run-v0")


def test_spaces_that_cannot_be_read_are_told():
    class Bare(gymnasium.Env):
        """Sets no spaces."""

    with pytest.raises(EnvironmentFailure, match="has no observation_space"):
        quiet(Bare)


def test_running_statistics_of_wrappers_are_refused():
    for wrapper, advice in (("NormalizeObservation", "--normalise"), ("NormalizeReward", "TransformReward")):
        with pytest.raises(UsageError, match=f"{wrapper}, whose running statistics") as error:
            quiet(lambda wrapper=wrapper: getattr(gymnasium.wrappers, wrapper)(Plain()))
        assert advice in error.value.fix


def test_what_an_environment_does_to_numpy_is_undone():
    class Strict(Counter):
        def reset(self, **options):
            np.seterr(all="raise")
            return super().reset(**options)

    before = np.geterr()
    env = quiet(Strict)
    env.reset()
    env.step(act())
    assert np.geterr() == before


def test_ends_of_the_process_and_errors_in_close_are_no_ends():
    class Quits(Counter):
        def step(self, action):
            raise SystemExit(3)

        def close(self):
            raise RuntimeError("the window is gone")

    env = quiet(Quits)
    env.reset()
    with pytest.raises(EnvironmentFailure, match="raised SystemExit: 3"):
        env.step(act())
    with pytest.warns(RuntimeWarning, match="the window is gone"):
        env.close()
    with pytest.raises(EnvironmentFailure, match="SystemExit"):
        quiet(lambda: sys.exit(1))


def test_a_module_that_ends_the_process_when_it_is_imported_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "ends_at_import.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentFailure, match="Importing the module of ends_at_import:X-v0 raised SystemExit"):
        quiet("ends_at_import:X-v0")


def test_mujoco_warns_once_and_leaves_no_file(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    build._warn.cache_clear()
    warning = '<mujoco><compiler settotalmass="14"/><worldbody><body><geom size="1"/></body></worldbody></mujoco>'
    for _ in range(2):
        make("InvertedPendulum-v5").close()
        mujoco.MjModel.from_xml_string(warning)
    assert capfd.readouterr().err.count("settotalmass") == 1
    assert not list(tmp_path.iterdir())
