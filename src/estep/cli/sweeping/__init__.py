"""The commands of sweeps and studies: many runs as one plan."""
