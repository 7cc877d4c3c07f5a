"""Small counts, and what would give them away: counts and sums, and the tables that hold them."""

from bayesblina.core.masking.accounts import MaskedAccount as MaskedAccount
from bayesblina.core.masking.accounts import mask_account as mask_account
from bayesblina.core.masking.counts import MASK as MASK
from bayesblina.core.masking.counts import MINIMUM_COUNT as MINIMUM_COUNT
from bayesblina.core.masking.counts import Masked as Masked
from bayesblina.core.masking.counts import Sum as Sum
from bayesblina.core.masking.counts import is_small as is_small
from bayesblina.core.masking.counts import mask as mask
