"""Files that tell when their content has changed: the digest of a file, within the file.

Whatever can hold a text can hold a seal: a value of JSON, of the metadata of safetensors, Arrow or
Parquet. Who writes the file anew with other programs leaves the seal out, and the file is unsealed.
"""

import re
import struct
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path

SEAL = "seal"
_MARK, _DIGITS = b"salib-sha256:", 64
UNSEALED = _MARK.decode() + "0" * _DIGITS
"""What a file holds before `seal` writes the digest in the place of the zeros."""


def seal(path: Path) -> None:
    """Write the digest of a file into it, at each place where it holds UNSEALED.

    The digest is that of the bytes with the zeros.
    """
    digest, places, _ = _read(path)
    assert places, f"{path} has no place for a seal"
    with path.open("rb+") as file:
        for place in places:
            file.seek(place)
            file.write(digest)


def check_seal(path: str | Path, remedy: str = "copy it again or make it again") -> None:
    """Refuse a file whose seal is not that of its content; one without a seal passes.

    Args:
        remedy: what the message tells to do.

    Raises:
        ValueError: if it was damaged or changed since it was sealed.
    """
    digest, _, told = _read(Path(path))
    if told - {digest}:
        raise ValueError(
            f"{path} has other content than it was written with (damaged, or edited by "
            f"hand): {remedy}"
        )


def _read(path: Path) -> tuple[bytes, list[int], set[bytes]]:
    """The digest of a file's content, where its seals are, and what they tell."""
    data = bytearray(path.read_bytes())
    places = [match.end() for match in re.finditer(re.escape(_MARK), data)]
    told = {bytes(data[place : place + _DIGITS]) for place in places}
    for place in places:
        data[place : place + _DIGITS] = b"0" * len(data[place : place + _DIGITS])
    return sha256(data).hexdigest().encode(), places, told


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
