# Made stanford_jasa1.csv and the golden numbers of tests/test_stanford.py (R 4.2, survival 3.5-3).
library(survival)
j <- jasa1
first <- j[!duplicated(j$id),]
last <- j[!duplicated(j$id, fromLast=TRUE),]
tr <- tapply(ifelse(j$transplant==1, j$start, NA), j$id, function(x) if(all(is.na(x))) NA else min(x,na.rm=TRUE))
d <- data.frame(id=last$id, days=last$stop, died=last$event, transplant_day=as.numeric(tr[as.character(last$id)]))
write.csv(d, "stanford_jasa1.csv", row.names=FALSE, na="", quote=FALSE)
cuts <- c(30,60,90,180,365,730)
s <- survSplit(Surv(start,stop,event)~transplant+id, j, cut=cuts, episode="interval")
s$time <- s$stop-s$start
a <- aggregate(cbind(event,time)~interval+transplant, s, sum)
print(a)
f <- glm(event ~ transplant + factor(interval) + offset(log(time)), poisson, s)
print(coef(summary(f))["transplant",])
