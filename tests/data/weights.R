# An emulated trial of twelve patients, from the model of starting to the curves: with exact weights
# at every event time, by sums over patients. Rscript tests/data/weights.R
time <- c(2.3, 3.1, 4.7, 5.2, 6.4, 7.9, 8.5, 9.1, 10.6, 11.3, 12.8, 14.2)
event <- c(1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0)
start <- c(NA, 1.2, 3.4, NA, 2.1, 0.7, NA, 4.4, 1.9, 2.8, NA, 5.6)
x <- c(1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1)
grace <- 4
weighted <- function(patient) {
  started <- !is.na(start)
  waited <- ifelse(started, start, time)
  model <- suppressWarnings(
    glm(as.numeric(started) ~ x + offset(log(waited)), family = poisson, weights = patient))
  rate <- exp(coef(model)[1] + coef(model)[2] * x)
  times <- sort(unique(time[event == 1]))
  # Weights of both arms at a time: 0 where a patient is not at risk in the arm.
  first <- function(t) {
    begun <- started & start < t
    w <- ifelse(begun, ifelse(start <= grace, exp(rate * start) / rate / grace, 0),
                max(grace - t, 0) / grace * exp(rate * t))
    patient * w * (time >= t)
  }
  never <- function(t) patient * ifelse(started & start < t, 0, exp(rate * t)) * (time >= t)
  sums <- sapply(times, function(t) {
    died <- event == 1 & time == t
    c(sum(first(t)), sum(first(t)[died]), sum(never(t)), sum(never(t)[died]))
  })
  curve <- function(risk, died) function(t) {
    use <- times <= t & risk > 0
    prod(1 - died[use] / risk[use])
  }
  one <- curve(sums[1, ], sums[2, ])
  two <- curve(sums[3, ], sums[4, ])
  use <- sums[1, ] > 0 & sums[3, ] > 0
  score <- function(b) {
    p <- exp(b) * sums[1, ] / (exp(b) * sums[1, ] + sums[3, ])
    sum((sums[2, ] - (sums[2, ] + sums[4, ]) * p)[use])
  }
  area <- function(curve) integrate(Vectorize(curve), 0, 10, subdivisions = 5000,
                                    rel.tol = 1e-6, stop.on.error = FALSE)$value
  c(coef(model), uniroot(score, c(-5, 5), tol = 1e-12)$root, one(5), one(10), two(5), two(10),
    area(one) - area(two))
}
print(weighted(rep(1, 12)), digits = 9)
print(weighted(c(1, 2, 1, 3, 1, 1, 2, 1, 1, 1, 2, 1)), digits = 9)
