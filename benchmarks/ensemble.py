"""How many steps of a model of the environment a second, sampling included, beside mbrl-lib on torch?

Five networks of two layers of 200 (SiLU), on batches of 256 of 4,000 random steps with the sizes of HalfCheetah-v5, the
same batch for all five, Gaussian log-likelihood, Adam with a weight decay of 5e-5, float32. estep makes 8 steps in a
call, and one; besides, it learns whether the episode goes on, and follows the mean and the spread of its data. mbrl-lib
is given what it has for this: `GaussianMLP.update`, with inputs and targets that are standardised before.

mbrl-lib 0.2.0 pins old packages that this script does not use. Install it beside the group `bench` by
python -m pip install --no-deps mbrl, then what its import asks for: hydra-core, termcolor, tqdm, imageio.
"""

from __future__ import annotations

import functools as ft

import sheet
from contenders import BATCH, FILLED
from race import Contender, Gate, contender

OBS, ACTION = 17, 6
MEMBERS, HIDDEN, RATE, DECAY = 5, (200, 200), 1e-3, 5e-5
TOGETHER = 8


def estep_steps(together: int, gate: Gate) -> None:
    """Steps of `likelihoods.dynamics.Ensemble`, as a critic with a model beside it takes them."""
    import jax
    import jax.numpy as jnp

    from estep import Spec, make_key
    from estep.core.learned import Learned, learn
    from estep.core.optim import pieces
    from estep.core.types import Transition
    from estep.likelihoods.dynamics import Ensemble, ensemble, pieces_of

    k_net, k_data, k_steps = jax.random.split(make_key(0), 3)
    model = ensemble(Spec(OBS, ACTION), HIDDEN, MEMBERS, key=k_net)
    learned = learn(model, pieces(*pieces_of(model, RATE)))
    learned = jax.tree.map(jnp.copy, learned)  # its own arrays: donated buffers may not be the same
    keys = jax.random.split(k_data, 4)
    obs, action, next_obs, reward = (
        jax.random.normal(key, (FILLED, *size)) for key, size in zip(keys, ((OBS,), (ACTION,), (OBS,), ()), strict=True)
    )
    going_on, last = jnp.ones(FILLED), jnp.zeros(FILLED)
    replay = Transition(obs, action, reward, going_on, next_obs, last)

    def step(learned: Learned[Ensemble], key: jax.Array) -> tuple[Learned[Ensemble], None]:
        chosen = jax.random.randint(key, (BATCH,), 0, FILLED)
        rows = jax.tree.map(lambda column: column[chosen], replay)
        pending, _ = learned.descend(lambda model: model.loss(rows))
        assert pending.pending is not None
        return pending.step(pending.pending.sound), None

    @ft.partial(jax.jit, donate_argnums=(0,))
    def steps(learned: Learned[Ensemble], key: jax.Array) -> tuple[Learned[Ensemble], jax.Array]:
        key, now = jax.random.split(key)
        return jax.lax.scan(step, learned, jax.random.split(now, together))[0], key

    gate.wait = lambda: jax.block_until_ready(learned)
    while not gate(together):
        learned, k_steps = steps(learned, k_steps)


def mbrl_steps(gate: Gate) -> None:
    """Steps of mbrl-lib's `GaussianMLP`."""
    import torch
    from mbrl.models import GaussianMLP

    silu = {"_target_": "torch.nn.SiLU"}
    model = GaussianMLP(
        OBS + ACTION,
        OBS + 1,
        "cpu",
        num_layers=len(HIDDEN),
        ensemble_size=MEMBERS,
        hid_size=HIDDEN[0],
        activation_fn_cfg=silu,
    )
    adam = torch.optim.Adam(model.parameters(), RATE, weight_decay=DECAY)
    inputs, targets = torch.randn(FILLED, OBS + ACTION), torch.randn(FILLED, OBS + 1)
    while not gate():
        chosen = torch.randint(FILLED, (BATCH,))
        model.update(inputs[chosen], adam, targets[chosen])


def contenders(core: int | None) -> list[Contender]:
    """Both libraries; warm-up is three calls."""
    ours = {f"estep block {n}": (ft.partial(estep_steps, n), 3 * n) for n in (TOGETHER, 1)}
    return [contender(name, *loop, core) for name, loop in {**ours, "mbrl-lib": (mbrl_steps, 3)}.items()]


def main() -> None:
    args = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 3.0, "mbrl-lib")).parse_args()
    sheet.run(args, "steps of the model", contenders(args.pin))


if __name__ == "__main__":
    main()
