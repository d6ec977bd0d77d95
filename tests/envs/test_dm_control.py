"""Tasks of dm_control through shimmy: `pip install 'estep[dm-control]'`. Without it these tests are left out."""

import numpy as np
import pytest

from estep.envs.gymnasium import make
from estep.envs.tasks.several import join

pytest.importorskip("shimmy")
pytest.importorskip("dm_control")


@pytest.mark.long
def test_walkers_are_tasks_of_one_body():
    parts = []
    for task in ("stand", "walk", "run"):
        parts.append(make(f"shimmy:dm_control/walker-{task}-v0"))
        parts[-1].name = task
    env = join(parts, "walker")
    assert env.spec[:2] == (27, 6)
    assert env.spec.tasks == 3
    assert [name for name, _ in env.spec.names] == ["height", "orientations", "velocity"]
    env.reset()
    for _ in range(3):
        step = env.step(np.zeros((3, 6), np.float32))
    assert ((step.reward >= 0) & (step.reward <= 1)).all()
    assert not step.terminated.any()
    env.close()
