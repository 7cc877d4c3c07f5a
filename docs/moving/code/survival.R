# One row per patient: id, days, died, transplant_day (empty if never).
library(survival)
patients <- read.csv("../../../tests/data/stanford_jasa1.csv")

# Transplantation as a state that changes over time.
rows <- tmerge(patients[c("id", "days", "died")], patients, id = id, tstop = days,
               event = event(days, died), transplant = tdc(transplant_day))

# Cox model; its score test is the Mantel-Byar test.
cox <- coxph(Surv(tstart, tstop, event) ~ transplant, rows)
breslow <- coxph(Surv(tstart, tstop, event) ~ transplant, rows, ties = "breslow")

# Simon-Makuch curves: patients change sides.
curves <- summary(survfit(Surv(tstart, tstop, event) ~ transplant, rows, timefix = TRUE),
                  times = c(30, 90, 180, 365))

# Piecewise-exponential model: split at the cut points, Poisson with an offset.
cuts <- c(30, 60, 90, 180, 365, 730)
split <- survSplit(Surv(tstart, tstop, event) ~ transplant, rows, cut = cuts, episode = "interval")
split$time <- split$tstop - split$tstart
pe <- glm(event ~ transplant + factor(interval) + offset(log(time)), poisson, split,
          control = list(epsilon = 1e-12))

# The mistake.
rows$ever <- ave(rows$transplant, rows$id, FUN = max)
naive <- coxph(Surv(tstart, tstop, event) ~ ever, rows)

numbers <- c(
  cox_log_hr = unname(coef(cox)), cox_se = sqrt(vcov(cox)[1]),
  breslow_score = unname(summary(breslow)$sctest["test"]),
  setNames(curves$surv, paste0("simon_makuch_", rep(c("reference", "exposed"), each = 4), "_", curves$time)),
  pe_log_hr = unname(coef(pe)["transplant"]), pe_se = sqrt(vcov(pe)["transplant", "transplant"]),
  naive_hr = unname(exp(coef(naive)))
)
write.csv(data.frame(name = names(numbers), value = numbers), "survival.csv", row.names = FALSE, quote = FALSE)
