# SPDX-License-Identifier: GPL-2.0
"""The module for stock kernels: build it against Debian's headers, and run it there.

    python3 -m harness.module [VERSION...]  build, boot Debian's image, print tables
    python3 -m harness.module --rst         print the table of the documentation
    python3 -m harness.module deb           make the DKMS package, print its path

Runs inside the tool root, where the cache is /cache:

    /cache/module/apt/<suite>       lists and archives of apt
    /cache/module/<release>/headers the unpacked headers, with paths that fit
    /cache/module/<release>/image   the unpacked image and its modules
    /cache/module/<release>/build   the tree that is built, see module/Makefile
"""

import concurrent.futures
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from harness import arch as arches
from harness import demo, oracle, vm
from harness import kernel as kernels
from harness.progress import Step, say

MODULE = kernels.REPO / "module"
CACHE = kernels.CACHE / "module"
# The suites of Debian that have a version, the preferred one first.
SUITES = {"7.3": ("trixie-backports",), "7.2": ("forky", "sid"),
          "6.12": ("trixie",)}
OURS = ("dma_phys", "edu_phys", "edu_peer_phys", "nvme_phys")
# Debian's drivers, in the order in which a guest loads those that are no part of
# its kernel: the file systems of old kernels need a driver for CRC32C.
DRIVERS = ("crc32c_generic", "9pnet_virtio", "9p", "ext4", "xfs", "nvme_core", "nvme")

# What a module has of a stock kernel: {name: (flag of probe.sh, with it, without it)}
FEATURES = {
    "``dma_map_phys()``": ("HAVE_dma_map_phys", "the kernel's",
                       "from ``dma_map_page_attrs()`` and ``dma_map_resource()``"),
    "Memory without ``struct page``": (
        "HAVE_dma_map_phys", "yes",
        "direct route of a coherent device, else ``-EOPNOTSUPP``"),
    "A list behind an IOMMU": ("HAVE_dma_iova_try_alloc", "one IOVA",
                               "one IOVA through a scatterlist of memory, else one "
                               "a range"),
    "A list of bio vectors": ("HAVE_req_phys_gap_mask", "gaps of the block layer",
                              "gaps are computed"),
    "Metadata of programs": ("HAVE_BIP_CHECK_GUARD", "through ``io_uring``",
                             "no, only that of the block layer"),
    "Peers, P2P pages": ("HAVE_pcim_p2pdma_provider", "yes", "``-EOPNOTSUPP``"),
    "``dma:dma_map_phys`` event": ("EXPORTED_dma_map_phys_event", "all maps",
                                   "not of the direct fast path"),
}


class ModuleError(Exception):
    """A stock kernel cannot be had, or the module not be built."""


# --- Debian's packages ------------------------------------------------------------

