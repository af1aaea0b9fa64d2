"""EuroSAT and UC Merced as published, fetched into the folder that evaluation reads."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from salib.evaluate.fetch import hub
from salib.evaluate.tasks.chip_zips import CHIP_ZIPS, ChipSource, members
from salib.files.artifact import check_disk_space, file_digest, only_writer
from salib.files.download import Expected, FetchError, download, open_session, settle, size_of


@dataclass(frozen=True, kw_only=True)
class PublishedZip:
    """A labelled zip as published.

    Args:
        server: None for the hub.
        folder: what stands between server and file name.
        chips: images in all classes.
    """

    server: str | None
    folder: str
    expected: Expected
    classes: int
    chips: int


PUBLISHED: dict[ChipSource, PublishedZip] = {
    "eurosat": PublishedZip(
        server="https://zenodo.org",
        folder="records/7711810/files",
        expected=Expected(
            size=94_658_721,
            sha256="b4f5b234ecb7d7ff9c6cddb046543b4717c53fd6e9815be6c0e80cc614f51b90",
        ),
        classes=10,
        chips=27_000,
    ),
    "ucmerced": PublishedZip(
        server=None,
        folder="datasets/torchgeo/ucmerced/resolve/7c5ef3454d9b1cccfa7ccde0c01fc8f00a45909a",
        expected=Expected(
            size=332_468_434,
            sha256="06c539ef28703a58fb07bd2837991ac7c48b813b00bb12ac197efd813a18daeb",
        ),
        classes=21,
        chips=2_100,
    ),
}
"""EuroSAT from its Zenodo record; UC Merced from TorchGeo's copy at the hub, whose bytes are those
of the university's server. Sizes and sha256 are those that public code, for UC Merced TorchGeo's
own, checks these addresses against; we have not downloaded the files ourselves."""


def fetch_chips(
    source: ChipSource,
    out: str | Path,
    *,
    base_url: str | None = None,
    offline: bool = False,
    report: Callable[[str], object] = tqdm.write,
) -> Path:
    """Fetch the zip of EuroSAT or UC Merced into a folder for `salib evaluate --real`.

    It takes its name once it has the published size and sha256 and its classes hold the published
    number of chips; its sha256 then stands in `sha256sums.txt`, and it is not asked for again.
    What came before an interruption is kept in a `.part` file and taken up again.

    Args:
        base_url: a mirror that holds a file of the same name; HF_ENDPOINT holds for UC Merced.
        offline: ask no server, as with HF_HUB_OFFLINE for UC Merced.

    Returns:
        Path of the zip.

    Raises:
        ValueError: if the source is unknown.
        OSError: if there is no room, or another run writes to the folder.
        FetchError: if the server fails for good, the zip is not the published one, is missing
            offline, or the folder holds another under its name.
    """
    if source not in PUBLISHED:
        raise ValueError(f"source must be one of {', '.join(PUBLISHED)}, got {source!r}")
    published, out = PUBLISHED[source], Path(out)
    target = out / CHIP_ZIPS[source].file
    if _is_there(target, published):
        return target
    if offline or (published.server is None and not base_url and hub.is_offline()):
        raise FetchError(
            f"{target} must be there to go without a network: call `salib fetch {source} --out "
            f"{out}` with one"
        )
    address = f"{published.server or hub.endpoint()}/{published.folder}"
    url = f"{(base_url or address).rstrip('/')}/{target.name}"
    headers = hub.headers(base_url) if published.server is None else {}
    with only_writer(out), open_session(headers) as session:
        part = target.with_name(f"{target.name}.part")
        if _is_there(target, published):  # another call brought it meanwhile
            return target
        check_disk_space(out, published.expected.size - size_of(part))
        report(f"{source}: {url}, {size_of(part):,} bytes kept before")
        download(session, url, part, expected=published.expected)
        _check_classes(part, published)
        settle(part, target)
    return target


def _is_there(target: Path, published: PublishedZip) -> bool:
    if not target.exists():
        return False
    found = file_digest(target)
    if found != published.expected.sha256:
        raise FetchError(
            f"{target} must have sha256 {published.expected.sha256}, got {found}: it is read as it "
            "is; to fetch the published one, move it away"
        )
    return True


def _check_classes(part: Path, published: PublishedZip) -> None:
    try:
        classes = members(part)
    except ValueError as error:
        raise FetchError(f"{error}; it is kept in {part}") from error
    found = (len(classes), sum(map(len, classes.values())))
    if found != (published.classes, published.chips):
        raise FetchError(
            f"{part} must hold {published.chips:,} chips in {published.classes} classes, got "
            f"{found[1]:,} in {found[0]}"
        )
