"""Compiles pipelines in one process beside the tests, kept for the session.

At each setting of a task kfp looks through every loaded module (`inspect.stack`). A process that has loaded torch and
transformers compiles ten times slower than `hone compile` does.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def compiled(pipeline: str, profile: str, out: Path, images: Path | None = None) -> Path:
    """Writes the IR of a pipeline for a profile, and returns its path."""
    process = _process()
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps([pipeline, profile, str(images or ""), str(out)]) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n", f"{pipeline} for {profile} does not compile"
    return out


@functools.cache
def _process() -> subprocess.Popen[str]:
    """Ends when the tests do, since its input ends then."""
    command = [sys.executable, __file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def main() -> None:
    from hone.kubeflow import profile as profiles
    from hone.kubeflow.compile import compile

    for line in sys.stdin:
        pipeline, profile, images, out = json.loads(line)
        compile(pipeline, profiles.load(profile, Path(images) if images else None), Path(out))
        print("done", flush=True)


if __name__ == "__main__":
    main()
