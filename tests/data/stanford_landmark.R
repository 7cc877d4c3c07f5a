# Gave the landmark numbers of tests/test_ladder.py (R 4.2, survival 3.5-3).
library(survival)
h <- heart
h$id <- as.integer(h$id)
h$transplant <- as.integer(as.character(h$transplant))
last <- h[!duplicated(h$id, fromLast = TRUE), ]
start <- with(subset(h, transplant == 1), tapply(start, id, min))
last$begin <- as.numeric(start[as.character(last$id)])
k <- subset(last, stop > 30)
k$now <- as.integer(!is.na(k$begin) & k$begin <= 30)
f <- coxph(Surv(rep(30, nrow(k)), stop, event) ~ now, k)
print(c(nrow(k), sum(k$event), exp(coef(f))))
