"""Several runs beside each other: statistics over seeds and tasks, with intervals that a reviewer accepts."""
