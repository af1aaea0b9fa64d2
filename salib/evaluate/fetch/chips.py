"""EuroSAT and UC Merced as published, fetched into the folder that evaluation reads."""

from pathlib import Path

from huggingface_hub import hf_hub_url
from huggingface_hub.constants import is_offline_mode

from salib.evaluate.tasks.chip_zips import CHIP_ZIPS, ChipSource
from salib.files.download import RemoteFile, fetch_files

UCMERCED = {"repo_type": "dataset", "revision": "7c5ef3454d9b1cccfa7ccde0c01fc8f00a45909a"}
PUBLISHED: dict[ChipSource, RemoteFile] = {
    "eurosat": RemoteFile(
        url=f"https://zenodo.org/records/7711810/files/{CHIP_ZIPS['eurosat'].file}",
        size=94_658_721,
        sha256="b4f5b234ecb7d7ff9c6cddb046543b4717c53fd6e9815be6c0e80cc614f51b90",
    ),
    "ucmerced": RemoteFile(
        url=hf_hub_url("torchgeo/ucmerced", CHIP_ZIPS["ucmerced"].file, **UCMERCED),
        size=332_468_434,
        sha256="06c539ef28703a58fb07bd2837991ac7c48b813b00bb12ac197efd813a18daeb",
    ),
}
"""EuroSAT from its Zenodo record; UC Merced from TorchGeo's copy at the hub, whose bytes are those
of the university's server. Sizes and sha256 are those that public code, for UC Merced TorchGeo's
own, checks these addresses against; we have not downloaded the files ourselves."""


def fetch_chips(
    source: ChipSource, out: str | Path, *, base_url: str | None = None, offline: bool = False
) -> Path:
    """Fetch the zip of EuroSAT or UC Merced into a folder for `salib evaluate --real`.

    It takes its name once it has the published sha256, and is then not downloaded again.

    Args:
        source: "eurosat" or "ucmerced".
        out: the folder.
        base_url: a mirror that holds a file of the same name; HF_ENDPOINT holds for UC Merced.
        offline: ask no server, as with HF_HUB_OFFLINE for UC Merced.

    Returns:
        Path of the zip.

    Raises:
        ValueError: if the source is unknown.
        OSError: as `fetch_files`.
    """
    if source not in PUBLISHED:
        raise ValueError(f"source must be one of {', '.join(PUBLISHED)}, got {source!r}")
    target, from_hub = Path(out, CHIP_ZIPS[source].file), source == "ucmerced" and not base_url
    fetch_files(
        {target: PUBLISHED[source]},
        f"salib fetch {source} --out {out}",
        base_url=base_url,
        offline=offline or (from_hub and is_offline_mode()),
    )
    return target
