import numpy as np
import pytest
from child import config, digest, metrics, train

from estep.core.types import Transition
from estep.data.rewards import ReturnSpread, Rewards
from estep.envs.gymnasium import make
from estep.errors import RejectedInput, UsageError
from estep.settings.run import RunConfig
from estep.training.scale import rewards_of

GAMMA = 0.9


class Undiscounted:
    """An algorithm of one's own without a discount."""


def steps(count, size=1.0):
    """Rewards, ends and validity of two environments."""
    rng = np.random.default_rng(3)
    ended, valid = rng.random((2, count, 2)) < [[[0.1]], [[0.9]]]
    return size * (1.0 + rng.standard_normal((count, 2))), ended, valid


def followed(*columns):
    spread = ReturnSpread(num_envs=2, gamma=GAMMA)
    for row in zip(*columns, strict=True):
        spread.add(*row)
    return spread


def sums_of(rewards, ended, valid):
    """All discounted sums, one environment after the other."""
    found = []
    for env in range(2):
        total = 0.0
        for reward, end, good in zip(rewards[:, env], ended[:, env], valid[:, env], strict=True):
            if good:
                total = reward + GAMMA * total
                found.append(total)
            total *= not end
    return np.array(found)


@pytest.mark.parametrize("one", [1.0, -1000.0])
def test_the_divisor_is_the_spread_of_returns_or_a_fifth_of_the_largest(one):
    rewards, ended, valid = steps(500)
    rewards[100] = one
    sums = sums_of(rewards, ended, valid)
    wanted = max(sums.std(), np.abs(sums).max() / 5)
    assert followed(rewards, ended, valid).divisor == pytest.approx(wanted, rel=1e-9)
    assert (sums.std() > np.abs(sums).max() / 5) == (one > 0)  # either of the two has its turn


def test_the_scale_of_the_rewards_has_no_effect():
    small, large = (followed(*steps(200, size)) for size in (1.0, 4096.0))
    assert large.divisor == 4096.0 * small.divisor


def test_rewards_of_zero_stay():
    assert followed(np.zeros((9, 2)), np.zeros((9, 2), bool), np.ones((9, 2), bool)).divisor == 1.0


def test_a_state_goes_on_where_it_was_saved():
    columns = steps(60)
    whole, first = followed(*columns), followed(*(column[:25] for column in columns))
    second = ReturnSpread(num_envs=2, gamma=GAMMA)
    second.load(first.arrays())
    for row in zip(*(column[25:] for column in columns), strict=True):
        second.add(*row)
    assert second.divisor == whole.divisor
    assert all(np.array_equal(second.arrays()[name], value) for name, value in whole.arrays().items())


@pytest.mark.parametrize("name", ["count", "squares", "largest", "open"])
@pytest.mark.parametrize("bad", [np.array([np.nan]), np.zeros(3), np.zeros(1, np.float32), None])
def test_a_malformed_state_is_refused(name, bad):
    spread = ReturnSpread(num_envs=1, gamma=GAMMA)
    arrays = spread.arrays() | {name: bad}
    with pytest.raises(RejectedInput, match=name):
        spread.load({key: value for key, value in arrays.items() if value is not None})


def test_replay_keeps_rewards_as_they_are_and_learning_divides_them():
    spread = ReturnSpread(num_envs=2, gamma=GAMMA)
    rewards = Rewards(np.array([1.0, 2.0], np.float32), spread)
    none, all_ = np.zeros(2, bool), np.ones(2, bool)
    kept = rewards.stored(np.array([3.0, 4.0], np.float32), none, all_)
    assert kept.tolist() == [3.0, 8.0]
    batch = Transition(*[np.zeros(1)] * 2, kept, *[np.zeros(1)] * 3)
    np.testing.assert_allclose(rewards.read(batch).reward, kept / max(2.5, 8.0 / 5), rtol=1e-6)
    assert Rewards(None, None).read(batch) is batch


def test_a_run_is_the_same_bit_for_bit_whatever_the_scale_of_its_rewards(tmp_path):
    # 1024 is a power of 2, so that nothing is rounded otherwise
    plain, scaled = (
        train(tmp_path / str(factor), normalise_rewards=True, reward_scale=(factor,)) for factor in (1.0, 1024.0)
    )
    names = "params", "optim"
    assert digest(plain.run_dir, names) == digest(scaled.run_dir, names)
    divisors = [metrics(run.run_dir)[-1]["data/reward_divisor"] for run in (plain, scaled)]
    assert divisors[1] == pytest.approx(1024.0 * divisors[0])
    assert digest(plain.run_dir, names) != digest(train(tmp_path / "raw").run_dir, names)


def test_what_cannot_follow_returns_is_refused():
    with pytest.raises(UsageError, match="no setting gamma"):
        rewards_of(Undiscounted(), config(normalise_rewards=True), make("Pendulum-v1", seed=0))
    with pytest.raises(UsageError, match="follows the returns of one run"):
        RunConfig(population=2, normalise_rewards=True)
