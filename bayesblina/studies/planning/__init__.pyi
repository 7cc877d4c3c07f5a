"""The public names, and the modules that define them."""

from .characteristics import SampleSize as SampleSize
from .characteristics import operating_characteristics as operating_characteristics
from .characteristics import sample_size as sample_size
from .designs import StudyDesign as StudyDesign
from .designs import simulate_cohorts as simulate_cohorts
