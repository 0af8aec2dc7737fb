"""Models of a local folder that score a query and a document together. A kind is one row of KINDS.

What a pair scores depends on the pair alone. On CPU that is so to the last bit: a batch holds pairs of one padded
length, and its rows are filled up to a multiple of four, since matrix products round differently for odd numbers of
rows. Without it the lists would depend on shards, on early exit and on what a killed run had already scored.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from torch import Tensor

from hone.backends.budget import Budget, kept_together, tokens_at_once
from hone.backends.encoders.declared import usable_folder
from hone.backends.encoders.encoder import check_code, named_faults
from hone.backends.encoders.encoder import positions as positions_of
from hone.backends.precision import torch_dtype
from hone.backends.teachers.first_token import shorten
from hone.backends.teachers.settings import OneTeacher
from hone.errors import UserError
from hone.inputs.references import content_digest

PAIRS_AT_ONCE = 4_096
LENGTH_STEP = 8
ROW_STEP = 4
SAMPLE = (["what is a query"], ["A document of a few words, which is padded."])

Row = dict[str, list[int]]
"""The model's inputs for one pair: token ids and whatever goes with them, all of one length."""


class Reader(Protocol):
    """Whoever reads pairs as a kind does: `limit` in tokens for both texts together."""

    tokenizer: Any
    limit: int
    instruction: str
    settings: OneTeacher


@dataclass(frozen=True)
class Kind:
    """One row: the class that loads the model, how it reads a pair, and where in its output the score stands."""

    loader: str
    encode: Callable[["Reader", Sequence[str], Sequence[str]], list[Row]]
    score: Callable[["PairModel", dict[str, Tensor]], Tensor]
    left_padded: bool = False
    instruction: str = ""


