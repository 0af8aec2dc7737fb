"""The report: what was found, for people (HTML, Markdown, a terminal table)."""
