"""What it saves to read keys and values that heads share where they lie: seconds of the processor for one further token
of every row, by transformers' own attention and cache and by those of `hone.backends.shared_prefix`.

    python benchmarks/shared_heads.py MODEL [--layers 2] [--rows 24] [--tokens 700]

MODEL gives the shapes; weights are random, and only so many of its layers are made.
"""

import argparse
import time
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from hone.backends.shared_prefix import GROUPED, empty_cache


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for name, default in (("layers", 2), ("rows", 24), ("tokens", 700)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    config: Any = AutoConfig.from_pretrained(given.model, local_files_only=True)
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = given.layers, 1_000, 0
    config.layer_types = config.layer_types[: given.layers]
    print("precision | seconds, transformers | seconds, shared_prefix | times as fast | largest difference")
    for dtype in (torch.float32, torch.bfloat16):
        loader: Any = AutoModelForCausalLM
        model = loader.from_config(config, dtype=dtype).eval()
        (plain, expected), (grouped, found) = (timed(model, given, dtype, name) for name in ("sdpa", GROUPED))
        away = (found - expected).abs().max().item()
        print(f"{dtype} | {plain:.3f} | {grouped:.3f} | {plain / grouped:.1f} | {away:.1e}")


def timed(model: Any, given: argparse.Namespace, dtype: torch.dtype, attention: str) -> tuple[float, torch.Tensor]:
    torch.manual_seed(1)
    model.set_attn_implementation(attention)
    cache: Any = empty_cache(model) if attention == GROUPED else DynamicCache(config=model.config)
    heads = model.config.num_key_value_heads, given.tokens, model.config.hidden_size // model.config.num_attention_heads
    for layer in range(given.layers):
        cache.update(*(torch.randn(given.rows, *heads, dtype=dtype) for _ in range(2)), layer)
    mask = torch.ones(given.rows, given.tokens, dtype=torch.long)
    mask[:, 3] = 0
    logits, started = torch.zeros(1), 0.0
    for step in range(6):
        if step == 2:
            started = time.process_time()
        mask = torch.cat([mask, torch.ones(given.rows, 1, dtype=torch.long)], 1)
        logits = model(
            input_ids=torch.full((given.rows, 1), 7), attention_mask=mask, past_key_values=cache, use_cache=True,
            position_ids=torch.full((given.rows, 1), mask.shape[1] - 1),
        ).logits  # fmt: skip
    return (time.process_time() - started) / 4, logits


if __name__ == "__main__":
    main()
