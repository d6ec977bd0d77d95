"""The command line of estep, with a model that gives an episode an even chance to go on before it has learned.

Run as `estep`, for example

    python experiments/models_mujoco/wrong_head.py train mve --env Hopper-v5
"""

from __future__ import annotations

import sys

from estep.cli.main import main
from estep.likelihoods import dynamics

if __name__ == "__main__":
    dynamics.GO_ON = 0.0
    sys.exit(main())