class Apt:
    """Packages of another suite than that of the tool root, from the same mirror."""

    def __init__(self, suite):
        self.suite = suite
        self.dir = CACHE / "apt" / suite
        for name in ("lists/partial", "archives/partial"):
            (self.dir / name).mkdir(parents=True, exist_ok=True)
        text = "\n".join(path.read_text() for path in (
            pathlib.Path("/etc/apt/sources.list"),
            *pathlib.Path("/etc/apt/sources.list.d").glob("*.list")))
        mirror = re.search(r"^deb (?:\[.*?\] )?(\S+) trixie main", text, re.M)
        if not mirror:
            raise ModuleError("the tool root has no mirror of trixie")
        self.sources = self.dir / "sources.list"
        self.sources.write_text(f"deb [arch=amd64] {mirror[1]} {suite} main\n")

    def _run(self, *command, cwd=None):
        options = {"Dir::Etc::SourceList": self.sources,
                   "Dir::Etc::SourceParts": "-",
                   "Dir::State::Lists": self.dir / "lists",
                   "Dir::State::status": "/dev/null",
                   "Dir::Cache": self.dir, "APT::Sandbox::User": "root",
                   # A mirror may be a snapshot.
                   "Acquire::Check-Valid-Until": "false",
                   "Acquire::Languages": "none"}
        return subprocess.run(
            [command[0], *(f"-o{key}={value}" for key, value in options.items()),
             *command[1:]], cwd=cwd, text=True, capture_output=True, check=True
        ).stdout

    def update(self):
        self._run("apt-get", "update")

    def release(self):
        """The release that the suite's linux-image-amd64 stands for, or ""."""
        try:
            out = self._run("apt-cache", "depends", "linux-image-amd64")
        except subprocess.CalledProcessError:
            return ""
        found = re.search(r"Depends: linux-image-(\S+-amd64)$", out, re.M)
        return found[1] if found else ""

    def packages(self, root):
        """The headers or the image, and what they need, of the same release."""
        release = re.search(r"\d.*", root)[0].removesuffix("-amd64")
        out = self._run("apt-cache", "depends", "--recurse", "--important", root)
        names = set(re.findall(r"^(linux-\S+)$", out, re.M))
        kind = re.compile(r"linux-(headers|kbuild)-" if "-headers-" in root
                          else r"linux-(image|binary|modules)-")
        return sorted(name for name in names if release in name
                      and kind.match(name) and not name.endswith("-unsigned"))

    def unpack(self, names, directory):
        """Download packages and unpack them."""
        with tempfile.TemporaryDirectory(dir=self.dir) as archives:
            self._run("apt-get", "download", *names, cwd=archives)
            for archive in pathlib.Path(archives).glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", archive, directory], check=True)


