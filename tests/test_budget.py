"""Batches fit, and where they do not, half as many tokens do: with the same results."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from drafting import together
from hone.backends.budget import FEWEST, SOON, Budget, kept_together, token_batches
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.generators.causal_lm import CausalLM
from hone.backends.shared_prefix import Batch
from hone.backends.teachers.pair_models import PairModel, padded_length, steady_batches
from hone.backends.teachers.settings import OneTeacher
from hone.errors import UserError
from hone.stages.generate.language_model import LanguageModel

WORDS = ["heat", "wing", "flow"]
TEXTS = ["wing " * count for count in (1, 90, 3, 30, 2, 60, 12, 7, 40, 5)]
FAULTS: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    lambda: MemoryError("Unable to allocate 3.2 GiB for an array"),
]


class Small:
    """A model on a machine that holds no more than `most` tokens at once."""

    def __init__(self, model: Any, most: int, fault: Callable[[], Exception]) -> None:
        self.model, self.config, self.most, self.fault, self.refused = model, model.config, most, fault, 0

    def __call__(self, **inputs: Any) -> Any:
        if inputs["input_ids"].numel() > self.most:
            self.refused += 1
            raise self.fault()
        return self.model(**inputs)


@given(st.integers(1, 10**11), st.integers(1, 8_192))
def test_what_a_processor_made_is_kept_the_sooner_the_more_work_a_text_is(weights: int, tokens: int) -> None:
    def kept(device: str, more: int = 1) -> int:
        model = SimpleNamespace(device=torch.device(device), num_parameters=lambda exclude_embeddings: more * weights)
        return kept_together(model, tokens, 4_096)

    count = kept("cpu")
    assert kept("cpu", 2) <= count <= kept("cuda") == 4_096
    assert count in (4_096, FEWEST) or 2 * weights * tokens * count <= SOON < 4 * weights * tokens * count
    assert kept("cpu") & (kept("cpu") - 1) == 0


@given(st.lists(st.integers(1, 60)), st.integers(1, 200))
def test_batches_hold_every_row_once_and_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    for cut, padded, least in ((token_batches, int, 1), (steady_batches, padded_length, 4)):
        batches = list(cut(lengths, budget))
        assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
        for rows in batches:
            assert len(rows) <= least or len(rows) * max(padded(lengths[row]) for row in rows) <= budget


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(60, 400), st.integers(60, 400))
def test_rows_are_worked_on_once_whatever_fits(lengths: list[int], tokens: int, most: int) -> None:
    done: list[int] = []

    def work(rows: list[int]) -> None:
        if len(rows) * max(lengths[row] for row in rows) > most:
            raise MemoryError
        done.extend(rows)

    budget = Budget(tokens)
    budget.each(lengths, work)
    assert sorted(done) == list(range(len(lengths)))
    assert budget.tokens == tokens or 2 * budget.tokens + 1 >= most or min(lengths) * 2 >= budget.tokens


@pytest.mark.parametrize("fault", FAULTS)
def test_an_encoder_that_runs_out_of_memory_gives_the_same_vectors_with_fewer_tokens_at_once(
    tmp_path: Path, fault: Callable[[], Exception]
) -> None:
    folder = tiny.student(tmp_path / "m", vocab_texts=WORDS)
    expected = Encoder(folder, Student(model=str(folder))).docs(TEXTS)
    encoder = Encoder(folder, Student(model=str(folder)), token_budget=2_000)
    encoder.model = small = Small(encoder.model, 300, fault)
    np.testing.assert_allclose(encoder.docs(TEXTS), expected, atol=1e-5)
    assert (small.refused, encoder.budget.tokens) == (2, 256)
    encoder.docs(TEXTS)
    assert small.refused == 2  # what was learned is kept


def test_a_teacher_that_runs_out_of_memory_gives_the_same_bits(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "m", labels=1, vocab_texts=WORDS)
    settings = OneTeacher(model=str(folder))
    expected = PairModel(settings, folder, 4_096).score_pairs(["heat"] * 200, TEXTS * 20)
    teacher = PairModel(settings, folder, 4_096)
    teacher.model = small = Small(teacher.model, 600, FAULTS[0])
    np.testing.assert_array_equal(teacher.score_pairs(["heat"] * 200, TEXTS * 20), expected)
    assert (small.refused, teacher.budget.tokens) == (1, 512)


def test_a_generator_that_runs_out_of_memory_gives_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.llama(tmp_path / "m", words=WORDS)
    backend = CausalLM(folder, LanguageModel(max_new_tokens=6, precision="fp32"))
    prompts = [f"<|user|>{text}<|end|><|assistant|>" for text in TEXTS]
    expected = together(backend.generate(prompts, range(len(TEXTS))))
    refused, sample = [], CausalLM._sample

    def scarce(self: CausalLM, batch: Batch, seeds: list[int]) -> list[list[int]]:
        if len(batch.rows) > 3:
            refused.append(len(batch.rows))
            raise FAULTS[0]()
        return sample(self, batch, seeds)

    monkeypatch.setattr(CausalLM, "_sample", scarce)
    assert together(backend.generate(prompts, range(len(TEXTS)))) == expected
    assert refused


def test_a_single_text_that_does_not_fit_is_refused_and_other_faults_go_through() -> None:
    def scarce(rows: list[int]) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="16 tokens at once do not fit into memory; lower the limit of tokens a text"):
        Budget(64).each([16, 16], scarce)

    def broken(rows: list[int]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Budget(64).each([16, 16], broken)


def test_a_step_may_be_tried_whole_again() -> None:
    tried = []

    def step(tokens: int) -> str:
        tried.append(tokens)
        if tokens > 30:
            raise torch.OutOfMemoryError
        return "done"

    budget = Budget(100)
    assert (budget.fitting(step), tried, budget.tokens) == ("done", [100, 50, 25], 25)
