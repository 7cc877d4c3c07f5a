"""Can the numbers be believed.

Checks of a fit, predictions, patients left out, comparison, influence, priors.
"""