class Stock:
    """A stock kernel of Debian: its headers, image and modules, and our modules."""

    flavour = "stock"
    arch = arches.ARCHES[arches.DEFAULT]

    def __init__(self, version):
        if version not in SUITES:
            raise ModuleError(f"there is no stock kernel {version}, only "
                              f"{', '.join(SUITES)}")
        self.version = version
        self.apt, self.release = self._find()
        self.dir = CACHE / self.release

    def _find(self):
        for suite in SUITES[self.version]:
            apt = Apt(suite)
            try:
                apt.update()
            except subprocess.CalledProcessError as error:
                say(f"{suite}: {error.stderr.strip().splitlines()[-1]}")
            release = apt.release()
            if release.startswith(f"{self.version}."):
                return apt, release
        raise ModuleError(f"Debian has no Linux {self.version} in "
                          f"{' or '.join(SUITES[self.version])}")

    def _fetch(self, name, finish):
        """The folder of unpacked headers or image; made once."""
        target = self.dir / name
        if not target.exists():
            new = self.dir / f"{name}.{os.getpid()}"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            with Step(f"fetching {name} of Linux {self.release}"):
                self.apt.unpack(
                    self.apt.packages(f"linux-{name}-{self.release}"), new)
            finish(new, target)
            try:
                new.rename(target)
            except OSError:     # another run was faster
                shutil.rmtree(new)
        return target

    # The headers.

    @functools.cached_property
    def headers(self):
        """What KDIR names."""
        root = self._fetch("headers", self._move_headers)
        return root / f"usr/src/linux-headers-{self.release}"

    def _move_headers(self, new, target):
        """Debian's makefile names the place where it would be installed."""
        makefile = new / f"usr/src/linux-headers-{self.release}/Makefile"
        makefile.write_text(makefile.read_text().replace("/usr/src/",
                                                         f"{target}/usr/src/"))

    def probed(self):
        """The flags that probe.sh defines."""
        source = self.headers.with_name(
            self.headers.name.removesuffix("amd64") + "common")
        out = subprocess.run(["sh", MODULE / "compat/probe.sh", source,
                              self.headers], text=True, capture_output=True,
                             check=True).stdout
        return {flag.removeprefix("-D") for flag in out.split()}

    def features(self):
        """{feature: what a module has}"""
        probed = self.probed()
        return {name: present if flag in probed else absent
                for name, (flag, present, absent) in FEATURES.items()}

    # The image.

    @functools.cached_property
    def _image(self):
        return self._fetch("image", lambda new, target: None)

    @property
    def image(self):
        found = [*self._image.glob("boot/vmlinuz-*"),
                 *self._image.glob("usr/lib/modules/*/vmlinuz")]
        return found[0]

    @functools.cached_property
    def _debian_modules(self):
        top = self._image / f"usr/lib/modules/{self.release}/kernel"
        return {path.name.partition(".")[0].replace("-", "_"): path
                for path in top.rglob("*.ko*")}

    @functools.cached_property
    def drivers(self):
        """Those of DRIVERS that are modules."""
        return [name for name in DRIVERS if name in self._debian_modules]

    @functools.cached_property
    def modules(self):
        """Our modules, and Debian's that guests load, all uncompressed."""
        plain = self.dir / "modules"
        plain.mkdir(exist_ok=True)
        files = [self.build / f"{name}.ko" for name in OURS
                 if (self.build / f"{name}.ko").exists()]
        todo = [*self.drivers]
        for name in todo:
            compressed = self._debian_modules[name]
            path = plain / f"{compressed.name.partition('.')[0]}.ko"
            if not path.exists():
                new = path.with_suffix(f".{os.getpid()}")
                with new.open("wb") as out:
                    subprocess.run(["xz", "-dc", compressed], stdout=out,
                                   check=True)
                new.rename(path)
            files.append(path)
            needed = subprocess.run(["modinfo", "-F", "depends", path], text=True,
                                    capture_output=True, check=True).stdout
            todo += [more for more in needed.strip().replace("-", "_").split(",")
                     if more and more not in todo]
        return files

    def config(self, name):
        """Whether an option is set, built in or as a module."""
        return bool(re.search(rf"^CONFIG_{name}=[ym]$",
                              (self.headers / ".config").read_text(), re.M))

    def symbol(self, address):
        """For messages of vm.VM: Debian's image has no table of symbols."""
        return hex(address)

    # The module.

    @property
    def build(self):
        return self.dir / "build"

    def make(self, tree, *arguments):
        """Build the modules in a tree: the output of make. Warnings of ours fail."""
        compiler = re.search(r"gcc-\d+",
                             (self.headers / ".kernelvariables").read_text())
        options = []
        if not (compiler and shutil.which(compiler[0])):
            # Headers that ask for more than this compiler has give a warning each.
            options = ["CC=gcc", "KCFLAGS=-Wno-attributes"]
        if not shutil.which("pahole"):
            options += ["CONFIG_DEBUG_INFO_BTF_MODULES="]
        result = subprocess.run(
            ["make", f"-j{len(os.sched_getaffinity(0))}", "-C", self.headers,
             f"M={tree}", *options, *arguments, "modules"],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        log = kernels.LOGS / f"module-{self.release}.log"
        log.write_text(result.stdout)
        if result.returncode:
            raise ModuleError(kernels.explain(
                log, f"the module cannot be built for Linux {self.release}"))
        return result.stdout

    def build_module(self):
        """Copy the sources, and build them: the warnings."""
        kernels.LOGS.mkdir(parents=True, exist_ok=True)
        with Step(f"building the module for Linux {self.release}"):
            make_tree(self.build)
            out = self.make(self.build)
            for name in OURS:
                if (self.build / f"{name}.ko").exists():
                    subprocess.run(["strip", "-g", self.build / f"{name}.ko"],
                                   check=True)
        return [line for line in out.splitlines()
                if "warning: " in line and "pahole version" not in line
                and "compiler differs" not in line]


def rst():
    """The table of the documentation: what each kernel has."""
    columns = [Stock(version).features() for version in SUITES]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in (["", *SUITES], *([name, *(column[name] for column in columns)]
                                   for name in FEATURES)):
        lines += [f"   {'*' if number == 0 else ' '} - {cell}".rstrip()
                  for number, cell in enumerate(cells)]
    return "\n".join(lines)


def make_tree(directory):
    """What DKMS has in /usr/src, see module/Makefile."""
    subprocess.run(["make", "-s", "-C", MODULE, "tree", f"O={directory}"],
                   check=True)


# --- machines -----------------------------------------------------------------

FILES = 40
# The samples report at this level.
APPEND = "loglevel=7"
PARTS = (demo.Part("direct", cpu="no IOMMU"),
         demo.Part("bounce", cpu="swiotlb=force"),
         demo.Part("intel-lazy", cpu="Intel IOMMU"))
PEER_PARTS = (demo.Part("p2p-bus", mmio="peers behind one switch"),
              demo.Part("p2p-bridge", mmio="peers through the host bridge"))


def _prepare(guest, kernel):
    """Load Debian's drivers, and mount the programs of the tool root."""
    for name in kernel.drivers:
        if not name.startswith("nvme"):
            guest.sh(f"load {name}")
    guest.sh("mount_usr")


def _unload(guest, names, before):
    """Unload all: problems, if anything is left."""
    for name in names:
        guest.sh(f"if [ -d /sys/module/{name} ]; then rmmod {name}; fi")
    problems = [f"{name} is still loaded" for name in names
                if guest.sh(f"ls -d /sys/module/{name} 2>/dev/null || :")]
    after = _bounce_slots(guest)
    if after != before:
        problems.append(f"{after} bounce slots in use, not {before}")
    left = guest.sh("ls -d $DEBUG/nvme_phys $DEBUG/dma_phys "
                    "$TRACING/events/dma_phys 2>/dev/null || :")
    return problems + [f"{path} is left" for path in left.split()]


def _bounce_slots(guest):
    return guest.sh("cat $DEBUG/swiotlb/io_tlb_used 2>/dev/null || echo 0").strip()


def _edu(guest, driver, route, parameter=""):
    """Start a minimal driver, and unload it: (line of the log, problems)"""
    device = guest.sh("find_pci 0x1234 0x11e8")
    guest.sh(f"load {driver} {parameter}")
    line = demo.wait_log(guest, f"{driver} {device}: copied ")
    guest.sh(f"rmmod {driver}")
    return line, [] if line.endswith(f"route {route}: verified") else \
        [f"{driver}: '{line}', not verified on route {route}"]


def run(part, kernel, directory):
    """Boot one machine, use the samples, and unload: (rows, lines of edu, problems)

    A row is one of demo.Row or demo.FilesystemRow.
    """
    machine = vm.MACHINES[part.machine]
    if part.mmio:
        return run_peers(part, kernel, directory)
    disk = oracle.Disk(pathlib.Path(directory, f"{machine.name}-data"), "data",
                       seed=time.time_ns())
    files = oracle.Image(pathlib.Path(directory, f"{machine.name}-files"), "files",
                         size=demo.FILESYSTEM_DISK)
    mask = (1 << machine.edu_bits) - 1
    devices = [*vm.nvme(machine, [[disk, files]]),
               "-device", f"edu,dma_mask={mask:#x},{machine.slots[1]}",
               *vm.USR_DEVICE]
    with vm.VM(kernel, machine, devices=devices, append=APPEND,
               name=f"module-{kernel.version}-{machine.name}") as guest:
        _prepare(guest, kernel)
        before = _bounce_slots(guest)
        line, problems = _edu(guest, "edu_phys", machine.cpu_route,
                              f"dma_bits={machine.edu_bits}")
        name = guest.sh("controllers")
        guest.sh(f"load nvme_phys && bind nvme_phys {name}")
        rows = [*demo.Mover(part, "C", oracle.Controller(guest, name, disk),
                            None).rows()]
        device = guest.sh(f"disk {name} 2")
        expected = guest.sh(f"make_filesystems {device} {FILES}").split()
        guest.sh(f"unbind {name}")
        problems += _unload(guest, ["nvme_phys", "edu_phys", "dma_phys"], before)

        # The kernel's own driver reads what ours wrote. With multipath, its disks
        # would be no children of the PCI device.
        guest.sh("load nvme_core multipath=0")
        guest.sh(f"load nvme && bind nvme {name}")
        if guest.sh(f"disk_sum $(disk {name})") != oracle.sha256(disk.expected):
            problems.append("the kernel's own driver reads other data")
        sums = guest.sh(f"read_filesystems $(disk {name} 2)").split()
        for number, filesystem in enumerate(("ext4", "xfs")):
            is_good = sums[number] == expected[number]
            rows.append(demo.FilesystemRow("C", f"{device}p{number + 1}",
                                           filesystem, FILES,
                                           "yes" if is_good else "NO"))
            if not is_good:
                problems.append(f"{filesystem} has other files")
    if disk.first_difference() is not None:
        problems.append(f"the image differs at byte {disk.first_difference()}")
    return rows, [line], _named(part, rows, problems + guest.reports())


def run_peers(part, kernel, directory):
    """The same on a machine with peers, without a file system."""
    machine = vm.MACHINES[part.machine]
    disks = [oracle.Disk(pathlib.Path(directory, f"{machine.name}-{name}"), name,
                         seed=time.time_ns()) for name in "ab"]
    with vm.VM(kernel, machine, append=APPEND,
               devices=[*vm.nvme(machine, disks), *vm.USR_DEVICE],
               name=f"module-{kernel.version}-{machine.name}") as guest:
        _prepare(guest, kernel)
        before = _bounce_slots(guest)
        names = guest.sh("controllers").split()
        guest.sh(f"load nvme_phys && bind nvme_phys {' '.join(names)}")
        rows = [*demo.Mover(part, "C", *(
            oracle.Controller(guest, name, disk)
            for name, disk in zip(names, disks))).rows()]
        for name in names:
            guest.sh(f"unbind {name}")
        problems = _unload(guest, ["nvme_phys", "dma_phys"], before)
    problems += [f"{disk.serial} differs at byte {disk.first_difference()}"
                 for disk in disks if disk.first_difference() is not None]
    problems += guest.reports()
    with vm.VM(kernel, machine, devices=vm.edu(machine), append=APPEND,
               name=f"module-{kernel.version}-edu-{machine.name}") as guest:
        line, more = _edu(guest, "edu_peer_phys", machine.mmio_route)
        more += _unload(guest, ["edu_peer_phys", "dma_phys"],
                        _bounce_slots(guest))
    return rows, [line], _named(part, rows, problems + more + guest.reports())


def _named(part, rows, problems):
    problems = problems + [f"{row.kind} {row.direction}: {row.error}"
                           for row in rows if getattr(row, "error", "")]
    return [f"{part.machine}: {problem}" for problem in problems]


def run_all(kernel):
    """Boot all machines of a kernel: the results of run() by machine."""
    parts = PARTS + (PEER_PARTS if kernel.config("PCI_P2PDMA") and
                     "HAVE_pcim_p2pdma_provider" in kernel.probed() else ())
    with Step(f"moving data on Linux {kernel.release}") as step, \
            tempfile.TemporaryDirectory() as directory, \
            concurrent.futures.ThreadPoolExecutor(vm.PARALLEL_MACHINES) as pool:
        futures = [pool.submit(run, part, kernel, directory) for part in parts]
        try:
            results = demo.wait_for(futures, step)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            vm.kill_all()
            raise
    return dict(zip((part.machine for part in parts), results))


# --- the package --------------------------------------------------------------

def package_version():
    return re.search(r'^PACKAGE_VERSION="(.+)"', (MODULE / "dkms.conf").read_text(),
                     re.M)[1]


CONTROL = """\
Package: dma-phys-dkms
Version: {version}
Architecture: all
Maintainer: the authors of dma-phys <dma-phys@localhost>
Depends: dkms
Section: kernel
Priority: optional
Description: typed mapping of physical addresses for DMA (DKMS)
 A kernel module with which drivers map memory and device memory for DMA. Its
 header is in /usr/src/dma-phys-{version}/include, its samples in
 /usr/src/dma-phys-{version}/samples.
"""
SCRIPTS = {
    "postinst": """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
/usr/lib/dkms/common.postinst dma-phys {version} "" "" "$2"
""",
    "prerm": """\
#!/bin/sh
set -e
dkms remove -m dma-phys -v {version} --all || :
""",
}


def make_deb():
    """Make the DKMS package: its path."""
    version = package_version()
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"dma-phys-dkms_{version}_all.deb"
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        tree = pathlib.Path(directory, "package")
        make_tree(tree / f"usr/src/dma-phys-{version}")
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text(CONTROL.format(version=version))
        for name, text in SCRIPTS.items():
            (tree / f"DEBIAN/{name}").write_text(text.format(version=version))
            (tree / f"DEBIAN/{name}").chmod(0o755)
        subprocess.run(["chmod", "-R", "u=rwX,go=rX", tree], check=True)
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, path],
                       check=True, capture_output=True)
    return path


