"""Videos of a policy: rendered without a display, encoded for a browser."""
