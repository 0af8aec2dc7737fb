"""The documents' own words as a source of drafts."""

from collections.abc import Iterator

from hone.core import extractive
from hone.progress import Task
from hone.stages.generate.cleaning import Draft
from hone.stages.generate.sample import Doc
from hone.stages.generate.settings import Config
from hone.stages.generate.styles import numbered


def extracts(config: Config, share: float, docs: list[Doc], progress: Task) -> Iterator[Draft]:
    """`share` of the extracts that the settings want of every document; none where it has nothing for a style."""
    counts = {style: count * share for style, count in config.extractive.styles.items()}
    for doc in docs:
        wanted = numbered(counts, config.seed, doc.doc_id)
        for style, number in wanted:
            text = extractive.draw(style, doc.title, doc.text, seed=config.seed, doc_id=doc.doc_id, number=number)
            if text is not None:
                yield Draft("extractive", style, doc.doc_id, text, doc.whole)
        progress.advance(len(wanted))
