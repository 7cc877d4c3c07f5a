library(survival)
library(pammtools)
patients <- read.csv("../../../tests/data/stanford_jasa1.csv")

# Its own kind of data: one row per patient and interval, with the state that changes.
base <- data.frame(id = patients$id, time = patients$days, status = patients$died)
never <- data.frame(id = patients$id, tz = 0, transplant = 0)
started <- subset(patients, !is.na(transplant_day))
changes <- rbind(never, data.frame(id = started$id, tz = started$transplant_day, transplant = 1))
changes <- changes[order(changes$id, changes$tz), ]
# A transplant on day 0 replaces the state before it.
changes <- changes[!duplicated(changes[c("id", "tz")], fromLast = TRUE), ]

cuts <- c(0, 30, 60, 90, 180, 365, 730, max(patients$days))
ped <- as_ped(list(base, changes), Surv(time, status) ~ concurrent(transplant, tz_var = "tz"),
              id = "id", cut = sort(unique(c(cuts, started$transplant_day))))
ped$interval_of <- cut(ped$tend, cuts)

# Constant hazards between the cut points, and a smooth baseline.
constant <- pamm(ped_status ~ interval_of + transplant, data = ped)
smooth <- pamm(ped_status ~ s(tend) + transplant, data = ped)
numbers <- c(
  constant_log_hr = unname(coef(constant)["transplant"]),
  constant_se = sqrt(vcov(constant)["transplant", "transplant"]),
  smooth_log_hr = unname(coef(smooth)["transplant"]),
  smooth_se = sqrt(vcov(smooth)["transplant", "transplant"])
)
write.csv(data.frame(name = names(numbers), value = numbers), "pammtools.csv", row.names = FALSE, quote = FALSE)
