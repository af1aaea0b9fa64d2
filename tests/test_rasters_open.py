"""What GDAL opens, by the many names that a file has."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from salib.rasters.remote import ReadError, as_read_errors, disk_path, is_remote, location


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of odd names, and one in a zip; each holds 7."""
    where = tmp_path_factory.mktemp("odd names é")
    shape = {"width": 3, "height": 2, "count": 1, "dtype": "uint8"}
    place = {"crs": "EPSG:32614", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)}
    for name in ("a b.tif", "a:b.tif", "ü#1.tif", "50%.tif", "q?x=1.tif", "plain.tif"):
        with rasterio.open(where / "t.tif", "w", driver="GTiff", **shape, **place) as file:
            file.write(np.full((1, 2, 3), 7, np.uint8))
        (where / "t.tif").rename(where / name)
    with zipfile.ZipFile(where / "z.zip", "w") as archive:
        archive.write(where / "plain.tif", "in/plain.tif")
    return where


def quoted(path):
    return path.as_posix().replace("%", "%25").replace(" ", "%20")


ADDRESSES = ["file://{}", "file://localhost{}", "FILE://{}", "file:{}", "file://LOCALHOST{}"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_of_this_machine_is_its_path(folder, address):
    for path in (folder / "a b.tif", folder / "ü#1.tif", folder / "50%.tif", folder / "q?x=1.tif"):
        href = address.format(quoted(path))
        assert disk_path(href) == path
        with rasterio.open(location(href)) as file:
            assert (file.read() == 7).all()


@pytest.mark.parametrize("name", ["a b.tif", "a:b.tif", "ü#1.tif", "50%.tif", "q?x=1.tif"])
def test_a_path_stays_as_it_is(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    for href in (name, str(folder / name)):
        assert disk_path(href) == Path(href)
        with rasterio.open(location(href)) as file:
            assert (file.read() == 7).all()


def test_a_file_in_a_zip_opens_by_both_names(folder):
    for href in (f"/vsizip/{folder}/z.zip/in/plain.tif", f"zip://{folder}/z.zip!in/plain.tif"):
        assert disk_path(href) is None
        with rasterio.open(location(href)) as file:
            assert (file.read() == 7).all()


@pytest.mark.parametrize(
    ("href", "remote"),
    [
        ("SENTINEL2_L2A:/data/MTD_MSIL2A.xml:10m:EPSG_32614", False),
        ('NETCDF:"/data/x.nc":vv', False),
        ("HDF5:x.h5://grid/data", True),
        ("/vsitar//data/x.tar/a.tif", False),
        ("/vsicurl/https://host/a.tif", True),
        ("/vsizip//vsicurl/https://host/a.zip/a.tif", True),
        ("/vsis3/bucket/a.tif", True),
        ("/vsizip//vsis3/bucket/a.zip/a.tif", True),
        ("s3://bucket/a.tif", True),
        ("https://host/a.tif", True),
    ],
)
def test_what_gdal_alone_finds_has_no_path(href, remote):
    assert disk_path(href) is None
    assert is_remote(href) == remote
    assert location(href) == href or href.startswith("s3:")


def test_a_file_of_another_machine_is_refused():
    with pytest.raises(ValueError, match=r"must be of this machine, got file://server/share"):
        location("file://server/share/a.tif")


@pytest.mark.parametrize(
    "href",
    ["/nowhere/a.tif", "file:///nowhere/a%20b.tif", "SENTINEL2_L2A:/nowhere/x.xml:10m:EPSG_32614"],
)
def test_a_file_that_is_not_there_is_told_by_its_name_and_not_tried_again(href):
    with pytest.raises(ReadError, match=f"Could not read {href}: .") as told, as_read_errors(href):
        rasterio.open(location(href))
    assert not told.value.again
    assert "\n" not in str(told.value)
