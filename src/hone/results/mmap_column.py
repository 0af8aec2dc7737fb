"""Values by position in a file that is memory-mapped: whoever reads them pays for what is touched."""

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa

T = TypeVar("T")


class MmapColumn(Sequence[T]):
    """Values of one Arrow type in their own file, written once; how many there are costs no memory."""

    def __init__(self, folder: Path, type: pa.DataType, pieces: Iterable[pa.Array | pa.ChunkedArray]) -> None:
        """Writes the values of all pieces, one after the other, to a new file in `folder`."""
        path = folder / f"{uuid.uuid4().hex}.arrow"
        schema = pa.schema([("value", type)])
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for piece in pieces:
                writer.write_table(pa.Table.from_arrays([piece], schema=schema))
        self.column: pa.ChunkedArray = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["value"]

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        values = self.column[index]
        return values.to_pylist() if isinstance(index, slice) else values.as_py()

    def at(self, positions: Sequence[int] | np.ndarray) -> list[T]:
        """The values at these positions."""
        return self.column.take(pa.array(positions, pa.int64())).to_pylist()