class PairModel:
    """A teacher whose opinion of a document does not depend on the others. Safetensors only."""

    pairwise = True

    documents_first = False

    def __init__(self, settings: OneTeacher, folder: Path, token_budget: int) -> None:
        """Raises UserError if the folder is not a model of this kind, or brings code that the settings do not trust."""
        self.kind, self.settings, self.folder = KINDS[settings.kind], settings, folder
        self.instruction = settings.instruction or self.kind.instruction
        usable_folder(folder, "teacher.model")
        check_code(folder, settings.trust_code, "teacher.trust_code", content_digest)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.budget = Budget(tokens_at_once(token_budget, self.device))
        with named_faults(folder):
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **self._options())
            self.model = self._load()
        room = min(positions(self.model.config), positions_of(self.model))
        self.limit = min(settings.max_tokens, self.tokenizer.model_max_length, room)
        self.pairs_at_once = kept_together(self.model, self.limit, PAIRS_AT_ONCE)
        classifies = self.kind.score is _class_logit
        self.names_no_filler = classifies and self.model.config.get_text_config().pad_token_id is None
        self.shortened = classifies and self._shorten()

    @torch.no_grad()
    def score_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> np.ndarray:
        """[n] float32 raw scores of n pairs, in the order given. The document is cut, never the query."""
        scores = np.zeros(len(queries), dtype=np.float32)
        if not queries:
            return scores
        encoded = self.kind.encode(self, queries, docs)

        def score(rows: list[int]) -> None:
            filled = [encoded[row] for row in rows]
            filled += [filled[-1]] * (-len(rows) % ROW_STEP)
            logits = self.kind.score(self, self._padded(filled))
            scores[rows] = logits[: len(rows)].float().cpu().numpy()

        self.budget.each([len(row["input_ids"]) for row in encoded], score, steady_batches)
        return scores

    def token(self, text: str) -> int:
        """The id of a word that is one token. Raises UserError if it is not, as then the model is of another kind."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == self.tokenizer.unk_token_id:
            raise UserError(f"{self.folder} has no token {text!r}: it is not a {self.settings.kind} model")
        return ids[0]

    def _load(self) -> Any:
        loader = getattr(transformers, self.kind.loader)
        dtype = torch_dtype(self.settings.precision)
        model, loading = loader.from_pretrained(
            self.folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **self._options()
        )
        if loading["missing_keys"]:
            missing = min(loading["missing_keys"])
            raise UserError(f"the weights in {self.folder} lack {missing}: it is not a {self.settings.kind} model")
        return model.to(self.device).eval()

    @torch.no_grad()
    def _shorten(self) -> bool:
        return shorten(self.model, partial(_class_logit, self), self._padded(self.kind.encode(self, *SAMPLE)))

    def _options(self) -> dict[str, Any]:
        return {"local_files_only": True, "trust_remote_code": bool(self.settings.trust_code)}

    def _padded(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """[n, length] int64 of every input, and the mask of what is real, for rows of one padded length."""
        length = padded_length(len(rows[0]["input_ids"]))
        fill = {"input_ids": self._filler(rows)}
        batch = {name: torch.full((len(rows), length), fill.get(name, 0)) for name in rows[0]}
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        for at, row in enumerate(rows):
            count = len(row["input_ids"])
            span = slice(length - count, length) if self.kind.left_padded else slice(count)
            mask[at, span] = 1
            for name, values in row.items():
                batch[name][at, span] = torch.tensor(values)
        return {name: tensor.to(self.device) for name, tensor in {**batch, "attention_mask": mask}.items()}

    def _filler(self, rows: Sequence[Row]) -> int:
        """The token that rows are filled up with. A decoder that classifies takes the last token that is not this one;
        where its configuration names none, it is one that stands in no row, so that a row ends where its text does."""
        config = self.model.config.get_text_config()
        if not self.names_no_filler:
            return int(self.tokenizer.pad_token_id or 0) if config.pad_token_id is None else int(config.pad_token_id)
        used = {number for row in rows for number in row["input_ids"]}
        config.pad_token_id = next(number for number in range(len(used) + 1) if number not in used)
        return config.pad_token_id


def steady_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Row numbers of one padded length each, longest first: rows x padded length <= budget, or ROW_STEP rows.

    A row is padded as its own length says, whatever stands beside it.
    """
    padded = np.array([padded_length(length) for length in lengths], dtype=np.int64)
    for length in np.unique(padded)[::-1].tolist():
        rows = np.flatnonzero(padded == length).tolist()
        size = max(1, budget // length // ROW_STEP) * ROW_STEP
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def padded_length(length: int) -> int:
    """The next multiple of LENGTH_STEP."""
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def positions(config: Any) -> int:
    """Tokens the model has positions for; T5 counts distances and takes any number."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def _encode_pair(model: Reader, queries: Sequence[str], docs: Sequence[str]) -> list[Row]:
    """Query and document as the tokenizer joins two texts. A query fills at most half of the room."""
    short = [_cut(model, query, model.limit // 2) for query in queries]
    encoded = model.tokenizer(
        short, list(docs), truncation="only_second", max_length=model.limit, return_attention_mask=False
    )
    return [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]


def _encode_text(
    model: Reader, queries: Sequence[str], docs: Sequence[str], render: Callable[[str, str], str], *,
    special: bool = True,
) -> list[Row]:  # fmt: skip
    """Query and document in one text; where that is too long, the document is cut until all fits. `special`: the
    tokenizer adds the tokens that begin and end a text."""
    texts = [render(query, doc) for query, doc in zip(queries, docs, strict=True)]
    read = partial(model.tokenizer, add_special_tokens=special)
    tokens = read(texts, return_attention_mask=False)["input_ids"]
    for at, ids in enumerate(tokens):
        if len(ids) > model.limit:
            query = _cut(model, queries[at], model.limit // 2)
            bare = len(read(render(query, ""))["input_ids"])
            doc = _cut(model, docs[at], max(0, model.limit - bare - 1))
            text = render(query, doc)
            tokens[at] = read(text, truncation=True, max_length=model.limit)["input_ids"]
    return [{"input_ids": ids} for ids in tokens]


def _cut(model: Reader, text: str, tokens: int) -> str:
    """The start of a text that is at most so many tokens."""
    if len(text.encode()) < tokens:
        return text
    if tokens <= 0:
        return ""
    encoded = model.tokenizer(
        text, add_special_tokens=False, truncation=True, max_length=tokens, return_offsets_mapping=True
    )
    return text[: encoded["offset_mapping"][-1][1]] if encoded["offset_mapping"] else ""


def _encode_monot5(model: Reader, queries: Sequence[str], docs: Sequence[str]) -> list[Row]:
    """As in Nogueira et al., "Document ranking with a pretrained sequence-to-sequence model", EMNLP Findings 2020."""
    return _encode_text(model, queries, docs, lambda query, doc: f"Query: {query} Document: {doc} Relevant:")


def _encode_rankt5(model: Reader, queries: Sequence[str], docs: Sequence[str]) -> list[Row]:
    """As in Zhuang et al., "RankT5", SIGIR 2023."""
    return _encode_text(model, queries, docs, lambda query, doc: f"Query: {query} Document: {doc}")


def _encode_yes_no(model: Reader, queries: Sequence[str], docs: Sequence[str]) -> list[Row]:
    """The form that Qwen3-Reranker was trained with, where the answer follows an empty thought; or a prompt of the
    settings in the model's own chat."""
    if model.settings.prompt:
        return _encode_text(model, queries, docs, partial(_in_chat, model), special=False)
    return _encode_text(model, queries, docs, partial(yes_no_prompt, model.instruction))


def _in_chat(model: Reader, query: str, doc: str) -> str:
    values = {"instruction": model.instruction, "query": query, "document": doc}
    said = re.sub(r"\{(instruction|query|document)\}", lambda found: values[found[1]], model.settings.prompt)
    return chat_turn(model.tokenizer, said)


def chat_turn(tokenizer: Any, said: str) -> str:
    """What a model reads that is asked this, up to its answer. Raises UserError if it has no chat template."""
    if not tokenizer.chat_template:
        raise UserError(f"{tokenizer.name_or_path} has no chat template, so it cannot be asked by teacher.prompt")
    turn = [{"role": "user", "content": said}]
    return tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, enable_thinking=False)


