# Makes recurring_rows.csv, recurring_stays.csv, recurring_patients.csv and recurring_golden.csv
# beside it: states that come again, from the data of R's survival (LGPL >= 2) and made up.
# Run here: Rscript recurring.R        (R 4.2, survival 3.5-3)
library(survival)

golden <- list()
keep <- function(data, what, key, value) {
  golden[[length(golden) + 1]] <<- data.frame(
    data = data, what = what, key = key, value = sprintf("%.17g", as.numeric(value)))
}

exact <- coxph.control(eps = 1e-12, toler.chol = 1e-14, iter.max = 50)
# Events and time by interval and state, and Cox models.
count <- function(name, rows, cuts, exposed, reference = NULL) {
  rows$state <- factor(rows$state)
  s <- survSplit(Surv(start, stop, event) ~ ., rows, cut = cuts, episode = "interval")
  time <- tapply(s$stop - s$start, list(s$interval, s$state), sum)
  events <- tapply(s$event, list(s$interval, s$state), sum)
  years <- pyears(Surv(stop - start, event) ~ factor(interval) + state, s, scale = 1)
  stopifnot(all.equal(c(years$pyears), c(ifelse(is.na(time), 0, time))),
            all.equal(c(years$event), c(ifelse(is.na(events), 0, events))))
  for (i in rownames(time)) for (j in colnames(time)) if (!is.na(time[i, j])) {
    keep(name, "time", paste0(as.integer(i) - 1, "|", j), time[i, j])
    keep(name, "events", paste0(as.integer(i) - 1, "|", j), events[i, j])
  }
  rows$on <- as.integer(rows$state == exposed)
  f <- coxph(Surv(start, stop, event) ~ on, rows, ties = "breslow", control = exact)
  keep(name, "cox", c("estimate", "se"), c(coef(f), sqrt(vcov(f))))
  keep(name, "cox", c("lower", "upper"), summary(f)$conf.int[1, 3:4])
  if (!is.null(reference)) {
    rows$state <- relevel(rows$state, reference)
    f <- coxph(Surv(start, stop, event) ~ state, rows, ties = "breslow", control = exact)
    names <- sub("^state", "", names(coef(f)))
    keep(name, "effect", names, coef(f))
    for (i in seq_along(names)) keep(name, "covariance", paste0(names[i], "|", names), vcov(f)[i, ])
  }
}

# A day's state for each day of follow-up, put together where it goes on.
rows_of_days <- function(id, time, event, state) {
  runs <- rle(state)
  stop <- cumsum(runs$lengths)
  n <- length(stop)
  data.frame(id = id, start = c(0, stop[-n]), stop = stop,
             event = c(rep(0, n - 1), event), state = runs$values)
}

# The third infection; for 60 days after each of the first two a patient has had one lately.
cgd_rows <- do.call(rbind, by(cgd, cgd$id, function(p) {
  third <- p$tstop[p$status == 1][3]
  time <- if (is.na(third)) max(p$tstop) else third
  day <- seq_len(time)
  infected <- p$tstop[p$status == 1 & p$tstop < time]
  recent <- rep(FALSE, time)
  for (t in infected) recent <- recent | (day > t & day <= t + 60)
  past <- day > min(c(infected, Inf))
  rows_of_days(p$id[1], time, as.integer(!is.na(third)),
               ifelse(recent, "recent", ifelse(past, "off treatment", "before recent")))
}))
# Bilirubin above 2 at the visit before; death, and a new liver censors.
pbcseq_rows <- do.call(rbind, by(pbcseq, pbcseq$id, function(p) {
  p <- p[p$day < p$futime, ]
  visit <- findInterval(seq_len(p$futime[1]) - 1, p$day)
  high <- p$bili[visit] > 2
  past <- cumsum(high) > 0
  rows_of_days(p$id[1], p$futime[1], as.integer(p$status[1] == 2),
               ifelse(high, "high", ifelse(past, "off treatment", "before high")))
}))
heart_rows <- data.frame(id = heart$id, start = heart$start, stop = heart$stop, event = heart$event,
  state = ifelse(heart$transplant == 1, "transplanted", "before transplanted"))

