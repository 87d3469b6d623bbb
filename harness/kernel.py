# SPDX-License-Identifier: GPL-2.0
"""Build kernels: a source tree, this repository laid over it, and integrate/.

Runs inside the tool root, where the cache is /cache:

    /cache/tree/<key>/linux       the tree that is built
    /cache/tree/<key>/pristine    the original of each file that we change in it
    /cache/tree/<key>/state.json  the names of these files, and the state of the tree
    /cache/build/<flavour>-<key>  make's O=, with a stamp of everything it depends on

A file of the tree is written only if its content changes, so that make rebuilds
no more than what depends on it.

    python3 -m harness.kernel base              print the path of the image
    python3 -m harness.kernel base -- COMMAND   exec COMMAND; until it ends, no other
                                                run changes this kernel
"""

import bisect
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.arch import ARCHES
from harness.progress import Step, say

REPO = Path(__file__).resolve().parent.parent
CACHE = Path("/cache")
LOGS = CACHE / "log"
KERNEL_SRC = Path("/kernel-src")

# The kernels: {flavour: (architecture, fragments of harness/config)}
FLAVOURS = {"base": ("x86-64", ["common", "x86-64"]),
            "debug": ("x86-64", ["common", "x86-64", "debug"]),
            "arm64": ("arm64", ["common", "arm64"]),
            "arm64-tags": ("arm64", ["common", "arm64", "arm64-tags"]),
            "arm": ("arm", ["common", "arm"]),
            "ppc64le": ("ppc64le", ["common", "ppc64le"])}
# The kernel that tests of an architecture need first.
FIRST = {"x86-64": "base"} | {name: name for name in ARCHES if name in FLAVOURS}
# Steps of a build from scratch, for progress if no earlier build left its count.
STEPS = {"base": 2650, "debug": 2750, "arm64": 2500,
         "arm64-tags": 2200, "arm": 2100, "ppc64le": 2100}
# The folders of the repository that are laid over the kernel tree.
OVERLAY = ("drivers", "kernel", "block", "include", "rust", "samples", "Documentation")
# A build does not depend on these.
UNBUILT = ("Documentation",)
LEFTOVERS = ("*.swp", "*~", "*.orig", "*.rej", "*.pyc")

MAKE_ENV = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 2026",
    "KBUILD_BUILD_USER": "dma-phys",
    "KBUILD_BUILD_HOST": "dma-phys",
    "KBUILD_BUILD_VERSION": "1",
}


class BuildError(Exception):
    """A kernel cannot be built; the text is for the user."""


def host_path(path):
    """The path outside the tool root of a path inside it."""
    path = str(path)
    for inside, name in ((CACHE, "DMA_PHYS_HOST_CACHE"),
                         (REPO, "DMA_PHYS_HOST_REPO"),
                         (KERNEL_SRC, "DMA_PHYS_HOST_KERNEL_SRC")):
        outside = os.environ.get(name)
        if outside and (path == str(inside) or path.startswith(f"{inside}/")):
            return outside + path[len(str(inside)):]
    return path


def _hash(*parts):
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:16]


