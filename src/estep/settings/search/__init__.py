"""Where `estep tune` looks for settings."""