# As a user would, in a copy of the tool root that is thrown away: it is a Debian
# system without a kernel.
INSTALL = r"""
set -e
top=$1 deb=$2 driver=$3
cd "$top"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
for dir in proc sys dev; do mount --rbind /$dir root/$dir; done
mount -t tmpfs tmpfs root/tmp
cp "$deb" "$driver"/* root/tmp
chroot root sh -e -x -c '
export DEBIAN_FRONTEND=noninteractive
cd /tmp
apt-get update
apt-get install -y --no-install-recommends linux-headers-amd64 ./*.deb
kernel=$(basename /usr/src/linux-headers-*-amd64)
kernel=${kernel#linux-headers-}
dkms install dma-phys/VERSION -k $kernel
modinfo -k $kernel dma_phys
symbols=/var/lib/dkms/dma-phys/VERSION/$kernel/x86_64/module/Module.symvers
mkdir driver
cp Kbuild *.c driver
make -C /usr/src/linux-headers-$kernel M=/tmp/driver modules \
	KBUILD_EXTRA_SYMBOLS=$symbols
modinfo driver/*.ko
apt-get purge -y dma-phys-dkms
[ ! -e /usr/src/dma-phys-VERSION ] && [ ! -e /var/lib/dkms/dma-phys ]
[ -z "$(find /lib/modules /usr/lib/modules -name "dma_phys*")" ]
'
"""


