"""What a new run takes from an earlier one."""
