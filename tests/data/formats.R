# Made stanford_jasa1.sas7bdat from stanford_jasa1.csv (R 4.2, haven).
library(haven)
d <- read.csv("stanford_jasa1.csv", na.strings = "")
write_sas(d, "stanford_jasa1.sas7bdat")
