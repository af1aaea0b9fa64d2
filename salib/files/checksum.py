"""Files that hold the checksum of their own content, so that damage is noticed on reading.

Whatever can hold a text can hold it: JSON, and the metadata of safetensors, Arrow and Parquet. Who
writes the file anew with other programs leaves it out, and the file goes unchecked.
"""

import os
import re
import struct
import zipfile
import zlib
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path

_MARK, _ZEROS = b"salib-sha256:", b"0" * 64
CHECKSUM = {"seal": (_MARK + _ZEROS).decode()}
"""Entry of a file's metadata, with zeros until `write_checksum` puts the digest in their place."""


def write_checksum(path: Path) -> None:
    """Put the sha256 of a file, as it is with the zeros, into its entry of CHECKSUM."""
    digest, held = _digests(path)
    assert held, f"{path} has no place for a checksum"
    with path.open("rb+") as file:
        for place in held:
            file.seek(place)
            file.write(digest)


def check_checksum(path: str | Path, remedy: str = "copy it again or make it again") -> None:
    """Refuse a file whose checksum is not that of its content; one without a checksum passes.

    Args:
        remedy: what the message tells to do.

    Raises:
        ValueError: if it was damaged or changed since it was written.
    """
    digest, held = _digests(Path(path))
    if {*held.values()} - {digest}:
        raise ValueError(
            f"{path} has other content than it was written with (damaged, or edited by "
            f"hand): {remedy}"
        )


def append_checksum(path: Path) -> None:
    """Put the sha256 of a file behind its end, which readers of TIFF overlook and copies lack."""
    with path.open("ab") as file:
        file.write(_MARK + _ZEROS)
    write_checksum(path)


def check_appended(path: Path, remedy: str) -> None:
    """As `check_checksum`, of `append_checksum`; a file that GDAL has added to passes too."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, len(_MARK + _ZEROS)), os.SEEK_END)
        is_last = _MARK in file.read()
    if is_last:
        check_checksum(path, remedy)


def _digests(path: Path) -> tuple[bytes, dict[int, bytes]]:
    """The digest of a file's content, and those that it holds, by place; in little memory."""
    digest, start = sha256(), 0
    if not path.stat().st_size:  # cannot be mapped
        return digest.hexdigest().encode(), {}
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        places = [match.end() for match in re.finditer(re.escape(_MARK), data)]
        held = {place: data[place : place + len(_ZEROS)] for place in places}
        with memoryview(data) as view:
            for place, told in held.items():
                digest.update(view[start:place])
                digest.update(_ZEROS[: len(told)])
                start = place + len(told)
            digest.update(view[start:])
    return digest.hexdigest().encode(), held


def check_zip(path: str | Path) -> None:
    """Refuse a zip, such as `torch.save` writes, of which a part has another checksum than it says.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except (zipfile.BadZipFile, RuntimeError, struct.error, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if damaged:
        raise ValueError(f"{path} is damaged in {damaged}")
