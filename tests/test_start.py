"""What a task of a pipeline imports before it does anything: nothing that it does not need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HEAVY = (
    "torch", "transformers", "sentence_transformers", "tokenizers", "scipy", "sklearn", "pandas", "datasketch", "bm25s",
    "vllm", "faiss", "kfp", "kubernetes", "boto3", "botocore", "structlog", "rich", "pygments", "markdown_it",
    "docutils", "dateutil", "chardet", "asyncio", "openai", "mlflow", "onnx", "huggingface_hub",
)  # fmt: skip

STARTED = """
import json, sys
import hone.commands.kubeflow
from hone import settings
from hone.engine.fingerprint import code_digest
from hone.stages import stage
from hone.storage.addresses import open_store

name, corpus = sys.argv[1:]
given = {"name": "small", "preset": "cpu", "student": {"model": corpus}, "prepare": {"corpus": corpus}}
found = settings.check(given, "settings", __import__("pathlib").Path(corpus))
stage(name)
code_digest(name, found.stages[name])
open_store(corpus + "/store")
print(json.dumps(sorted({module.partition(".")[0] for module in sys.modules})))
"""


@pytest.mark.parametrize("name", ["prepare", "curate", "gate", "publish"])
def test_a_task_without_a_model_starts_without_heavy_packages(tmp_path: Path, name: str) -> None:
    ran = subprocess.run([sys.executable, "-c", STARTED, name, str(tmp_path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-600:]
    assert not set(json.loads(ran.stdout)).intersection(HEAVY)
