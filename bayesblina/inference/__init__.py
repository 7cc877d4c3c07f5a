"""A model to draws.

Samplers, compiled code, convergence, fits, storage; the posterior by partial likelihood.
"""
