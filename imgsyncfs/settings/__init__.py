"""What users set: options, environment and config file."""
