"""How much the pages of a Parquet column unpack to, by their own headers, before anything is unpacked.

The sizes in a file's footer are claims that no reader checks: what is allocated is what each page declares. A header
is a Thrift structure in the compact protocol (PageHeader in parquet.thrift), whose second and third fields are the
bytes of the page unpacked and packed.
"""

import mmap

UNPACKED, PACKED = 2, 3
BYTE, INTEGERS, DOUBLE, BINARY, STRUCT = 3, (4, 5, 6), 7, 8, 12
FLAGS = (1, 2)
DEEPEST = 4
LONGEST_VARINT = 63


def unpacked_bytes(data: bytes | mmap.mmap, start: int, length: int) -> int:
    """Bytes of all pages of a column chunk and their headers, unpacked: what its footer should say.

    `start` and `length` are where the chunk lies in the file's bytes. Raises ValueError if its headers make no sense.
    """
    at, total = start, 0
    while at < start + length:
        header = _Header(data, at)
        sizes = header.struct()
        packed, unpacked = sizes.get(PACKED, -1), sizes.get(UNPACKED, -1)
        if min(packed, unpacked) < 0 or header.at + packed > start + length:
            raise ValueError(f"the page at byte {at} is not as long as it says")
        total += header.at - at + unpacked
        at = header.at + packed
    return total


class _Header:
    """Reads a Thrift structure from some place on; `at` is the byte after what was read."""

    def __init__(self, data: bytes | mmap.mmap, at: int) -> None:
        self.data, self.at = data, at

    def struct(self, depth: int = 0) -> dict[int, int]:
        """The whole numbers of a structure by their field; all else is passed over."""
        fields: dict[int, int] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            if kind in INTEGERS:
                fields[field] = self._integer()
            elif kind == STRUCT and depth < DEEPEST:
                self.struct(depth + 1)
            else:
                self._pass(kind)
        return fields

    def _pass(self, kind: int) -> None:
        if kind == BINARY:
            length = self._varint()
            self.at += length
        elif kind in (BYTE, DOUBLE):
            self.at += 1 if kind == BYTE else 8
        elif kind not in FLAGS:
            raise ValueError(f"the page header before byte {self.at} has a field of kind {kind}")

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("a page header runs beyond the end of the file")
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > LONGEST_VARINT:
                raise ValueError(f"the page header before byte {self.at} holds a number without end")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
