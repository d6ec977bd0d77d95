"""Studies: Optuna chooses settings, and each trial is a small sweep. Optuna is imported only where it is used."""
