# Gave the counts of tests/test_account.py (R 4.2, survival 3.5-3).
library(survival)
e <- read.csv("stanford_jasa1.csv")
count <- function(s, e) attr(tmerge(s, e, id = id, trt = tdc(transplant_day)), "tcount")
print(count(tmerge(e[, 1:2], e, id = id, tstop = days), e))
# cut points first
s <- tmerge(e[, 1:2], e, id = id, tstop = days)
cuts <- do.call(rbind, lapply(c(30, 60, 90, 180, 365, 730), function(k) data.frame(id = e$id, k = k)))
print(count(tmerge(s, cuts, id = id, n = cumtdc(k)), e))
# entry at 5 days
d <- subset(e, days > 5)
d$five <- 5
print(count(tmerge(d[, 1:2], d, id = id, tstart = five, tstop = days), d))
# follow-up ends at 100 days
print(count(tmerge(e[, 1:2], e, id = id, tstop = pmin(days, 100)), e))
