# Gave the numbers in tests/classical/test_turnbull.py and tests/hazards/test_found_at_visits.py
# (R 4.2, survival 3.5-3): 80 patients with exact times, gaps and censored times.
library(survival)
options(digits = 12)

i <- 1:80
last <- (7 * i) %% 23 / 2
found <- last + (5 * i) %% 9 / 2
found[last == 0 & found == 0] <- 0.5
found[i %% 4 == 0] <- Inf
last[i %% 4 == 0] <- last[i %% 4 == 0] + 1
x <- (17 * i) %% 29 / 10
z <- as.integer(i %% 3 == 0)
lower <- ifelse(last == 0, NA, last)
upper <- ifelse(is.infinite(found), NA, found)

y <- Surv(lower, upper, type = "interval2")
print(coef(survreg(y ~ 1, dist = "exponential", control = list(rel.tolerance = 1e-14))))
print(coef(survreg(y ~ z + x, dist = "exponential", control = list(rel.tolerance = 1e-14))))

# survfit stops when no survival changes by more than 5e-5: to compare at 1e-6 it must go on.
source <- sub("5e-05", "1e-13", deparse(survival:::survfitTurnbull), fixed = TRUE)
assignInNamespace(
  "survfitTurnbull", eval(parse(text = source), asNamespace("survival")), "survival"
)
show <- function(curve) {
  falls <- c(TRUE, diff(curve$surv) < -1e-8)
  print(cbind(time = curve$time, survival = curve$surv)[falls, ])
}
show(survfit(y ~ 1, se.fit = FALSE))
for (level in 0:1) show(survfit(y[z == level] ~ 1, se.fit = FALSE))
