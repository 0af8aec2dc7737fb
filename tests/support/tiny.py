"""Tiny models with random weights, built on the spot: real parts for tests, no downloads.

Weights depend on the arguments only, so two calls give the same model.
"""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5ForConditionalGeneration,
)

LONGEST = 512
# Tests run beside each other: more threads than cores only get in each other's way.
torch.set_num_threads(1)
NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"
"""A safetensors file that is whole and holds nothing."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def bert(
    folder: Path,
    *,
    dim: int = 32,
    layers: int = 2,
    labels: int | None = None,
    vocab_texts: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """A BERT with a lower-casing WordPiece tokenizer, or with `labels` a sequence classifier, as a transformers folder.

    Words of `vocab_texts` are one token each; any other word is spelt in letters.
    """
    tokenizer = word_pieces(vocab_texts)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * dim,
        max_position_embeddings=LONGEST,
        num_labels=labels or 2,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _saved(folder, BertForSequenceClassification if labels else BertModel, config, tokenizer, seed)


def student(
    folder: Path,
    *,
    pooling: str = "mean",
    prompts: dict[str, str] | None = None,
    dim: int = 32,
    layers: int = 2,
    vocab_texts: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """The same BERT as sentence-transformers itself saves it; `pooling` is its name for it (mean, cls, lasttoken)."""
    weights = bert(folder.with_name(f"{folder.name}-bert"), dim=dim, layers=layers, vocab_texts=vocab_texts, seed=seed)
    return sentence_transformer(folder, weights, pooling=pooling, prompts=prompts, dim=dim)


def sentence_transformer(
    folder: Path, weights: Path, *, pooling: str, prompts: dict[str, str] | None = None, dim: int = 32
) -> Path:
    """A transformers folder as sentence-transformers itself saves it."""
    modules = [Transformer(str(weights)), Pooling(dim, pooling_mode=pooling), Normalize()]
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(folder), create_model_card=False)
    return folder


def modernbert(folder: Path, *, dim: int = 32, layers: int = 3, vocab_texts: Sequence[str] = ()) -> Path:
    """An encoder whose layers look at a window by turns, with rotary positions."""
    tokenizer = word_pieces(vocab_texts)
    config = ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=dim, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=2 * dim, max_position_embeddings=LONGEST, initializer_range=0.2, local_attention=8,
        pad_token_id=tokenizer.pad_token_id, cls_token_id=tokenizer.cls_token_id, sep_token_id=tokenizer.sep_token_id,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return _saved(folder, ModernBertModel, config, tokenizer)


def embedding_qwen3(folder: Path, *, dim: int = 32, layers: int = 2, pads: bool = True) -> Path:
    """A decoder without a head whose tokenizer ends every text with a mark, in the manner of Qwen3-Embedding."""
    tokenizer = byte_tokens()
    end = [("<|end|>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("$A <|end|>", None, end)
    if pads:
        tokenizer.pad_token = "<pad>"
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=dim, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=2 * dim, max_position_embeddings=LONGEST,
        initializer_range=0.2, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return _saved(folder, Qwen3Model, config, tokenizer)


def bidirectional_qwen2(folder: Path, *, dim: int = 32, layers: int = 2) -> Path:
    """A decoder in the manner of gte-Qwen2: code of its own that looks both ways is named beside the stock model, and
    the tokenizer sets no mark at the end."""
    tokenizer = byte_tokens()
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=dim, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=2 * dim, max_position_embeddings=LONGEST, initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    made = _saved(folder, Qwen2Model, config, tokenizer)
    return reconfigured(made, auto_map={"AutoModel": "modeling_qwen.Qwen2Model"})


def llama(folder: Path, *, dim: int = 32, layers: int = 2, words: Sequence[str] = (), seed: int = 0) -> Path:
    """A causal language model with a chat template; every byte is a token, and each of `words` is one too."""
    tokenizer = byte_tokens()
    tokenizer.add_tokens(list(words))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=2 * dim,
        max_position_embeddings=4_096,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _saved(folder, LlamaForCausalLM, config, tokenizer, seed)


def qwen3(folder: Path, *, dim: int = 128, layers: int = 2, words: Sequence[str] = (), seed: int = 0) -> Path:
    """A causal language model of the architecture of Qwen3-Reranker, with the tokens of `llama`."""
    tokenizer = byte_tokens()
    tokenizer.add_tokens(list(words))
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=2 * dim,
        max_position_embeddings=2_048,
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _saved(folder, Qwen3ForCausalLM, config, tokenizer, seed)


def t5(folder: Path, *, dim: int = 32, layers: int = 2, words: Sequence[str] = (), seed: int = 0) -> Path:
    """An encoder-decoder whose tokens are letters and `words`, with T5's marks for gaps."""
    tokenizer = letter_pieces(words)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=dim,
        d_kv=8,
        d_ff=2 * dim,
        num_layers=layers,
        num_heads=4,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        initializer_factor=0.5,
    )
    return _saved(folder, T5ForConditionalGeneration, config, tokenizer, seed)


def _saved(folder: Path, kind: Any, config: Any, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def reconfigured(folder: Path, file: str = "config.json", **changes: Any) -> Path:
    """The same folder, with these values in its configuration or another JSON file."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    return folder


def letter_pieces(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer in the manner of SentencePiece: a word after a space is one piece if it is known, else letters."""
    pieces = [*string.printable[:95].replace(" ", ""), "▁", *(f"▁{word}" for word in words)]
    entries = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -float(len(piece) == 1)) for piece in pieces)]
    tokenizer = Tokenizer(models.Unigram(entries, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    made.add_special_tokens({"additional_special_tokens": [f"<extra_id_{number}>" for number in range(20)]})
    return made


def word_pieces(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A BERT tokenizer that knows letters, digits and the words of `texts`."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = string.ascii_lowercase + string.digits
    words = sorted({word for text in texts for word in text.lower().split() if word.isalnum()} - set(pieces))
    entries = [*special, *pieces, *(f"##{piece}" for piece in pieces), *string.punctuation, *words]
    vocab = {piece: number for number, piece in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LONGEST,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_tokens() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are bytes, with the marks of a chat."""
    special = ["<pad>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    entries = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocab = {piece: number for number, piece in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>")
    made.chat_template = CHAT_TEMPLATE
    return made