def _write(path, data):
    """Write a file atomically, and only if its content differs."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    if path.exists():
        shutil.copymode(path, new)
    new.rename(path)


# --- sources ------------------------------------------------------------------

def supported():
    """The kernel versions that have a folder in integrate/."""
    return sorted(path.name for path in (REPO / "integrate").iterdir())


def _version(makefile):
    found = dict(re.findall(r"^(VERSION|PATCHLEVEL) = (\d+)$", makefile, re.M))
    return f"{found.get('VERSION')}.{found.get('PATCHLEVEL')}"


def _check_supported(version, what):
    if version not in supported():
        raise BuildError(f"{what} is Linux {version}, "
                         f"supported is {', '.join(supported())}")


@functools.cache
def _toolchain():
    """The versions of the compilers: another version needs a build of its own."""
    tools = ("clang --version", "ld.lld --version", "rustc --version --verbose",
             "bindgen --version")
    return "".join(subprocess.run(tool.split(), check=True, text=True,
                                  capture_output=True).stdout for tool in tools)


class DebianSource:
    """The source archive of Debian's package, in the tool root."""

    def __init__(self):
        archives = {}
        for path in Path("/usr/src").glob("linux-source-*.tar.*"):
            match = re.fullmatch(r"linux-source-([\d.]+)\.tar\.\w+", path.name)
            if match:
                archives[match[1]] = path
        usable = [version for version in archives if version in supported()]
        if not usable:
            raise BuildError(
                "Debian's backports have Linux "
                f"{', '.join(sorted(archives)) or '(none)'}, supported is "
                f"{', '.join(supported())}: set KERNEL_SRC= to a kernel tree")
        self.version = max(usable, key=lambda v: [*map(int, v.split("."))])
        self.archive = archives[self.version]
        stat = self.archive.stat()
        self.name = f"Linux {self.version} of Debian"
        self.key = _hash(self.archive.name, stat.st_size, stat.st_mtime_ns)

    def fingerprint(self):
        """Nothing more than the key, which names the archive."""
        return ""

    def fill(self, tree):
        """Unpack. Progress is the file offset, which tar shares with us."""
        tree.mkdir(parents=True)
        with Step(f"unpacking {self.name}") as step, \
                self.archive.open("rb") as archive:
            size = self.archive.stat().st_size
            unpack = _spawn(
                ["tar", "-x", f"--{self.archive.suffix[1:]}",
                 "--strip-components=1", "-C", tree], stdin=archive)
            with _terminated(unpack):
                while unpack.poll() is None:
                    step.now(f"{archive.seek(0, os.SEEK_CUR) * 100 // size}%")
                    time.sleep(0.1)
            if unpack.returncode:
                raise BuildError(f"{self.archive.name} cannot be unpacked")

    def refresh(self, tree):
        """Nothing to do: the archive never changes."""


class GivenSource:
    """The tree that KERNEL_SRC names. It is read-only."""

    def __init__(self):
        outside = host_path(KERNEL_SRC)
        self.version = _version((KERNEL_SRC / "Makefile").read_text())
        _check_supported(self.version, outside)
        self.name = f"Linux {self.version} of {outside}"
        self.key = _hash("given", outside)

    @functools.cache
    def fingerprint(self):
        """A hash of all names, sizes and times."""
        listed = subprocess.run(
            ["find", ".", "-name", ".git", "-prune", "-o", "-type", "f",
             "-printf", r"%p %s %T@\n"],
            cwd=KERNEL_SRC, check=True, capture_output=True)
        return _hash(b"\n".join(sorted(listed.stdout.splitlines())))

    def fill(self, tree):
        tree.mkdir(parents=True)
        self._copy(tree)

    def refresh(self, tree):
        self._copy(tree)

    def _copy(self, tree):
        # Compare by content and do not copy times: an unchanged file keeps its
        # time, and a changed one is newer than what make has built from it.
        run(["rsync", "-rlp", "--checksum", "--delete", "--exclude=/.git",
             "--exclude=*.o", "--exclude=*.a", "--exclude=*.ko",
             "--exclude=/vmlinux*", f"{KERNEL_SRC}/", f"{tree}/"],
            "copy", f"copying {self.name}")
        if (tree / ".config").exists() or (tree / "include/config").exists():
            # A tree that was built in place cannot be built with O=.
            run(["make", "-C", tree, "LLVM=1", "mrproper"],
                "mrproper", "cleaning the copy")


def _source():
    if os.environ.get("DMA_PHYS_HOST_KERNEL_SRC"):
        return GivenSource()
    return DebianSource()


