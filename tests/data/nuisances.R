# The rows of nuisances() in tests/test_ladder.py, written with
#   nuisances().astype({"event": int}).to_csv("nuisances.csv", index=False)
# Rscript nuisances.R nuisances.csv; R 4.2, survival 3.5-3.
library(survival)
rows <- read.csv(commandArgs(TRUE)[1])
exact <- coxph.control(iter.max = 60, eps = 1e-14, toler.inf = 1e-20)
for (terms in c("m + b + c", "m + a + b", "m + age + again", "m + c + age + again + b",
                "m + same + age", "m + a + b + c")) {
  fit <- suppressWarnings(
    coxph(as.formula(paste("Surv(start, stop, event) ~", terms)), rows, control = exact)
  )
  cat(terms, ":", format(coef(fit), digits = 12), "|", format(sqrt(diag(vcov(fit))), digits = 12), "\n")
}
