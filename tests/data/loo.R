# Pareto k and leave-one-out predictive densities of a matrix that is written down by a formula.
# Rscript tests/data/loo.R; loo 2.5.1, R 4.2
suppressMessages(library(loo))
# Autocorrelated normal draws of 8 parameters in 4 chains of 250; the weights' tails have shapes
# of about 0.1 to 1.1.
log_lik <- sapply(1:8, function(i) {
  n <- 1:1000
  part <- sin(12.9898 * n + 78.233 * i) * 43758.5453
  normal <- matrix(qnorm(part - floor(part)), 250)
  rho <- c(0, 0.3, 0.6, 0.9)[(i - 1) %% 4 + 1]
  draws <- apply(normal, 2, function(x) filter(sqrt(1 - rho^2) * x, rho, method = "recursive"))
  -(0.05 + 0.07 * i) * as.vector(draws)^2
})
chain <- rep(1:4, each = 250)
efficiency <- relative_eff(exp(log_lik), chain_id = chain)
show <- function(x) cat(sprintf("%.9f", x), sep = ", ", fill = 100)
show(efficiency)
for (one in list(efficiency, rep(1, 8))) {
  found <- suppressWarnings(loo(log_lik, r_eff = one))
  show(found$diagnostics$pareto_k)
  show(found$pointwise[, "elpd_loo"])
}
show(relative_eff(exp(log_lik[1:250, ]), chain_id = rep(1, 250)))
