"""From drafts to rows: every one is judged, and written as kept or as dropped with its reason."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from hone import tables
from hone.context import Job
from hone.core.query_text import comparable
from hone.core.rejection import Rejection, note_drop
from hone.inputs import readers
from hone.stages.generate.cleaning import Cleaner, Draft, Rules
from hone.stages.generate.settings import Config

DRAFTS_AT_ONCE = 1_024


def rules_of(config: Config, job: Job) -> Rules:
    """The limits that the settings set, blocked words read from their file."""
    file = config.clean.blocked_words
    blocked = (comparable(line) for _, line in readers.lines(job.source(file))) if file else ()
    return Rules(
        config.min_words,
        config.max_words,
        config.llm.max_copied_words,
        check_language=config.clean.wrong_language,
        language=config.llm.language,
        blocked=frozenset(filter(None, blocked)),
        personal_data=config.clean.personal_data,
    )


def write(job: Job, number: int, cleaner: Cleaner, drafts: Iterable[Draft]) -> None:
    """Judges the drafts of one bucket and writes its rows. Duplicates are looked for within the bucket."""
    waiting = iter(drafts)
    with job.writer("queries", number) as queries, job.writer("dropped_by_generate", number) as dropped:
        while block := list(islice(waiting, DRAFTS_AT_ONCE)):
            judged = [(draft, cleaner.check(draft)) for draft in block]
            for draft, fault in judged:
                _note(job, draft, fault)
            kept = [_query(draft) for draft, fault in judged if fault is None]
            queries.write(tables.QUERIES.build(kept))
            lost = [(draft.query_id, fault.reason, fault.detail) for draft, fault in judged if fault is not None]
            dropped.write(tables.dropped("generate", lost))
            job.cost["queries"] += len(kept)


def _query(draft: Draft) -> dict[str, object]:
    return {
        "query_id": draft.query_id,
        "text": draft.text,
        "doc_id": draft.doc_id,
        "source": draft.source,
        "style": draft.style,
    }


def _note(job: Job, draft: Draft, fault: Rejection | None) -> None:
    """Counts a draft in the facts: kept or dropped, by source and style."""
    if fault is not None:
        return note_drop(job.facts, draft.source, draft.style, fault)
    kept = job.facts.setdefault("kept", {}).setdefault(draft.source, {})
    kept[draft.style] = kept.get(draft.style, 0) + 1
    return None


def none_kept(facts: Mapping[str, Any]) -> str:
    """Why generate kept no query at all: the three most frequent reasons, and an example."""
    counts, examples = Counter[str](), list[str]()
    for styles in facts.get("dropped", {}).values():
        for reasons in styles.values():
            counts.update({reason: found["count"] for reason, found in reasons.items()})
            examples += (example for found in reasons.values() for example in found["examples"])
    if not counts:
        return "its sources gave no drafts"
    said = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common(3))
    return f"all {counts.total():,} drafts were dropped: {said}, such as {examples[0][:80]!r}"
