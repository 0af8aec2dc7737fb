"""The report: what was found, for people (HTML, Markdown, a terminal table)."""

from hone.report.table import before_after

__all__ = ["before_after"]
