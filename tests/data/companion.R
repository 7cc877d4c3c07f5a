# Gave the numbers in tests/test_companion.py (R 4.2, survival 3.5-3): maximum partial likelihood
# with Breslow's treatment of ties, and standard errors from the observed information.
library(survival)
options(digits = 12)
folder <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))

counting <- function(id, entry, time, event, start) {
  rows <- lapply(seq_along(id), function(i) {
    if (is.na(start[i]) || start[i] >= time[i])
      return(data.frame(id = id[i], start = entry[i], stop = time[i], event = event[i], on = 0))
    if (start[i] <= entry[i])
      return(data.frame(id = id[i], start = entry[i], stop = time[i], event = event[i], on = 1))
    data.frame(id = id[i], start = c(entry[i], start[i]), stop = c(start[i], time[i]),
               event = c(0, event[i]), on = c(0, 1))
  })
  do.call(rbind, rows)
}
show <- function(fit) print(rbind(estimate = coef(fit), se = sqrt(diag(vcov(fit)))))

h <- read.csv(file.path(folder, "stanford_jasa1.csv"))
s <- read.csv(file.path(folder, "stanford_surgery.csv"))
rows <- counting(h$id, rep(0, nrow(h)), h$days, h$died, h$transplant_day)
rows$surgery <- s$surgery[match(rows$id, s$id)]
show(coxph(Surv(start, stop, event) ~ on, rows, ties = "breslow"))
show(coxph(Surv(start, stop, event) ~ on + surgery, rows, ties = "breslow"))

# Delayed entry, ties, weights and strata.
i <- 1:80
entry <- (7 * i) %% 11 / 4
time <- entry + 1 + (13 * i) %% 37 / 4
begun <- ifelse(i %% 3 == 0, NA, entry + (5 * i) %% 17 / 2)
rows <- counting(i, entry, time, as.integer(i %% 4 != 0), begun)
rows$x <- ((17 * i) %% 29 / 10)[rows$id]
rows$w <- (0.5 + (3 * i) %% 7 / 4)[rows$id]
rows$s <- ((11 * i) %% 23 %% 2)[rows$id]
show(coxph(Surv(start, stop, event) ~ on + x, rows, ties = "breslow", weights = w, robust = FALSE))
show(coxph(Surv(start, stop, event) ~ on + x + strata(s), rows, ties = "breslow",
           weights = w, robust = FALSE))
