"""Which lists a step takes: each once an epoch, by chance or by what they share."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hone.backends.training.batches import (
    LEAST_NEAR,
    NEAR,
    POOLED_FROM_EACH,
    Example,
    by_domain,
    cluster,
    domain_of,
    epochs,
    first_of_each,
    make_batch,
    one_domain_each,
    pooled,
)
from hone.backends.training.schedule import steps_per_epoch
from twin import lists


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.integers(0, 9), st.booleans())
@settings(deadline=None, max_examples=60)
def test_an_epoch_takes_every_list_once_and_the_next_one_in_another_order(
    count: int, docs: int, wanted: int, seed: int, clustered: bool
) -> None:
    examples = lists(count, docs, seed=seed)
    steps = steps_per_epoch(count, wanted, min_steps=3)
    batches = epochs(examples, steps, seed, clustered=clustered)
    for _ in range(2):
        epoch = [next(batches) for _ in range(steps)]
        assert sorted(np.concatenate(epoch).tolist()) == list(range(count))
        sizes = sorted(map(len, epoch))
        assert 0 < sizes[0] >= sizes[-1] - 1
        assert sizes[-1] <= wanted
    again = epochs(examples, steps, seed, clustered=clustered)
    other = epochs(examples, steps, seed, clustered=clustered)
    assert all(np.array_equal(next(again), next(other)) for _ in range(5))


@given(st.integers(2, 25), st.integers(1, 10), st.integers(2, 6), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_clustering_is_the_greedy_choice_by_fewest_added_passages(count: int, docs: int, size: int, seed: int) -> None:
    examples = lists(count, docs, seed=seed)
    order = np.random.default_rng(seed).permutation(count)
    parts = np.array_split(order, -(-count // size))
    sizes = [len(part) for part in parts]
    assert [batch.tolist() for batch in cluster(examples, parts)] == greedy(examples, order.tolist(), sizes)


def greedy(examples: Sequence[Example], left: list[int], sizes: Sequence[int]) -> list[list[int]]:
    batches: list[list[int]] = []
    for size in sizes:
        batch = [left.pop(0)]
        inside = set(examples[batch[0]].passages.tolist())
        while len(batch) < size:
            nearest = min(left, key=lambda number: len(set(examples[number].passages.tolist()) - inside))
            left.remove(nearest)
            batch.append(nearest)
            inside |= set(examples[nearest].passages.tolist())
        batches.append(batch)
    return batches


def test_clustered_batches_hold_fewer_distinct_passages() -> None:
    random = np.random.default_rng(0)
    topics = [random.permutation(np.arange(10) + 10 * topic)[:5] for topic in list(range(20)) * 10]
    examples = [Example(200 + at, passages, np.ones(5, np.float32)) for at, passages in enumerate(topics)]
    distinct = []
    for clustered in (False, True):
        order = epochs(examples, 10, 1, clustered=clustered)
        distinct.append(
            sum(make_batch([examples[at] for at in next(order)], torch.device("cpu")).passages for _ in range(10))
        )
    assert distinct[1] < 0.3 * distinct[0]


@given(st.integers(1, 25), st.integers(2, 60), st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_a_pooled_step_asks_queries_near_a_pool_of_documents_about_all_of_it_that_they_list(
    count: int, docs: int, passages: int, queries: int, seed: int
) -> None:
    examples = lists(count, docs, seed=seed)
    steps = list(islice(pooled(examples, passages, queries, seed), 6))
    for step, (inside, asked) in zip(steps, pools(examples, passages, queries, seed), strict=False):
        assert [one.query for one in step] == [examples[number].query for number in asked]
        assert len(inside) < passages + POOLED_FROM_EACH
        assert len(asked) == len(set(asked)) <= queries
        for one, number in zip(step, asked, strict=True):
            whole = examples[number]
            left = [place for place, passage in enumerate(whole.passages) if passage in inside]
            assert one.passages.tolist() == whole.passages[left].tolist()
            assert one.scores.tolist() == whole.scores[left].tolist()
            assert one.likely == whole.likely


def pools(examples: Sequence[Example], passages: int, queries: int, seed: int) -> Iterator[tuple[set[int], list[int]]]:
    """The passages and the list numbers of each step, by going through all lists for each."""
    random, order = np.random.default_rng(seed), list[int]()
    while True:
        inside, drawn = set[int](), list[int]()
        while len(inside) < passages and len(drawn) < min(queries, len(examples)):
            order = order or random.permutation(len(examples)).tolist()
            number = order.pop(0)
            drawn += [] if number in drawn else [number]
            inside |= set(examples[number].passages[:POOLED_FROM_EACH].tolist())
        near = [len(inside & set(one.passages[:NEAR].tolist())) >= LEAST_NEAR for one in examples]
        others = [number for number in range(len(examples)) if near[number] and number not in drawn]
        yield inside, drawn + random.permutation(others).astype(int).tolist()[: queries - len(drawn)]


def test_a_pooled_step_asks_more_of_each_document_that_it_encodes() -> None:
    random = np.random.default_rng(0)
    topics = [random.permutation(np.arange(30) + 30 * topic) for topic in list(range(20)) * 10]
    examples = [Example(600 + at, passages, np.ones(30, np.float32)) for at, passages in enumerate(topics)]
    whole = make_batch([examples[at] for at in next(epochs(examples, 50, 1))], torch.device("cpu"))
    pool = make_batch(next(pooled(examples, whole.passages, 256, 1)), torch.device("cpu"))
    assert pool.passages <= whole.passages + POOLED_FROM_EACH
    assert pool.listed > 4 * whole.listed


def stream(name: str) -> Iterator[Sequence[Example]]:
    """Steps that say how many of this domain came before."""
    return ([Example(at, np.array([0]), np.ones(1, np.float32), domain=name)] for at in itertools.count())


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 100), min_size=1), st.integers(0, 9), st.data())
def test_a_step_takes_the_next_lists_of_one_domain_that_depends_on_seed_and_step_alone(
    weights: dict[str, float], seed: int, data: st.DataObject
) -> None:
    steps = list(islice(one_domain_each({name: stream(name) for name in weights}, weights, seed), 60))
    assert [step[0].domain for step in steps] == [domain_of(at, weights, seed) for at in range(60)]
    for name in weights:
        taken = [step[0].query for step in steps if step[0].domain == name]
        assert taken == list(range(len(taken)))
    shuffled = dict(data.draw(st.permutations(list(weights.items()))))
    assert [domain_of(at, shuffled, seed) for at in range(60)] == [step[0].domain for step in steps]


def test_in_the_long_run_a_domain_has_the_share_of_steps_that_its_weight_says() -> None:
    weights = {"it": 2.0, "hr": 1.0, "law": 0.5, "news": 0.0625}
    taken = Counter(domain_of(at, weights, 17) for at in range(40_000))
    for name, weight in weights.items():
        share = weight / sum(weights.values())
        spread = (share * (1 - share) / 40_000) ** 0.5
        assert abs(taken[name] / 40_000 - share) < 4 * spread
    other = [domain_of(at, weights, 18) for at in range(100)]
    assert other != [domain_of(at, weights, 17) for at in range(100)]


def test_a_few_lists_are_the_first_of_each_domain() -> None:
    examples = [replace(one, domain=name) for name in "aab" for one in lists(5, 9)]
    assert [len(own) for own in by_domain(first_of_each(examples, 4)).values()] == [2, 2]
    assert [len(own) for own in by_domain(first_of_each(examples, 14)).values()] == [7, 5]
    assert len(first_of_each(examples, 0)) == 15
    assert first_of_each(lists(5, 9), 3)[0].query == lists(5, 9)[:3][0].query
    assert first_of_each([], 3) == []
