"""One process with vLLM's CPU build: generates for a small corpus, scores a few pairs and prints what it found as JSON.

python tests/vllm_on_cpu.py FOLDER
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}

import tiny
from drafting import corpus, prepared, requests, together
from hone.backends.generators.answers import Answer
from hone.backends.generators.vllm_engine import VLLM
from hone.backends.teachers.pair_models import PairModel
from hone.backends.teachers.query_likelihood import QueryLikelihood
from hone.backends.teachers.settings import OneTeacher
from hone.backends.teachers.vllm_likelihood import VLLMLikelihood
from hone.backends.teachers.vllm_scores import VLLMScores
from hone.engine.execute import execute
from hone.engine.plan import plan
from hone.errors import UserError
from hone.scratch import scratch_folder
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.settings import Config
from hone.storage.local import LocalStore

EXACT = {"prefix_cache_queries", "prefix_cache_hits"}


def main(folder: Path) -> dict[str, Any]:
    model = tiny.llama(folder / "llama", dim=128)
    return {
        **through_the_stage(folder, model), **by_hand(model), "scores": scores(folder), "refusal": refusal(model),
    }  # fmt: skip


def through_the_stage(folder: Path, model: Path) -> dict[str, Any]:
    """A run, and one that is paid already but cleans otherwise."""
    store = LocalStore(folder / "store")
    inputs = prepared(store, corpus(40))
    llm = {"model": str(model), "max_new_tokens": 8, "batch": 64, "layout": "guide"}
    costs, drafts = [], []
    for min_words in (1, 2):
        with scratch_folder() as scratch:
            config = Config(sources=("vllm",), llm=LanguageModel(**llm), min_words=min_words)
            manifest, _ = execute(plan("generate", config, inputs, scratch), store, scratch)
        costs.append(manifest.cost)
        drafts.append(sum(output.rows for output in manifest.outputs.values()))
    return {"costs": costs, "drafts": drafts}


def by_hand(model: Path) -> dict[str, Any]:
    """The same prompts twice, the second time backwards, a long one among them."""
    backend = VLLM(model, LanguageModel(max_new_tokens=8, max_doc_tokens=100_000))
    prompts = [backend.prompt(request) for request in requests(9)]
    prompts.append(backend.prompt(next(requests(1, doc="flutter " * 4_000))))
    seeds = list(range(10))
    first = answers(backend, prompts, seeds)
    again = answers(backend, prompts[::-1], seeds[::-1])[::-1]
    other = answers(backend, prompts, seeds[::-1])
    counted = {
        metric.name.removeprefix("vllm:"): getattr(metric, "value", 0) for metric in backend.engine.get_metrics()
    }
    some = together(backend.generate(prompts, seeds, wanted={2, 5}))
    return {
        "lengths": [answer.prompt_tokens for answer in first],
        "expected": [len(ids) for ids in backend.chat.tokens(prompts)],
        "context": backend.chat.context,
        "repeatable": texts(first) == texts(again),
        "wanted": {at: answer.text == first[at].text for at, answer in some.items()} == {2: True, 5: True},
        "seeded": texts(first) != texts(other),
        "cached": sum(answer.cached_tokens for answer in [*first, *again, *other]),
        "statistics": {name: counted[name] for name in sorted(EXACT)},
        "new_tokens": [answer.new_tokens for answer in first],
    }


def refusal(model: Path) -> str:
    """What the user reads where vLLM itself refuses a setting: four heads cannot be divided among three GPUs."""
    try:
        return str(VLLM(model, LanguageModel(tensor_parallel=3)).engine)
    except UserError as error:
        return str(error)


def scores(folder: Path) -> dict[str, Any]:
    """What vLLM and transformers say of the same pairs, a long one and an empty one among them; the longest input."""
    docs = ["heat", "a wing in a slip stream " * 9, "shock waves and flow", "", "the stall of wings " * 300]
    queries = ["heat flow", "a wing", "shock waves in nozzles", "heat flow", "stall"]
    bert = tiny.bert(folder / "bert", dim=128, labels=1, vocab_texts=docs)
    qwen3 = tiny.qwen3(folder / "qwen3", words=["yes", "no"])
    found: dict[str, Any] = {}
    for kind, same, model in (("vllm", "cross_encoder", bert), ("vllm_yes_no", "yes_no", qwen3)):
        ours = VLLMScores(OneTeacher(kind=kind, model=str(model)), model, 1_024)
        theirs = PairModel(OneTeacher(kind=same, model=str(model)), model, 1_024)
        longest = max(len(row["input_ids"]) for row in ours.kind.encode(ours, queries, docs))
        pairs = [teacher.score_pairs(queries, docs).tolist() for teacher in (ours, theirs)]
        found[kind] = {
            "vllm": pairs[0],
            "transformers": pairs[1],
            "longest": longest,
            "none": len(ours.score_pairs([], [])),
        }
    llama = tiny.llama(folder / "judge", dim=128)
    settings = OneTeacher(kind="vllm_query_likelihood", model=str(llama), max_tokens=400)
    twins = VLLMLikelihood(settings, llama, 1_024), QueryLikelihood(settings, llama, 1_024)
    pairs = [teacher.score_pairs(queries, docs).tolist() for teacher in twins]
    found["vllm_query_likelihood"] = {"vllm": pairs[0], "transformers": pairs[1]}
    return found


def answers(backend: VLLM, prompts: list[str], seeds: list[int]) -> list[Answer]:
    found = together(backend.generate(prompts, seeds))
    return [found[at] for at in range(len(prompts))]


def texts(answers: list[Answer]) -> list[str]:
    return [answer.text for answer in answers]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
