"""Synthetic cohorts with a known truth: nothing in here is, or stems from, patient data.

`blinatumomab_cohort` draws a study shaped like the published blinatumomab arm of NCT02013167
(Blood Advances 2020;4(7):1518). The numbers of patients per treatment phase are exactly the
published ones, and the Simon-Makuch medians are calibrated to the published medians, for patients
who reached consolidation, from its start, with transplant censored
(``docs/validation/synthetic_study.md``). The truth comes with it.

How a patient is made (time in months from the first dose; hazards as `Truth` has them):

1. Until remission everybody dies at the hazard without remission. A responder who is alive at the
   candidate remission month is in remission from then on; the others keep that hazard.
2. Remission ends by a relapse or, in about one of seven, by a death. Most who relapse die within
   months, sooner the earlier the relapse came; some reach a second remission.
3. Consolidation is handed out by lottery among those who reach their candidate month in
   remission, alive, relapse-free, followed and not transplanted; maintenance by a second lottery
   among those in consolidation who reach theirs. A few places in consolidation go to patients who
   have relapsed and are in second remission; so may places in maintenance, which the trial gave to
   those in continued remission (`Truth.retreated_share`). No lottery knows the future, covariates
   play no part in it, and consolidation itself changes no hazard.
4. A first transplant comes at a constant hazard in remission, while not maintained, and at another
   in second remission, also after maintenance that a relapse ended. Who has been transplanted
   begins no treatment phase.
5. Follow-up ends at the data cut-off: accrual is uniform, so censoring is uniform too.

So relapse is a confounder of maintenance and survival that changes over time (see `Truth`): those
in remission are treated, and those who have relapsed are at risk of death without maintenance.

Times are exact draws by inversion of cumulative hazards. Where a lottery or a transplant changes a
hazard, the path up to that moment is drawn without the change, and what remains is drawn anew.
"""

import lazy_loader

# `__init__.pyi` names them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
