"""Which file system a file lies on: on those of a network, locks do not hold and no change is
told."""

from __future__ import annotations

__all__ = ["file_system", "mounts", "remote_kind"]

# where locks or shared memory do not hold between all who see the file
_REMOTE = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "lustre",
    "beegfs",
    "glusterfs",
    "9p",
}
_REMOTE_FUSE = {
    "sshfs",
    "ceph",
    "glusterfs",
    "s3fs",
    "rclone",
    "davfs",
    "davfs2",
    "gcsfuse",
    "juicefs",
    "smbnetfs",
}


def remote_kind(path: str, mounts: str) -> str | None:
    """The type of the network file system that `path` lies on, by the lines of
    /proc/mounts; None for a local one."""
    kind = file_system(path, mounts)
    driver, _, fuse = kind.partition(".")
    return kind if driver in _REMOTE or (driver == "fuse" and fuse in _REMOTE_FUSE) else None


def file_system(path: str, mounts: str) -> str:
    """The type of the file system that `path`, in whole and without links, lies on; "" where the
    lines do not tell."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].encode().decode("unicode_escape") if "\\" in fields[1] else fields[1]
        inside = point == "/" or path == point or path.startswith(f"{point}/")
        # the last mount on one point is the one that is seen
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def mounts() -> str:
    """The lines of /proc/mounts; "" where there are none."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
