"""List and read the files of a folder, a zip or a tar archive, all three alike.

Nothing is ever unpacked to the disk, so that no name in an archive can lead out of it.
"""
import errno
import hashlib
import os
import pathlib
import posixpath
import tarfile
import zipfile

from system import machine
from system.command_line import InputError, first_line
from system.files import BEYOND_MEMORY, regular

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LARGEST_FILE = 1 << 31  # bytes of one file; a small archive can promise far more
SMALL_FILE = 1 << 20  # bytes for which nobody asks how much memory is free, which takes a while


def is_hidden(name):
    """Return whether a part of a path is of a program's own: ".ipynb_checkpoints", "@eaDir"."""
    return any(part[:1] in (".", "@") or part == "__MACOSX" for part in name.split("/"))


class Tree:
    """The files below a path, hidden ones left out.

    files: their names, parts separated by "/", in the order in which they are best read; folders:
    the names of all folders, empty ones too.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.files, self.folders = [], set()
        self._sizes, self._archive = {}, None

    def _add(self, name, size):
        if not is_hidden(name):
            if name in self._sizes:  # of a name that is twice in an archive the last is the one
                self.files.remove(name)
            self.files.append(name)
            self._sizes[name] = size
            self._add_folder(name.rpartition("/")[0])

    def _add_folder(self, name):
        while name and name not in self.folders and not is_hidden(name):
            self.folders.add(name)
            name = name.rpartition("/")[0]

    def read(self, name):
        """Return the content of a file; InputError that names it if it cannot be read."""
        if self._sizes[name] > LARGEST_FILE:
            raise InputError(f"{self.path}: {name} would be {self._sizes[name]:,} bytes; a file "
                             f"may have {LARGEST_FILE:,}")
        self.check([name])
        try:
            return self._read(name)
        except Exception as error:  # whatever a decompressor says of damage
            raise InputError(f"{self.path}: {name} cannot be read ({first_line(error)})") from error

    def check(self, names):
        """Raise InputError if some files, and what is made of them, do not fit into memory."""
        size = sum(self._sizes[name] for name in names)
        if size > SMALL_FILE:
            machine.check_memory(2 * size, f"{self.path}: reading "
                                 f"{names[0] if len(names) == 1 else f'{len(names):,} files'}",
                                 BEYOND_MEMORY)

    def key(self, names):
        """Return a SHA-256 of the names and contents of some files, of an archive of all of it."""
        digest = hashlib.sha256()
        try:
            if self._archive:
                with open(self.path, "rb") as content:
                    return hashlib.file_digest(content, "sha256").hexdigest()
            for name in names:
                digest.update(f"{name}\0{self._sizes[name]}\0".encode(errors="surrogateescape"))
                with open(self.path / name, "rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise InputError(f"{error.filename or self.path}: cannot be read ({first_line(error)})"
                             ) from error
        return digest.hexdigest()


class _Folder(Tree):
    def __init__(self, path):
        super().__init__(path)
        if not os.access(path, os.R_OK | os.X_OK):
            raise InputError(f"{path}: this folder may not be read")
        if os.path.realpath(path) == "/":
            raise InputError(f"{path} is every file of this machine; name the images' folder")
        self._walk("", (os.path.realpath(path),))
        self.files.sort()

    def _walk(self, prefix, above):
        """Add what is below; a link to one of the folders above, or to nothing, is not followed."""
        with os.scandir(self.path / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if is_hidden(name):
                    continue
                try:
                    if entry.is_file():
                        self._add(name, entry.stat().st_size)
                    elif entry.is_dir():
                        real = os.path.realpath(entry.path)
                        self._add_folder(name)
                        if real not in above:
                            self._walk(f"{name}/", (*above, real))
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise InputError(f"{entry.path}: cannot be read ({first_line(error)}); "
                                         "make it readable, or move it elsewhere") from error

    def _read(self, name):
        return (self.path / name).read_bytes()


class _File(Tree):
    """A single file, and its neighbours for those who ask for them."""

    def __init__(self, path):
        super().__init__(path.parent)
        for file in sorted(path.parent.iterdir()):
            if file.is_file():
                self._add(file.name, file.stat().st_size)
        self._sizes[path.name] = path.stat().st_size  # of a hidden one too
        self.neighbours, self.files = self.files, [path.name]

    def _read(self, name):
        return (self.path / name).read_bytes()


class _Zip(Tree):
    def __init__(self, path):
        super().__init__(path)
        self._archive = zipfile.ZipFile(path)
        self._infos = {}
        for info in self._archive.infolist():
            name = _plain(info.filename)
            if info.is_dir() or name.endswith("/"):
                self._add_folder(name.rstrip("/"))
            else:
                self._infos[name] = info
                self._add(name, info.file_size)

    def _read(self, name):
        return self._archive.read(self._infos[name])


class _Tar(Tree):
    def __init__(self, path):
        super().__init__(path)
        self._archive = tarfile.open(path)
        self._infos, links = {}, {}
        for info in self._archive:
            name = _plain(info.name)
            if info.isdir():
                self._add_folder(name)
            elif info.isreg():
                links.pop(name, None)
                self._infos[name] = info
                self._add(name, info.size)
            elif info.issym():
                links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name),
                                                                info.linkname))
            elif info.islnk():
                links[name] = _plain(info.linkname) if ".." not in info.linkname else "/"
        self._follow(links)

    def _follow(self, links):
        """Add the files that links {name: target in the archive} name. InputError for a link to
        anything else: out of the archive, or to a folder, of which a few could hold any number."""
        for name, target in links.items():
            for _ in range(40):  # links to links, as far as Linux follows them
                target = links.get(target, target)
            if target in self._infos:
                self._infos[name] = self._infos[target]
                self._add(name, self._infos[name].size)
            elif not is_hidden(name):
                raise InputError(f"{self.path}: {name} is a link to no file in it; pack what it "
                                 "leads to with tar --dereference")

    def _read(self, name):
        return self._archive.extractfile(self._infos[name]).read()


def _plain(name):
    """Return a name in an archive with "/" between its parts, as some Windows tools do not, and
    without "." or ".." or a drive, which would lead out of it."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) + "/" * name.endswith("/")


def is_archive(name):
    """Return whether a file's name ends like an archive's."""
    return name.lower().endswith(ARCHIVES)


def content_key(path):
    """Return a SHA-256 of a file's content, or of the names and contents of a folder's files."""
    if path.is_dir():
        tree = _Folder(path)
        return tree.key(tree.files)
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def open_tree(path):
    """Return the Tree of a folder, zip or tar archive, or of a single file of another kind.

    Raises InputError if it is a damaged archive, a pipe or device, or may not be read.
    """
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            return _Folder(path)
        with open(regular(path), "rb") as stream:
            start = stream.read(512)
        if start[:2] == b"PK" or path.suffix.lower() == ".zip":
            return _Zip(path)
        if is_archive(path.name) or start[257:262] == b"ustar":
            return _Tar(path)
        return _File(path)
    except InputError:
        raise
    except Exception as error:  # whatever a decompressor says of damage
        raise InputError(f"{path}: not a zip or tar archive, or a damaged one; copy it anew "
                         f"({first_line(error)})") from error
