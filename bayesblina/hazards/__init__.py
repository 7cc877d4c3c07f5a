"""Hazard models: definitions in a closed vocabulary, built into PyMC models by pure functions."""
