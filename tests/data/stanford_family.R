# Made stanford_surgery.csv and the golden numbers of tests/test_stanford_family.py
# (R 4.2, survival 3.5-3, pammtools 0.5.8, mgcv 1.8-41).
library(survival)
library(pammtools)
d <- jasa1
write.csv(d[!duplicated(d$id), c("id", "surgery")], "stanford_surgery.csv", row.names = FALSE, quote = FALSE)
# One row per patient and interval; transplant is time-varying.
s <- survSplit(Surv(start, stop, event) ~ ., data = d, cut = c(60, 180), episode = "j")
s$off <- log(s$stop - s$start)
s$j <- factor(s$j)
show <- function(m) print(round(cbind(est = coef(m), se = sqrt(diag(vcov(m)))), 6))
# Proportional; a ratio for each interval; a baseline for each stratum.
show(glm(event ~ j + transplant + offset(off), poisson, s, epsilon = 1e-12))
show(glm(event ~ j + j:transplant + offset(off), poisson, s, epsilon = 1e-12))
show(glm(event ~ j * factor(surgery) + transplant + offset(off), poisson, s, epsilon = 1e-12))
# The same models through pammtools, on its own kind of data: time-dependent transplant.
base <- d[!duplicated(d$id), c("id", "surgery")]
base$time <- tapply(d$stop, d$id, max)[as.character(base$id)]
base$status <- tapply(d$event, d$id, max)[as.character(base$id)]
changes <- data.frame(id = d$id, tz = d$start, transplant = d$transplant)
ped <- as_ped(
  list(base, changes), Surv(time, status) ~ surgery + concurrent(transplant, tz_var = "tz"),
  id = "id", cut = sort(unique(c(0, 60, 180, d$stop, d$start)))
)
ped$j <- cut(ped$tend, c(0, 60, 180, Inf))
show(pamm(ped_status ~ j + transplant, data = ped))
show(pamm(ped_status ~ j + j:transplant, data = ped))
show(pamm(ped_status ~ j * factor(surgery) + transplant, data = ped))
