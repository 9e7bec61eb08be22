"""A config drive as an ISO-9660 image: what cloud-init finds by its label."""

import io
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import pycdlib

from metadata.errors import MetadataRefused

LABEL = "config-2"
SECTOR = 2048
LARGEST = 1024 * 1024
"""Bytes; the plan gives the config drive a partition of 1 MiB."""

_FIRST_DESCRIPTOR = 16
_PRIMARY, _JOLIET = 1, 2
# 2000-01-01 00:00 UTC in the two notations of ECMA-119 (8.4.26.1 and 9.1.5)
_LONG_DATE = b"2000010100000000\0"
_SHORT_DATE = bytes((100, 1, 1, 0, 0, 0, 0))
# creation, modification, effective; between the last two lies the expiration, which stays unset
_LONG_DATES_AT = (813, 830, 864)
_ROOT_RECORD_AT = 156
_IS_DIRECTORY = 0x02


class ConfigDriveTooLarge(MetadataRefused):
    """The files do not fit the config drive's partition."""


def iso(files: Mapping[str, bytes]) -> bytes:
    """An ISO-9660 image (Rock Ridge and Joliet, label config-2) with these files; paths have no leading slash.

    The same files give the same bytes, whenever and wherever: a step that is repeated writes what it wrote before.
    Costs some 3 ms and 100 KB. Raises ConfigDriveTooLarge above 1 MiB.
    """
    image = pycdlib.PyCdlib()
    image.new(vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    iso_names = _add_folders(image, files)
    for number, path in enumerate(sorted(files)):
        place = PurePosixPath(path)
        image.add_fp(
            io.BytesIO(files[path]),
            len(files[path]),
            f"{iso_names[place.parent]}/F{number:07d}.;1",
            rr_name=place.name,
            joliet_path=f"/{place}",
            # user data may hold secrets; cloud-init reads it as root
            file_mode=0o100400,
        )
    out = io.BytesIO()
    image.write_fp(out)
    image.close()
    size = len(out.getvalue())
    if size > LARGEST:
        raise ConfigDriveTooLarge(f"The config drive would have {size:,} bytes, at most {LARGEST:,} fit. Shorten it.")
    return _undated(out.getvalue())


def _add_folders(image: pycdlib.PyCdlib, files: Mapping[str, bytes]) -> dict[PurePosixPath, str]:
    """Makes every folder that the files need; gives each folder's generated ISO path."""
    iso_names = {PurePosixPath("."): ""}
    folders = {folder for path in files for folder in PurePosixPath(path).parents} - iso_names.keys()
    for number, folder in enumerate(sorted(folders)):
        iso_names[folder] = f"{iso_names[folder.parent]}/D{number:07d}"
        image.add_directory(iso_names[folder], rr_name=folder.name, joliet_path=f"/{folder}", file_mode=0o040555)
    return iso_names


def _undated(image: bytes) -> bytes:
    """The image with a fixed date at every place where pycdlib wrote the time of day."""
    out = bytearray(image)
    for descriptor in _descriptors(out):
        for at in _LONG_DATES_AT:
            out[descriptor + at : descriptor + at + len(_LONG_DATE)] = _LONG_DATE
        for record in _records(out, descriptor + _ROOT_RECORD_AT):
            out[record + 18 : record + 25] = _SHORT_DATE
            _undate_rock_ridge(out, record)
    return bytes(out)


def _descriptors(image: bytearray) -> Iterator[int]:
    """Offsets of the volume descriptors that have a tree of their own: the primary one and Joliet's."""
    at = _FIRST_DESCRIPTOR * SECTOR
    while image[at] in (_PRIMARY, _JOLIET):
        yield at
        at += SECTOR


def _records(image: bytearray, root: int) -> Iterator[int]:
    """Offsets of the directory record at `root` and of all records below it."""
    yield root
    start, size = _number(image, root + 2) * SECTOR, _number(image, root + 10)
    at = start
    while at < start + size:
        if image[at] == 0:  # a record never crosses a sector: zeros fill the rest of it
            at += SECTOR - at % SECTOR
            continue
        # the first two records of a folder are itself and its parent, named 0 and 1
        is_child = not (image[at + 32] == 1 and image[at + 33] in (0, 1))
        if is_child and image[at + 25] & _IS_DIRECTORY:
            yield from _records(image, at)
        else:
            yield at
        at += image[at]


def _undate_rock_ridge(image: bytearray, record: int) -> None:
    """Fixes the dates of a record's TF entry (access, modification, attributes), the one SUSP entry that has any."""
    name_length = image[record + 32]
    at = record + 33 + name_length + (name_length + 1) % 2
    end = record + image[record]
    while at + 4 <= end and image[at + 2]:
        if image[at : at + 2] == b"TF":
            for date in range(at + 5, at + image[at + 2], len(_SHORT_DATE)):
                image[date : date + len(_SHORT_DATE)] = _SHORT_DATE
        at += image[at + 2]


def _number(image: bytearray, at: int) -> int:
    return int.from_bytes(image[at : at + 4], "little")
