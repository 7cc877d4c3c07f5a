"""Declarative definitions to PyMC models; nothing here samples.

Baselines, effects, priors, likelihoods and their kernels.
"""