count("cgd", cgd_rows, c(60, 150, 270), "recent")
count("pbcseq", pbcseq_rows, c(200, 1000, 2500, 4000), "high")
count("heart", heart_rows, c(16, 50, 100, 400), "transplanted")
rows <- rbind(cbind(data = "cgd", cgd_rows), cbind(data = "pbcseq", pbcseq_rows),
              cbind(data = "heart", heart_rows))
write.csv(rows, "recurring_rows.csv", row.names = FALSE, quote = FALSE)

# Made up: stays in days, and what each day is in.
set.seed(21)
whole <- function(n, low, high) low + floor(runif(n) * (high - low + 1))
n <- 160
patients <- data.frame(id = seq_len(n), time = whole(n, 15, 200), died = as.integer(whole(n, 0, 3) > 0))
stays_of <- function(i, set) {
  begin <- whole(1, 0, 20)
  if (set == "cycles") {  # up to 5 cycles, 20 days on and 15 off
    k <- 0:whole(1, 0, 4)
    s <- data.frame(from = begin + 35 * k, to = begin + 35 * k + 20, drug = "a")
    if (i %% 5 == 0) s <- s[0, ]
  } else if (set == "overlaps") {
    from <- begin + c(0, 12, 50, 58, 90)
    s <- data.frame(from = from, to = from + whole(5, 6, 30), drug = c("a", "b", "a", "b", "a"))
    s <- s[seq_len(whole(1, 0, 5)), ]
    # A stay of one drug does not overlap with the next one of it.
    for (k in seq_len(nrow(s))) {
      later <- s$from[s$drug == s$drug[k] & s$from > s$from[k]]
      s$to[k] <- min(s$to[k], later)
    }
  } else {  # any order, at once and after gaps
    length <- whole(5, 5, 30)
    to <- begin + cumsum(length + 6 * c(0, whole(4, 0, 2)))
    s <- data.frame(from = to - length, to = to, drug = c("a", "b", "c")[whole(5, 1, 3)])
    s <- s[seq_len(whole(1, 0, 5)), ]
  }
  s <- s[s$from < patients$time[i], , drop = FALSE]
  if (nrow(s)) cbind(set = set, id = i, s) else NULL
}
made <- list()
for (set in c("cycles", "overlaps", "any")) {
  stays <- do.call(rbind, lapply(seq_len(n), stays_of, set = set))
  made[[set]] <- stays
  state_of <- function(i, how) {
    day <- seq_len(patients$time[i])
    inside <- function(drug) {
      s <- stays[stays$id == i & stays$drug == drug, ]
      found <- rep(FALSE, length(day))
      for (k in seq_len(nrow(s))) found <- found | (day > s$from[k] & day <= s$to[k])
      found
    }
    a <- inside("a"); b <- inside("b"); c <- inside("c")
    first <- if (how == "cycles") "before a" else "before any phase"
    state <- ifelse(cumsum(a | b | c) > 0, "off treatment", first)
    state[c] <- "c"; state[a] <- "a"; state[b] <- "b"  # b holds where both are
    if (how == "named") state[a & b] <- "both"
    state
  }
  hows <- if (set == "overlaps") c("priority", "named") else set
  for (how in hows) {
    rows <- do.call(rbind, lapply(seq_len(n), function(i) rows_of_days(
      i, patients$time[i], patients$died[i], state_of(i, how))))
    reference <- switch(how, cycles = NULL, "b")
    count(how, rows, c(20, 45, 100, 180), "a", reference)
  }
}
write.csv(do.call(rbind, made), "recurring_stays.csv", row.names = FALSE, quote = FALSE)
write.csv(patients, "recurring_patients.csv", row.names = FALSE, quote = FALSE)
write.csv(do.call(rbind, golden), "recurring_golden.csv", row.names = FALSE, quote = FALSE)
