# Person-time, events and Cox's model by calendar period, with R's survival.
# Rscript tests/data/calendar.R, in the repository. The patients are made up.
library(survival)
patients <- read.csv("tests/data/calendar.csv")
patients$zero <- as.numeric(as.Date(patients$origin))
rows <- tmerge(patients, patients, id = id, died = event(days, died), phase = tdc(start))
cuts <- as.numeric(as.Date(c("2012-01-01", "2016-01-01")))
rows$from <- rows$tstart + rows$zero
rows$to <- rows$tstop + rows$zero
by_period <- survSplit(Surv(from, to, died) ~ ., data = rows, cut = cuts, episode = "period")
by_period$tstart <- by_period$from - by_period$zero
by_period$tstop <- by_period$to - by_period$zero
bare <- by_period[, !(names(by_period) %in% c("from", "to"))]
cells <- survSplit(Surv(tstart, tstop, died) ~ ., data = bare, cut = c(180, 730), episode = "interval")
cells$time <- cells$tstop - cells$tstart
print(aggregate(cbind(time, died) ~ interval + phase + period, data = cells, FUN = sum))
print(pyears(Surv(to - from, died) ~ tcut(from, c(-1e6, cuts, 1e6)) + phase, rows, scale = 1)$pyears)
fit <- coxph(Surv(tstart, tstop, died) ~ phase + age + factor(period), data = by_period)
print(coef(fit), digits = 12)
print(sqrt(diag(vcov(fit))), digits = 12)
print(coef(coxph(Surv(tstart, tstop, died) ~ phase + age, data = by_period)), digits = 12)
print(logLik(fit), digits = 12)
