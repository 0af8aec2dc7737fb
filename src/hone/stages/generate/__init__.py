"""generate: queries to train with, cut from documents, written by a language model, or asked by people.

The sources are the modules `from_*`: each makes drafts, and every draft is judged and becomes a row.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from hone.context import MOST_BUCKETS, Job
from hone.core.hashing import drawn
from hone.core.near_duplicates import NearTexts
from hone.evaluation.test_collections import test_queries
from hone.inputs.references import declared_licence
from hone.progress import Task, task
from hone.stages.generate.cleaning import Cleaner, Draft
from hone.stages.generate.from_documents import extracts
from hone.stages.generate.from_model import ModelAsks
from hone.stages.generate.from_people import People
from hone.stages.generate.outcomes import rules_of, write
from hone.stages.generate.sample import Doc, Sample
from hone.stages.generate.settings import MADE, Config

IMAGE = "train"
READS = ("docs", "judged_queries")
WRITES = ("queries", "dropped_by_generate")

PEOPLE_BUCKET = MOST_BUCKETS


Ask = Callable[[list[Doc], Task], Iterator[Draft]]
"""A source: documents to drafts, reported as progress."""


def run(config: Config, job: Job) -> None:
    """Drafts queries bucket by bucket, checks every draft, and writes what is kept and what is dropped."""
    tests, rules = test_queries(job, (*config.tests, *config.guards)), rules_of(config, job)
    near_tests = NearTexts(tests, config.clean.near_test_query) if config.clean.near_test_query else None
    sample = Sample.draw(job, config.seed, config.max_docs)
    people = People(config, job)
    asked = people.counts()
    shares = shares_of(config.mix, {**asked, **{name: sample.size * n for name, n in config.per_doc.items()}})
    if job.shard.index == 0:
        job.facts["target"] = targets(config, shares, asked, sample.size)
        if config.llm.model and (licence := declared_licence(job.source(config.llm.model))):
            job.facts["licence"] = licence
    look = partial(Cleaner, tests, rules, near_tests)
    asks = [_ask(source, config, job, shares[source], look()) for source in config.per_doc]
    if people.sources and job.shard.index == 0:
        thinned = (one for one in people.drafts() if _taken(one, shares[one.source], config.seed))
        write(job, PEOPLE_BUCKET, Cleaner(tests, rules, near_tests), thinned)
    if not asks:
        return
    total = sum(sample.size * count * shares[source] for source, count in config.per_doc.items())
    by_lot = job.shard.count > 1 or any(
        not (count * shares[source]).is_integer()
        for source in config.per_doc
        for count in config.styles(source).values()
    )
    with task("generate", -(-round(total) // job.shard.count), "drafts", expected=by_lot) as progress:
        for bucket in job.buckets("docs", by="doc_id"):
            docs = list(sample.chosen(bucket.rows))
            drafts = (draft for ask in asks for draft in ask(docs, progress))
            write(job, bucket.number, Cleaner(tests, rules, near_tests), drafts)


def shares_of(mix: Mapping[str, float], drafts: Mapping[str, float]) -> dict[str, float]:
    """The share of its drafts that each source gives: all, or with a `mix` as many as its weight allows while the
    source that is short for its weight gives all it has."""
    if not mix:
        return dict.fromkeys(drafts, 1.0)
    scale = min(count / mix[source] for source, count in drafts.items())
    return {source: scale * mix[source] / max(count, 1) for source, count in drafts.items()}


def targets(
    config: Config, shares: Mapping[str, float], people: Mapping[str, float], docs: int
) -> dict[str, dict[str, int]]:
    """How many queries of each source and style the settings want of so many documents; of people, all they asked."""
    per_doc = {source: config.styles(source) for source in config.per_doc}
    wanted = {source: {style: count * docs for style, count in styles.items()} for source, styles in per_doc.items()}
    wanted |= {source: {source: count} for source, count in people.items()}
    return {
        source: {style: round(count * shares[source]) for style, count in styles.items() if count}
        for source, styles in wanted.items()
    }


def _taken(draft: Draft, share: float, seed: int) -> bool:
    return share >= 1 or drawn(seed, draft.text) < share


def _ask(source: str, config: Config, job: Job, share: float, cleaner: Cleaner) -> Ask:
    if source in MADE:
        return partial(extracts, config, share)
    return ModelAsks(source, config, job, share, cleaner).drafts
