"""Small counts, and what would give them away: counts and sums, and the tables that hold them."""

from bayesblina.core.masking.accounts import MaskedAccount, mask_account
from bayesblina.core.masking.counts import MASK, MINIMUM_COUNT, Masked, Sum, is_small, mask

__all__ = [
    "MASK",
    "MINIMUM_COUNT",
    "Masked",
    "MaskedAccount",
    "Sum",
    "is_small",
    "mask",
    "mask_account",
]
