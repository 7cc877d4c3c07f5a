# Gave the numbers that README.md and docs/decisions/0008-the-walks-clock.md compare with
# (R 4.2, survival 3.5-3): a free baseline under the default cut points, and a Cox model.
library(survival)
h <- heart
h$id <- as.integer(h$id)
h$transplant <- as.integer(as.character(h$transplant))
cuts <- c(3, 6, 16, 21, 35, 40, 53, 68, 78, 96, 153, 219, 334, 733)
s <- survSplit(Surv(start, stop, event) ~ transplant + age + surgery + id, h, cut = cuts, episode = "interval")
s$time <- s$stop - s$start
f <- glm(event ~ transplant + age + surgery + factor(interval) + offset(log(time)), poisson, s)
print(exp(coef(f)["transplant"]))
print(summary(coxph(Surv(start, stop, event) ~ transplant + age + surgery, h))$conf.int["transplant", ])
# The mistake: ever against never.
h$ever <- ave(h$transplant, h$id, FUN = max)
print(exp(coef(coxph(Surv(start, stop, event) ~ ever, h))))
