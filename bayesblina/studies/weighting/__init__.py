"""Confounding by indication: weights from a model of who starts the exposed phase, and when.

Patients who start maintenance differ from those who do not, and what they are like when they start
may also decide how they fare. A model of the hazard of starting, given covariates that may change
over time, gives every moment of follow-up the weight that it would need if starting did not depend
on them. Weighted follow-up is a cohort of pieces, each with one weight, so that the person-time and
the hazard models take it as any other.
"""

import lazy_loader

# `__init__.pyi` names them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
