"""Results of a study in a folder, and the report that tells them in one HTML file."""

from bayesblina.report.folder import write_report as write_report
from bayesblina.report.page import REPORT as REPORT
from bayesblina.report.page import render as render
from bayesblina.report.results import Analysis as Analysis
from bayesblina.report.results import Curves as Curves
from bayesblina.report.results import Results as Results
from bayesblina.report.results import analyse as analyse
from bayesblina.report.results import make_record as make_record
from bayesblina.report.results import read_results as read_results
from bayesblina.report.results import write_tables as write_tables
