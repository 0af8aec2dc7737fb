"""The report: what was found, for people (HTML, Markdown, a terminal table)."""

from hone.report.terminal_table import before_after

__all__ = ["before_after"]
