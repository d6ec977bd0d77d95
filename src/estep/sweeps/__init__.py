"""Many runs as one plan in one folder: what to run, what has become of it, and the engines that run it.

`SWEEP/plan.json` lists the runs, `SWEEP/runs/<id>` is the run folder of each. All else in the folder is derived from
these two, or is the log of a process. No module here imports JAX.
"""