def install_deb(deb, driver):
    """Install the package, build the driver in a folder with it, and remove it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kernels.LOGS.mkdir(parents=True, exist_ok=True)
    script = INSTALL.replace("VERSION", package_version())
    log = kernels.LOGS / "module-package.log"
    with tempfile.TemporaryDirectory(dir=CACHE) as directory, log.open("w") as out:
        code = subprocess.run(
            ["unshare", "--mount", "--propagation", "unchanged", "bash", "-c",
             script, "-", directory, deb, driver],
            stdout=out, stderr=subprocess.STDOUT).returncode
    if code:
        raise ModuleError(kernels.explain(log, "the package cannot be used"))


# --- the command ----------------------------------------------------------------

def report(kernel, results):
    """Print the tables of a kernel: the problems."""
    rows = [row for part_rows, _, _ in results.values() for row in part_rows]
    print(f"\nLinux {kernel.release} of Debian, {vm.accelerator(kernel).upper()}")
    print("\n".join([
        *demo.edu_table({name: lines for name, (_, lines, _) in results.items()}),
        *demo.transfer_table([row for row in rows if isinstance(row, demo.Row)]),
        *demo.filesystem_table([row for row in rows
                                if isinstance(row, demo.FilesystemRow)])]))
    print()
    for name, text in kernel.features().items():
        print(f"{name.replace('``', ''):32} {text.replace('``', '')}")
    return [problem for _, _, problems in results.values() for problem in problems]


def main(*arguments):
    """See the top of this file."""
    kernels.exit_on_signals()
    problems = []
    try:
        if arguments == ("deb",):
            print(kernels.host_path(make_deb()))
            return 0
        if arguments == ("--rst",):
            print(rst())
            return 0
        for version in arguments or ("7.3",):
            kernel = Stock(version)
            problems += kernel.build_module()
            problems += report(kernel, run_all(kernel))
    except (ModuleError, vm.MachineError, vm.CommandError, ValueError) as error:
        say(f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    if problems:
        say("\n".join(["", "problems:", *problems]))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
