"""A published file is read as if a stranger had written it."""

import io
import stat
import zipfile

import pytest

from estep.errors import RejectedInput, UsageError
from estep.export import archive

SOUND = {"run.json": b"{}", "config.json": b"{}", "checkpoints/step_10/params.safetensors": b"x" * 100}


def zipped(entries, kind=zipfile.ZIP_DEFLATED):
    """A zip of pairs of a name (or a ZipInfo) and bytes."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", kind) as file:
        for name, data in entries:
            file.writestr(name, data, kind)
    return memory.getvalue()


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def lying(data):
    """A zip whose list says that its first file is short."""
    at = data.rfind(b"PK\x01\x02", 0, data.rfind(b"PK\x05\x06"))
    return data[: at + 24] + (10).to_bytes(4, "little") + data[at + 28 :]


RUN = ("run.json", b"{}")
HOSTILE = {
    "a path that leads out": zipped([RUN, ("../../etc/cron.d/x", b"x")]),
    "an absolute path": zipped([RUN, ("/tmp/x", b"x")]),
    "a path out of a checkpoint": zipped([RUN, ("checkpoints/step_1/../../x.safetensors", b"x")]),
    "code": zipped([RUN, ("policy.py", b"import os")]),
    "a pickle": zipped([RUN, ("checkpoints/step_1/model.pkl", b"x")]),
    "a link": zipped([RUN, (link("config.json"), b"/etc/passwd")]),
    "a bomb": zipped([RUN, ("report.html", b"0" * (40 << 20))]),
    "a large packing": zipped([RUN], zipfile.ZIP_LZMA),
    "many files": zipped([RUN, *((f"checkpoints/step_{i}/a.safetensors", b"") for i in range(100))]),
    "names that differ in case": zipped(
        [RUN, ("checkpoints/step_1/a.safetensors", b""), ("checkpoints/step_1/A.safetensors", b"")]
    ),
    "no run": zipped([("config.json", b"{}")]),
    "a size that is not true": lying(zipped([("run.json", b"{}" * 500)])),
    "no zip": b"no zip",
    "nothing": b"",
    "a torn file": archive.pack(SOUND)[:-40],
    "the large form": archive.pack(SOUND)[:-22] + b"PK\x06\x07" + b"\0" * 16 + archive.pack(SOUND)[-22:],
}


def test_what_is_packed_is_unpacked_and_equal_files_give_equal_bytes(tmp_path):
    data = archive.pack(SOUND)
    assert data == archive.pack(dict(reversed(SOUND.items())))
    (tmp_path / "a.zip").write_bytes(data)
    with archive.folder_of(tmp_path / "a.zip") as place:
        assert {
            str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*.*") if path.is_file()
        } == SOUND
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not place.exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_rejected_in_a_sentence(name, tmp_path):
    (tmp_path / "a.zip").write_bytes(HOSTILE[name])
    with pytest.raises(RejectedInput, match=r"was rejected: .+"), archive.folder_of(tmp_path / "a.zip"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_link_and_a_file_that_is_not_there_are_rejected(tmp_path):
    (tmp_path / "b.zip").write_bytes(archive.pack(SOUND))
    (tmp_path / "a.zip").symlink_to(tmp_path / "b.zip")
    for name in ("a.zip", "c.zip"):
        with pytest.raises(RejectedInput), archive.folder_of(tmp_path / name):
            pass


def test_a_folder_stays_as_it_is(tmp_path):
    with archive.folder_of(tmp_path) as place:
        assert place is tmp_path


def test_other_files_are_not_published():
    with pytest.raises(UsageError, match="cannot be published"):
        archive.pack({"run.json": b"", ".netrc": b""})
