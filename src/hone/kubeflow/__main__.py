"""`make derive`: writes everything in the repository that derives from the stages."""

from pathlib import Path

from hone.kubeflow.derive import write

for path in write(Path.cwd()):
    print(f"wrote {path}")
