"""Hone specialises a dense retriever to one corpus and proves that it is better there."""

__version__ = "0.1.0"
