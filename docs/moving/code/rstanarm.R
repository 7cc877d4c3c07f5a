library(survival)
suppressPackageStartupMessages(library(rstanarm))
patients <- read.csv("../../../tests/data/stanford_jasa1.csv")
rows <- tmerge(patients[c("id", "days", "died")], patients, id = id, tstop = days,
               event = event(days, died), transplant = tdc(transplant_day))
cuts <- c(30, 60, 90, 180, 365, 730)
split <- survSplit(Surv(tstart, tstop, event) ~ transplant, rows, cut = cuts, episode = "interval")
split$time <- split$tstop - split$tstart

# Events and person-time by cell are all that the likelihood needs.
cells <- aggregate(cbind(event, time) ~ transplant + interval, split, sum)
cells$interval <- factor(cells$interval)
wide <- rep(5, nlevels(cells$interval) - 1)
# 95 % of the prior of the hazard ratio between 0.2 and 5; the baseline is all but free.
fit <- stan_glm(event ~ transplant + interval + offset(log(time)), family = poisson, data = cells,
                prior = normal(0, c(log(5) / qnorm(0.975), wide), autoscale = FALSE),
                prior_intercept = normal(log(75 / 31938), 5, autoscale = FALSE),
                chains = 4, iter = 6000, seed = 1, refresh = 0)
draws <- as.matrix(fit)[, "transplant"]
numbers <- c(mean_log_hr = mean(draws), sd_log_hr = sd(draws),
             lower_hr = unname(exp(quantile(draws, 0.025))), upper_hr = unname(exp(quantile(draws, 0.975))),
             probability_below_1 = mean(draws < 0))
write.csv(data.frame(name = names(numbers), value = numbers), "rstanarm.csv", row.names = FALSE, quote = FALSE)