def yes_no_prompt(instruction: str, query: str, doc: str) -> str:
    """Source: the model card of Qwen3-Reranker."""
    return (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {doc}"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def _encode_lightweight(model: Reader, queries: Sequence[str], docs: Sequence[str]) -> list[Row]:
    """BGE's layout: query, document and prompt, distinguished by their lengths. Source: the model's card.

    `parts` marks the tokens of the query and its line break with 1 and those of the prompt with 2.
    """
    prompt = model.instruction
    start = [model.tokenizer.bos_token_id]
    line, ask = (model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("\n", prompt))
    rows: list[Row] = []
    for query, doc in zip(queries, docs, strict=True):
        first, second = (
            model.tokenizer(f"{name}: {text}", add_special_tokens=False)["input_ids"]
            for name, text in (("A", _cut(model, query, model.limit // 2)), ("B", doc))
        )
        head, tail = [*start, *first, *line], [*line, *ask]
        body = second[: max(0, model.limit - len(head) - len(tail))]
        parts = [1] * len(head) + [0] * len(body) + [2] * len(tail)
        rows.append({"input_ids": head + body + tail, "parts": parts})
    return rows


def _class_logit(model: PairModel, batch: Mapping[str, Tensor]) -> Tensor:
    """The one logit of a sequence classifier. Raises UserError if it has several."""
    logits = model.model(**batch).logits
    if logits.shape[1] != 1:
        raise UserError(f"{model.folder} has {logits.shape[1]} labels; a teacher gives one score a pair")
    return logits[:, 0]


def _true_or_false(model: PairModel, batch: dict[str, Tensor]) -> Tensor:
    """Log-probability of "true" against "false" at the first decoder step."""
    logits = _first_step(model, batch)
    return torch.log_softmax(logits[:, [model.token("false"), model.token("true")]].float(), dim=1)[:, 1]


def _rank_logit(model: PairModel, batch: dict[str, Tensor]) -> Tensor:
    """The logit of `<extra_id_10>` at the first decoder step."""
    return _first_step(model, batch)[:, model.token("<extra_id_10>")]


def _first_step(model: PairModel, batch: dict[str, Tensor]) -> Tensor:
    start = batch["input_ids"].new_full((len(batch["input_ids"]), 1), model.model.config.decoder_start_token_id)
    return model.model(**batch, decoder_input_ids=start).logits[:, 0]


def _yes_logit(model: PairModel, batch: dict[str, Tensor]) -> Tensor:
    """The log-odds of "yes" against "no", or of the settings' answers, as the next token: their probability's logit."""
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    logits = model.model(**batch, position_ids=positions, logits_to_keep=1, use_cache=False).logits[:, -1]
    yes, no = map(model.token, model.settings.answers)
    return logits[:, yes] - logits[:, no]


def _lightweight_logit(model: PairModel, batch: dict[str, Tensor]) -> Tensor:
    """The logit of layer 25, tokens merged two by two from layer 8 on: the settings of arXiv 2502.19712."""
    parts = batch.pop("parts")
    outputs = model.model(
        **batch,
        return_dict=True,
        cutoff_layers=[25],
        compress_ratio=2,
        compress_layer=[8],
        query_lengths=(parts == 1).sum(1).tolist(),
        prompt_lengths=(parts == 2).sum(1).tolist(),
    )
    logits, mask = outputs[0][0], outputs[1][0]
    last = mask.sum(1) - 1
    return logits.reshape(len(mask), -1)[torch.arange(len(mask), device=mask.device), last]


KINDS: dict[str, Kind] = {
    "cross_encoder": Kind("AutoModelForSequenceClassification", _encode_pair, _class_logit),
    "monot5": Kind("AutoModelForSeq2SeqLM", _encode_monot5, _true_or_false),
    "rankt5": Kind("AutoModelForSeq2SeqLM", _encode_rankt5, _rank_logit),
    "yes_no": Kind(
        "AutoModelForCausalLM", _encode_yes_no, _yes_logit, left_padded=True,
        instruction="Given a web search query, retrieve relevant passages that answer the query",
    ),
    "bge_lightweight": Kind(
        "AutoModelForCausalLM", _encode_lightweight, _lightweight_logit,
        instruction="Predict whether passage B contains an answer to query A.",
    ),
}  # fmt: skip
