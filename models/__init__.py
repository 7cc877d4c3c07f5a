"""Model definitions that ship with bayesblina, one TOML file each."""