def _spawn(command, **streams):
    """Start a worker. It ends with us, and holds our locks as long as it runs."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *map(str, command)],
        env=os.environ | MAKE_ENV, start_new_session=True,
        pass_fds=_locks.descriptors(), **{"stdin": subprocess.DEVNULL, **streams})


@contextlib.contextmanager
def _terminated(worker):
    """At the end of the block the worker and its children are terminated."""
    try:
        yield
    finally:
        if worker.poll() is None:
            _terminate(worker)


def _terminate(worker):
    """Terminate the process group. On SIGTERM make removes unfinished files."""
    deadline = time.monotonic() + 20
    number = signal.SIGTERM
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(worker.pid, number)
            worker.poll()
            time.sleep(0.1)
            number = 0
            if time.monotonic() > deadline:
                number = signal.SIGKILL


def run(command, name, what=None, failure=""):
    """Run a command with its output in a log: the path of the log."""
    log = LOGS / f"{name}.log"
    with Step(what) if what else contextlib.nullcontext() as step, \
            log.open("w") as out:
        worker = _spawn(command, stdout=out, stderr=subprocess.STDOUT)
        with _terminated(worker):
            while step and worker.poll() is None:
                step.now("")
                time.sleep(0.1)
            worker.wait()
        if worker.returncode:
            raise BuildError(explain(log, failure or f"{command[0]} failed"))
    return log


ERROR = re.compile(r"\berror(\[E\d+\])?: |undefined symbol|^ERROR: |"
                   r"^Error: |^Hunk .* FAILED|\bNo rule to make |\bNo space left ")


def explain(log, what):
    """A message with the first errors of a log and the lines after them."""
    # Shorten paths in the tree to paths in the repository.
    lines = re.sub(rf"{CACHE}/tree/\w+/linux/", "",
                   log.read_text(errors="replace")).splitlines()
    errors = [number for number, line in enumerate(lines) if ERROR.search(line)]
    numbers = sorted({number for error in errors[:3]
                      for number in range(error, error + 7)
                      if number < len(lines)
                      and not lines[number].startswith("make")})
    shown = [lines[number] for number in numbers] or lines[-8:]
    return "\n".join([f"{what}:", *shown, f"the full log: {host_path(log)}"])


# --- the tree ------------------------------------------------------------------

def _overlay():
    """The files that the repository lays over a kernel tree: {path: content}"""
    return {str(path.relative_to(REPO)): path.read_bytes()
            for top in OVERLAY for path in sorted((REPO / top).rglob("*"))
            if path.is_file()
            and not any(path.match(pattern) for pattern in LEFTOVERS)}


def _patches(version):
    return sorted((REPO / "integrate" / version).glob("*.patch"))


def _patched_paths(patches):
    """The paths in the tree of the files that patches change."""
    names = re.findall(r"^(?:---|\+\+\+) [ab]/(\S+)",
                       "\n".join(path.read_text() for path in patches), re.M)
    return sorted(set(names))


class Tree:
    """A kernel tree in the cache, with the repository laid over it."""

    lock = "kernel-tree"

    def __init__(self, source):
        self.source = source
        self.home = CACHE / "tree" / source.key
        self.linux = self.home / "linux"
        self.overlay = _overlay()
        self.patches = _patches(source.version)
        self.content = _hash(*(part for item in self.overlay.items()
                               for part in item),
                             *(path.read_bytes() for path in self.patches))

    def inputs(self):
        """A hash of everything that a build of this tree depends on."""
        return _hash(self.source.key, self.source.fingerprint(),
                     *(part for name, data in self.overlay.items()
                       if not name.startswith(UNBUILT)
                       for part in (name, data)),
                     *(path.read_bytes() for path in self.patches))

    def config_inputs(self):
        """A hash of everything that its configuration depends on."""
        return _hash(self.source.fingerprint(),
                     *(data for name, data in self.overlay.items()
                       if "Kconfig" in name),
                     *(path.read_bytes() for path in self.patches))

    def is_current(self):
        """Whether the tree has the present source, overlay and patches."""
        state = self._state()
        return (state.get("content") == self.content
                and state.get("fingerprint") == self.source.fingerprint())

    def update(self):
        """Make it current. If this is interrupted, the next run completes it."""
        if self.is_current():
            return
        if not self.home.exists():
            self._make()
        state = self._state()
        if state["fingerprint"] != self.source.fingerprint():
            state = self._refresh()
        touched = set(state["touched"])
        new = set(self.overlay) | set(_patched_paths(self.patches))
        for name in sorted(new - touched):
            self._keep_original(name)
        touched |= new
        # Until the next record the tree is neither the old state nor the new one.
        self._record(touched, state["fingerprint"], "")
        wanted = self._patched() | self.overlay
        for name in sorted(touched):
            self._put(name, wanted)
        self._record(touched, state["fingerprint"], self.content)

    def _state(self):
        try:
            return json.loads((self.home / "state.json").read_text())
        except FileNotFoundError:
            return {}

    def _record(self, touched, fingerprint, content, home=None):
        _write((home or self.home) / "state.json", json.dumps(
            {"touched": sorted(touched), "fingerprint": fingerprint,
             "content": content}, indent=1).encode())

    def _make(self):
        new = self.home.with_name(self.home.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        fingerprint = self.source.fingerprint()
        self.source.fill(new / "linux")
        self._record([], fingerprint, "", new)
        # If the machine crashes, the name must not exist without its files.
        os.sync()
        new.rename(self.home)

    def _refresh(self):
        """The source has changed: revert our changes, then copy it again."""
        state = self._state()
        self._record(state["touched"], "", "")
        for name in state["touched"]:
            self._put(name, {})
        shutil.rmtree(self.home / "pristine", ignore_errors=True)
        self._record([], "", "")
        fingerprint = self.source.fingerprint()
        self.source.refresh(self.linux)
        self._record([], fingerprint, "")
        return self._state()

    def _keep_original(self, name):
        original = self.home / "pristine" / name
        with contextlib.suppress(FileNotFoundError):
            original.unlink()
        if (self.linux / name).exists():
            _write(original, (self.linux / name).read_bytes())

    def _put(self, name, wanted):
        """Write a wanted file. Restore or remove one that is not wanted."""
        original = self.home / "pristine" / name
        if name in wanted:
            _write(self.linux / name, wanted[name])
        elif original.exists():
            _write(self.linux / name, original.read_bytes())
        else:
            (self.linux / name).unlink(missing_ok=True)

    def _patched(self):
        """The originals with integrate/ applied to them: {path: content}"""
        scratch = self.home / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        names = _patched_paths(self.patches)
        for name in names:
            original = self.home / "pristine" / name
            if original.exists():
                _write(scratch / name, original.read_bytes())
        for patch in self.patches:
            run(["patch", "--batch", "--forward", "--fuzz=0", "-p1",
                 "-d", scratch, "-i", patch], "integrate",
                failure=f"cannot apply {patch.relative_to(REPO)}")
        return {name: (scratch / name).read_bytes() for name in names
                if (scratch / name).exists()}


# --- builds --------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel that is built."""

    flavour: str
    src: Path
    build: Path

    @property
    def arch(self):
        return ARCHES[FLAVOURS[self.flavour][0]]

    @property
    def image(self):
        return self.build / self.arch.image

    @property
    def modules(self):
        """The module files, in the order of modules.order."""
        listed = (self.build / "modules.order").read_text().split()
        return [(self.build / name).with_suffix(".ko") for name in listed]

    def symbol(self, address):
        """An address as function+offset. Functions of modules are not known."""
        lines = (self.build / "System.map").read_text().splitlines()
        symbols = sorted((int(start, 16), name)
                         for start, kind, name in map(str.split, lines)
                         if kind in "tT")
        number = bisect.bisect(symbols, address, key=lambda symbol: symbol[0])
        if not 0 < number < len(symbols):
            return hex(address)
        start, name = symbols[number - 1]
        return f"{name}+{address - start:#x}"

    @property
    def pristine(self):
        """The folder with the original of each file that we change in the tree."""
        return self.src.parent / "pristine"

    def changed(self):
        """The paths of the files whose content we change."""
        names = (str(path.relative_to(self.pristine))
                 for path in self.pristine.rglob("*") if path.is_file())
        return sorted(name for name in names
                      if (self.pristine / name).read_bytes()
                      != (self.src / name).read_bytes())

    @property
    def release(self):
        return (self.build / "include/config/kernel.release") \
            .read_text().strip()

    def config(self, name):
        """Whether an option is set, built in or as a module."""
        return bool(re.search(rf"^CONFIG_{name}=(?!n$)",
                              (self.build / ".config").read_text(), re.M))


