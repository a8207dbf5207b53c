"""Settings: options, environment and config file."""
