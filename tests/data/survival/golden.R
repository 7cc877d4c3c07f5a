# Makes the tables and golden.csv beside it, from the data that come with R's survival (LGPL >= 2).
# Run here: Rscript golden.R        (R 4.2, survival 3.5-3)
# Tables: one row a patient; `phase` is when the patient enters the state that is compared. Who
# enters it when follow-up ends never is in it, and has none.
library(survival)

golden <- list()
keep <- function(data, what, key, value) {
  golden[[length(golden) + 1]] <<- data.frame(
    data = data, what = what, key = key, value = sprintf("%.17g", as.numeric(value)))
}

compare <- function(name, d, times, adjust = character()) {
  d$phase[!is.na(d$phase) & d$phase >= d$time] <- NA
  write.csv(d, paste0(name, ".csv"), row.names = FALSE, na = "", quote = FALSE)
  late <- !is.na(d$phase)
  before <- d[!late | d$phase > 0, ]
  before$start <- 0
  before$stop <- ifelse(is.na(before$phase), before$time, before$phase)
  before$event <- ifelse(is.na(before$phase), before$event, 0)
  before$x <- 0
  after <- d[late, ]
  after$start <- after$phase
  after$stop <- after$time
  after$x <- 1
  s <- rbind(before, after)
  for (ties in c("efron", "breslow")) {
    f <- summary(coxph(Surv(start, stop, event) ~ x, s, ties = ties))$conf.int
    keep(name, paste0("cox ", ties), c("estimate", "lower", "upper"), f["x", c(1, 3, 4)])
  }
  if (length(adjust)) {
    f <- summary(coxph(reformulate(c("x", adjust), "Surv(start, stop, event)"), s))$conf.int
    keep(name, "cox adjusted", c("estimate", "lower", "upper"), f["x", c(1, 3, 4)])
  }
  # Mantel and Byar: sums over event times, by hand.
  keep(name, "mantel-byar", c("observed_reference", "observed"), tapply(s$event, s$x, sum))
  expected <- variance <- 0
  for (t in unique(s$stop[s$event == 1])) {
    at <- s$start < t & t <= s$stop
    n <- sum(at)
    share <- sum(s$x[at]) / n
    deaths <- sum(s$event[s$stop == t])
    expected <- expected + deaths * share
    if (n > 1) variance <- variance + deaths * share * (1 - share) * (n - deaths) / (n - 1)
  }
  keep(name, "mantel-byar", c("expected", "variance"), c(expected, variance))
  keep(name, "mantel-byar", "chi2", (sum(s$event[s$x == 1]) - expected)^2 / variance)
  # Who is compared from the start on is compared by R's own log-rank test, too.
  if (all(s$start == 0)) {
    own <- survdiff(Surv(stop, event) ~ x, s)
    stopifnot(all.equal(own$chisq, (sum(s$event[s$x == 1]) - expected)^2 / variance))
  }
  curves <- survfit(Surv(start, stop, event) ~ x, s, conf.type = "log-log")
  for (x in 0:1) {
    group <- c("reference", "exposed")[x + 1]
    p <- summary(curves[x + 1], times = times, extend = TRUE)
    keep(name, paste("survival", group), times, p$surv)
    keep(name, paste("lower", group), times, p$lower)
    keep(name, paste("upper", group), times, p$upper)
    # Those with start < t <= stop. Where patients enter later, summary() of a time between the
    # curve's own counts for the next one, and with it who enters in between.
    at <- sapply(times, function(t) sum(s$x == x & s$start < t & t <= s$stop))
    if (all(s$start == 0)) stopifnot(at == p$n.risk)
    keep(name, paste("at risk", group), times, at)
  }
}

compare("lung", with(na.omit(lung[c("time", "status", "sex", "age", "ph.ecog")]), data.frame(
  id = seq_along(time), time = time, event = status - 1, phase = ifelse(sex == 2, 0, NA),
  age = age, ecog = ph.ecog)), c(100, 200, 361, 500, 700), c("age", "ecog"))
compare("veteran", with(veteran, data.frame(
  id = seq_along(time), time = time, event = status, phase = ifelse(trt == 2, 0, NA),
  karno = karno, cell = as.character(celltype))), c(25, 51, 100, 200, 378), c("karno", "cell"))
# The liver found enlarged at a visit; who gets a new liver is censored.
first <- by(pbcseq, pbcseq$id, function(p) with(p, data.frame(
  id = id[1], time = futime[1], event = as.integer(status[1] == 2),
  phase = if (any(hepato == 1, na.rm = TRUE)) min(day[which(hepato == 1)]) else NA,
  age = age[1], drug = trt[1])))
compare("pbcseq", do.call(rbind, first), c(365, 1000, 2000, 3000, 4000), c("age", "drug"))
# Progression to a plasma cell malignancy, then death; months.
compare("mgus2", with(mgus2, data.frame(
  id = id, time = futime, event = death, phase = ifelse(pstat == 1, ptime, NA),
  age = age, male = as.integer(sex == "M"))), c(12, 60, 120, 240, 300), c("age", "male"))
compare("rotterdam", with(rotterdam, data.frame(
  id = pid, time = dtime, event = death, phase = ifelse(recur == 1, rtime, NA),
  age = age, nodes = nodes)), c(365, 1000, 2000, 4000, 5000), c("age", "nodes"))
# The first serious infection.
compare("cgd", with(cgd[cgd$enum == 1, ], data.frame(
  id = id, time = tstop, event = status, phase = ifelse(treat == "rIFN-g", 0, NA),
  age = age, steroids = steroids)), c(50, 100, 200, 300, 380), c("age", "steroids"))
h <- by(heart, heart$id, function(p) with(p, data.frame(
  id = as.integer(as.character(id[1])), time = max(stop), event = max(event),
  phase = if (any(transplant == 1)) start[transplant == 1] else NA,
  age = age[1], surgery = surgery[1])))
compare("heart", do.call(rbind, h), c(10, 50, 100, 500, 1000), c("age", "surgery"))

# Illness and death: Aalen-Johansen.
occupancy <- function(name, d, times) {
  late <- !is.na(d$phase)
  rows <- rbind(
    with(d[!late, ], data.frame(id, start = 0, stop = time, to = 2 * event)),
    with(d[late, ], data.frame(id, start = 0, stop = phase, to = 1)),
    with(d[late, ], data.frame(id, start = phase, stop = time, to = 2 * event)))
  rows$to <- factor(rows$to, 0:2, c("none", "ill", "dead"))
  p <- summary(survfit(Surv(start, stop, to) ~ 1, rows, id = id), times = times)$pstate
  for (state in 1:3) keep(name, paste("occupancy", c("well", "ill", "dead")[state]), times, p[, state])
}
occupancy("mgus2", read.csv("mgus2.csv"), c(12, 60, 120, 240, 300))
occupancy("rotterdam", read.csv("rotterdam.csv"), c(365, 1000, 2000, 4000, 5000))
write.csv(do.call(rbind, golden), "golden.csv", row.names = FALSE, quote = FALSE)