@functools.cache
def fragment(flavour):
    """The options of a flavour: {name: value}. The last fragment has priority."""
    wanted = {}
    for name in FLAVOURS[flavour][1]:
        text = (REPO / f"harness/config/{name}.config").read_text()
        wanted |= dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.M))
    return wanted


def has(flavour, option):
    """Whether a flavour asks for an option, built in or as a module."""
    return fragment(flavour).get(f"CONFIG_{option}", "n") != "n"


class Build:
    """The build directory of a flavour."""

    def __init__(self, tree, flavour):
        self.tree = tree
        self.flavour = flavour
        self.lock = f"kernel-{flavour}"
        self.wanted = fragment(flavour)
        self.dir = CACHE / "build" / \
            f"{flavour}-{_hash(tree.source.key, _toolchain())}"
        self.stamp = self.dir / "dma-phys.stamp"
        self.unfinished = self.dir / "dma-phys.unfinished"
        self.inputs = _hash(tree.inputs(), _toolchain(), MAKE_ENV,
                            sorted(self.wanted.items()))
        # Exists once a build was complete; the number of its steps.
        self.complete = self.dir / "dma-phys.complete"
        self.counted = CACHE / "build" / f"{flavour}.steps"
        self.config_inputs = tree.config_inputs() + self.dir.name + \
            _hash(sorted(self.wanted.items()))
        self.kernel = Kernel(flavour, tree.linux, self.dir)

    def is_current(self):
        """Whether it is a complete build of the present inputs."""
        return (self.stamp.exists() and self.kernel.image.exists()
                and self.stamp.read_text() == self.inputs)

    def update(self):
        """Make it current."""
        if self.is_current():
            return
        self.dir.mkdir(parents=True, exist_ok=True)
        self._repair()
        self.stamp.unlink(missing_ok=True)
        self.unfinished.touch()
        try:
            self._configure()
            self._make()
        finally:
            # Make has ended and has removed unfinished files.
            self.unfinished.unlink()
        _write(self.stamp, self.inputs.encode())

    def _repair(self):
        """If a build was killed, remove what it wrote in its last minutes.

        A file may be incomplete, and make would not notice.
        """
        if not self.unfinished.exists():
            return
        files = [(path, path.lstat()) for path in self.dir.rglob("*")
                 if not path.is_dir() or path.is_symlink()]
        last = max(stat.st_mtime for _, stat in files)
        for path, stat in files:
            if stat.st_mtime > last - 300:
                path.unlink()

    def _command(self, *arguments):
        return ["make", "-C", self.tree.linux, f"O={self.dir}", "LLVM=1",
                *self.kernel.arch.make, *arguments]

    def _configure(self):
        configured = self.dir / "dma-phys.configured"
        if ((self.dir / ".config").exists() and configured.exists()
                and configured.read_text() == self.config_inputs):
            return
        configured.unlink(missing_ok=True)
        self._write_config()
        _write(configured, self.config_inputs.encode())

    def _write_config(self):
        fragment = self.dir / "dma-phys.config"
        _write(fragment, "".join(f"{name}={value}\n" for name, value
                                 in self.wanted.items()).encode())
        run(self._command(f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"),
            f"config-{self.flavour}", f"configuring kernel {self.flavour}")
        set_now = dict(re.findall(r"^(CONFIG_\w+)=(.*)$",
                                  (self.dir / ".config").read_text(), re.M))
        lost = [f"{name}={value}" for name, value in self.wanted.items()
                if value != "n" and set_now.get(name) != value]
        if lost:
            raise BuildError(
                f"kernel {self.flavour}: Kconfig does not allow "
                f"{' '.join(lost)}; see harness/config/ and "
                f"{host_path(LOGS / f'config-{self.flavour}.log')}")

    def _make(self):
        log = LOGS / f"kernel-{self.flavour}.log"
        jobs = len(os.sched_getaffinity(0))
        command = self._command(f"-j{jobs}", "--output-sync=target",
                                self.kernel.arch.target, "modules")
        done, expected = self._steps()
        with Step(f"building kernel {self.flavour}") as step:
            code, done = _follow(command, log, step, done, expected)
            if code:
                raise BuildError(explain(log, f"kernel {self.flavour} "
                                              "cannot be built"))
        if expected:
            _write(self.counted, str(done).encode())
            self.complete.touch()

    def _steps(self):
        """(steps done, steps expected); (0, 0) if the number is not known."""
        if self.complete.exists():
            return 0, 0
        # Each step of an interrupted build has left a file with its command.
        done = sum(1 for _ in self.dir.rglob(".*.cmd"))
        with contextlib.suppress(FileNotFoundError, ValueError):
            return done, int(self.counted.read_text())
        return done, STEPS[self.flavour]


def _follow(command, log, step, done, expected):
    """Run make and add its steps to done: (exit code, steps)"""
    last = ""
    worker = _spawn(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with _terminated(worker), log.open("wb") as out, \
            selectors.DefaultSelector() as ready:
        ready.register(worker.stdout, selectors.EVENT_READ)
        rest = b""
        while True:
            if ready.select(timeout=1):
                data = os.read(worker.stdout.fileno(), 65536)
                if not data:
                    break
                out.write(data)
                *lines, rest = (rest + data).split(b"\n")
                # "  CC      kernel/dma/mapping.o"
                steps = [line for line in lines
                         if re.match(rb"  [A-Z]+ ", line)]
                done += len(steps)
                if steps:
                    last = steps[-1].decode(errors="replace").split()[-1]
                    last = last.removeprefix(f"{CACHE}/build/")
            share = min(done * 100 // expected, 99) if expected else 0
            step.now((f"{share}%, {done} of about {expected} steps, "
                      if expected else f"{done} steps, ") + last)
        worker.wait()
    return worker.returncode, done


# --- locks -------------------------------------------------------------------------

class _Locks:
    """File locks on the tree and on each build: shared by users, else exclusive.

    Workers inherit them, so that a lock is held until the last worker of a run
    that was killed has ended.
    """

    def __init__(self):
        self._files = {}
        for entry in os.environ.get("DMA_PHYS_LOCKS", "").split():
            name, number = entry.split("=")
            self._files[name] = int(number)

    def take(self, name, how):
        """Lock. If this had to wait, return False with nothing locked."""
        if name not in self._files:
            self._files[name] = os.open(CACHE / f"{name}.lock",
                                        os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._files[name], how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            say(f"another run uses the {name} in this cache; waiting for it")
        # Waiting with a lock held could deadlock.
        for number in self._files.values():
            fcntl.flock(number, fcntl.LOCK_UN)
        fcntl.flock(self._files[name], how)
        fcntl.flock(self._files[name], fcntl.LOCK_UN)
        return False

    def descriptors(self):
        return list(self._files.values())

    def keep_over_exec(self):
        for number in self.descriptors():
            os.set_inheritable(number, True)
        os.environ["DMA_PHYS_LOCKS"] = " ".join(
            f"{name}={number}" for name, number in self._files.items())


_locks = _Locks()
_built = {}


def _update_first(parts):
    """Update the first part that is not current: False if all are, and locked."""
    for part in parts:
        if not _locks.take(part.lock, fcntl.LOCK_SH):
            return True
        if not part.is_current():
            if _locks.take(part.lock, fcntl.LOCK_EX):
                part.update()
            return True
    return False


def build(flavour="base"):
    """The kernel of a flavour, built from the present state of the repository.

    Until the process ends, no other run changes it.
    """
    if flavour not in FLAVOURS:
        raise BuildError(f"there is no kernel '{flavour}'")
    if flavour not in _built:
        LOGS.mkdir(parents=True, exist_ok=True)
        (CACHE / "build").mkdir(exist_ok=True)
        tree = Tree(_source())
        builds = [Build(tree, name) for name in sorted({flavour, *_built})]
        while _update_first([tree, *builds]):
            pass
        _built.update({part.flavour: part.kernel for part in builds})
    return _built[flavour]


def environment(kernel):
    """The variables that pass a kernel to other programs."""
    return {"DMA_PHYS_SRC": str(kernel.src),
            _variable(kernel.flavour): str(kernel.build)}


def _variable(flavour):
    name = flavour.upper().replace("-", "_")
    return "DMA_PHYS_BUILD" + ("" if flavour == "base" else f"_{name}")


def from_environment(flavour="base"):
    """The kernel that the variables of environment() name, or None."""
    build_dir = os.environ.get(_variable(flavour))
    if not build_dir:
        return None
    return Kernel(flavour, Path(os.environ["DMA_PHYS_SRC"]), Path(build_dir))


def exit_on_signals():
    """On SIGTERM and SIGHUP exit with an exception, so that cleanup runs."""
    def stop(number, _frame):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def main(flavour, dashes=None, *command):
    """See the top of this file."""
    exit_on_signals()
    try:
        kernel = build(flavour)
    except BuildError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    if dashes is None:
        print(host_path(kernel.image))
        return 0
    _locks.keep_over_exec()
    os.environ.update(environment(kernel))
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
