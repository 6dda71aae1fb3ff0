"""The reports of a run and of a data set: each one HTML file that needs neither network nor scripts."""

from siimdet.report.contents import DetectorRow, RunReport
from siimdet.report.html import write_report

__all__ = ["DetectorRow", "RunReport", "write_report"]
