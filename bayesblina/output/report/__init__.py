"""Results of a study in a folder, and the report that tells them in one HTML file."""

from bayesblina.output.report.folder import write_report as write_report
from bayesblina.output.report.page import REPORT as REPORT
from bayesblina.output.report.page import render as render
from bayesblina.output.report.results import Analysis as Analysis
from bayesblina.output.report.results import Curves as Curves
from bayesblina.output.report.results import Results as Results
from bayesblina.output.report.results import analyse as analyse
from bayesblina.output.report.results import make_record as make_record
from bayesblina.output.report.results import read_results as read_results
from bayesblina.output.report.results import write_tables as write_tables
