# Person-time, adverse events by phase, and the log-rank test, by R alone. R 4.2, survival 3.5-3.
suppressMessages(library(survival))
read <- function(name) read.csv(paste0(name, ".csv"), colClasses = "character")
sl <- subset(read("adsl"), SAFFL == "Y")
sl$zero <- as.Date(sl$TRTSDT)
tte <- subset(read("adtte"), PARAMCD == "OS")
sl$stop <- as.numeric(tte$AVAL[match(sl$USUBJID, tte$USUBJID)])
sl$died <- as.numeric(tte$CNSR[match(sl$USUBJID, tte$USUBJID)] == "0")
ex <- subset(read("adex"), PARAMCD == "DOSE")
start <- function(visit, rows = ex) {
  rows <- rows[rows$VISIT == visit, ]
  days <- tapply(as.Date(rows$ASTDT), rows$USUBJID, min)
  as.numeric(days[sl$USUBJID]) - as.numeric(sl$zero)
}
sl$high <- start("WEEK 2"); sl$end <- start("WEEK 24")
d <- tmerge(sl[c("USUBJID", "ACTARMCD")], sl, id = USUBJID, tstart = 0 * stop, tstop = stop,
            os = event(stop, died), high = tdc(high), end = tdc(end))
d$phase <- ifelse(d$end == 1, "end", ifelse(d$high == 1, "high", "low"))
print(pyears(Surv(tstart, tstop, os) ~ phase, d, scale = 1)[c("pyears", "event", "n")])
ae <- subset(read("adae"), TRTEMFL == "Y")
at <- as.numeric(as.Date(ae$ASTDT)) - as.numeric(sl$zero[match(ae$USUBJID, sl$USUBJID)])
row <- match(ae$USUBJID, sl$USUBJID)
phase <- ifelse(!is.na(sl$end[row]) & at >= sl$end[row], "end",
         ifelse(!is.na(sl$high[row]) & at >= sl$high[row], "high", "low"))
print(table(phase, ae$AESEV))
print(tapply(ae$USUBJID, phase, function(x) length(unique(x))))
# Placebo is a dose of 0: left out, it starts no phase.
none <- ex[as.numeric(ex$EXDOSE) != 0, ]
print(sapply(c("BASELINE", "WEEK 2", "WEEK 24"), function(v) sum(!is.na(start(v, none)))))
