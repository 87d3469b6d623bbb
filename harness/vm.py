# SPDX-License-Identifier: GPL-2.0
"""Virtual machines: at least one for each route.

    machine = MACHINES["intel-lazy"]
    with VM(kernel(), machine, devices=nvme(machine, disks)) as guest:
        guest.sh("load nvme && bind nvme $(controllers)")
    guest.reports()         # complaints of the kernel

A machine is a row of the table below. The guest is a kernel and an initramfs
(harness/guest and busybox). With programs=True it also mounts the /usr of the tool
root, which takes half a second. It reads commands from its second serial port and
returns their output and exit code.
"""

import atexit
import dataclasses
import hashlib
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time

from harness import arch as arches
from harness import kernel as kernels
from harness.qmp import Channel, NoResponse, Refused

GUEST = pathlib.Path(__file__).resolve().parent / "guest"
CACHE = pathlib.Path(os.environ["DMA_PHYS_CACHE"])
LOGS = CACHE / "log"

# The NVMe drivers, by their language.
DRIVERS = {"C": "nvme_phys", "Rust": "rust_nvme_phys"}


def languages(flavour):
    """The languages of the sample drivers of a kernel."""
    return [language for language in DRIVERS
            if language == "C" or kernels.has(flavour, "RUST")]


# These go into the initramfs if the kernel has them as modules.
MODULES = ["nvme", *DRIVERS.values(), "edu_phys", "rust_edu_phys",
           "edu_peer_phys", "rust_edu_peer_phys", "dma_phys_peer_test",
           "raw_hazards", "dma_phys_benchmark", "rust_dma_phys_benchmark",
           "nd_pmem", "nd_e820"]

CMB_BYTES = 16 << 20

# An emulated machine keeps more than one core busy, but also waits a lot.
PARALLEL_MACHINES = max(2, len(os.sched_getaffinity(0)) // 2)

# The /usr of the tool root, over 9p: a guest reads only the programs that it runs.
# With their libraries they are tens of megabytes, which each boot would copy if
# they were in the initramfs.
USR_DEVICE = ["-fsdev", "local,id=usr,path=/usr,security_model=none,readonly=on",
              "-device", "virtio-9p-pci,fsdev=usr,mount_tag=usr,bus=pcie.0"]


# --- machines ---------------------------------------------------------------

# The kernel allows P2P through the host bridge on an AMD Zen processor. On others it
# refuses P2P through a bridge that it does not know, like that of q35.
CPU_ZEN = "EPYC,vendor=AuthenticAMD,x2apic=off"
# Of a family before Zen, even if KVM changes the vendor to AMD.
CPU_BEFORE_ZEN = "qemu64"


@dataclasses.dataclass(frozen=True)
class Machine:
    """A processor, an IOMMU or none, and buses.

    board is QEMU's -machine, processor its -cpu; "" is that of the architecture. If it
    is not coherent, device and CPU see each other's writes only after cache maintenance.

    cpu_route and mmio_route are the routes that maps of both kinds must have.
    mmio_route "refused" means -EREMOTEIO; with None no test maps MMIO. QEMU's edu
    device reaches addresses of edu_bits bits: without an IOMMU it needs all.
    """

    name: str
    text: str
    cpu_route: str
    mmio_route: str | None = None
    arch: str = arches.DEFAULT
    board: str = ""
    processor: str = ""
    coherent: bool = True
    append: str = ""
    devices: tuple[str, ...] = ()
    # The PCI slots of the devices under test, one device each.
    slots: tuple[str, ...] = ("bus=pcie.0,addr=8", "bus=pcie.0,addr=9")
    edu_bits: int = 64
    memory: str = "1G"

    @property
    def short_name(self):
        """The name without the architecture."""
        return self.name.removeprefix(f"{self.arch}-")


INTEL = ("intel-iommu,intremap=off",)
SWITCH = (
    "pcie-root-port,id=root,bus=pcie.0,addr=8,chassis=1",
    "x3130-upstream,id=up,bus=root",
    "xio3130-downstream,id=down0,bus=up,chassis=2,slot=0",
    "xio3130-downstream,id=down1,bus=up,chassis=3,slot=1",
)

SMMU = "iommu=smmuv3"


def arm64(*arguments, **options):
    """A row for arm64."""
    return Machine(*arguments, arch="arm64", **options)


def arm(*arguments, **options):
    """A row for 32-bit arm: most memory has no kernel address, 1 GiB is beyond 4 GiB.

    Its CPU writes no more than 32 bits of an address to edu at a time.
    """
    return Machine(*arguments, arch="arm", memory="4G", edu_bits=32, **options)


def ppc64le(*arguments, **options):
    """A row for ppc64le."""
    return Machine(*arguments, arch="ppc64le",
                   slots=("bus=pci.0,addr=8", "bus=pci.0,addr=9"), **options)


MACHINES = {machine.name: machine for machine in [
    # With 3 GiB there is memory beyond 4 GiB, and the kernel allocates bounce
    # buffers. So the direct route is a choice here.
    Machine("direct", "no IOMMU", "direct", memory="3G"),
    Machine("bounce", "swiotlb=force", "bounce", append="swiotlb=force"),
    # With movable_node the kernel allocates bounce buffers at low addresses, which
    # 28 bits reach. They do not reach most of the memory.
    Machine("bounce-natural", "memory beyond the mask", "bounce",
            append="movable_node", edu_bits=28, memory="3G"),
    Machine("intel-lazy", "Intel IOMMU, lazy", "iommu", devices=INTEL,
            append="intel_iommu=on iommu.strict=0", edu_bits=28),
    Machine("intel-strict", "Intel IOMMU, strict", "iommu", devices=INTEL,
            memory="3G",
            append="intel_iommu=on iommu.strict=1", edu_bits=28),
    Machine("intel-passthrough", "Intel IOMMU, passthrough", "direct",
            devices=INTEL, append="intel_iommu=on iommu=pt"),
    Machine("amd", "AMD IOMMU", "iommu", "iommu", processor=CPU_ZEN,
            devices=("amd-iommu",), edu_bits=28),
    Machine("virtio-iommu", "virtio-iommu", "iommu", edu_bits=28,
            devices=("virtio-iommu-pci,bus=pcie.0,addr=3",)),
    Machine("p2p-bus", "peers behind one switch", "direct", "bus",
            devices=SWITCH, slots=("bus=down0", "bus=down1")),
    Machine("p2p-bridge", "peers through the host bridge", "direct", "direct",
            processor=CPU_ZEN),
    Machine("p2p-iommu", "the same, Intel IOMMU", "iommu", "iommu",
            processor=CPU_ZEN, append="intel_iommu=on iommu.strict=0",
            devices=INTEL, edu_bits=28),
    Machine("p2p-refused", "no P2P path between the peers", "direct", "refused",
            processor=CPU_BEFORE_ZEN),
    # All memory is beyond 1 GiB: without an IOMMU the edu device needs all bits.
    arm64("arm64-direct", "no IOMMU, arm64", "direct"),
    arm64("arm64-direct-nc", "no IOMMU, arm64, not coherent", "direct",
          coherent=False),
    # Where all memory is within reach, arm64 makes a pool of 1 MiB for 1 GiB of it,
    # unless its size is given.
    arm64("arm64-bounce", "swiotlb=force, arm64", "bounce",
          append="swiotlb=16384,force"),
    arm64("arm64-bounce-nc", "swiotlb=force, arm64, not coherent", "bounce",
          append="swiotlb=16384,force", coherent=False),
    arm64("arm64-lazy", "SMMUv3, lazy", "iommu", board=SMMU, edu_bits=28,
          append="iommu.strict=0"),
    arm64("arm64-lazy-nc", "SMMUv3, lazy, not coherent", "iommu", board=SMMU,
          edu_bits=28, append="iommu.strict=0", coherent=False),
    arm64("arm64-strict-nc", "SMMUv3, strict, not coherent", "iommu", board=SMMU,
          edu_bits=28, append="iommu.strict=1", coherent=False),
    arm64("arm64-p2p-bus", "peers behind one switch, arm64", "direct", "bus",
          devices=SWITCH, slots=("bus=down0", "bus=down1")),
    arm64("arm64-p2p-bus-nc", "the same, not coherent", "direct", "bus",
          devices=SWITCH, slots=("bus=down0", "bus=down1"), coherent=False),
    arm("arm-direct", "no IOMMU, arm", "direct"),
    arm("arm-direct-nc", "no IOMMU, arm, not coherent", "direct", coherent=False),
    arm("arm-bounce-nc", "swiotlb=force, arm, not coherent", "bounce",
        append="swiotlb=force", coherent=False),
    ppc64le("ppc64le-ops", "IOMMU with legacy ops", "ops", edu_bits=32,
            append="disable_ddw"),
    ppc64le("ppc64le-bypass", "the same, bypassed with large masks", "direct"),
]}
# Those that ./run test has with --arch only.
OTHER_ARCHES = [machine for machine in MACHINES.values()
                if machine.arch != arches.DEFAULT]


def nvme(machine, controllers, **options):
    """QEMU arguments: NVMe controllers with a CMB, one in each slot.

    For each controller there is a disk, or a list of disks for its namespaces.
    options are QEMU's properties for all controllers, such as mdts=5. The devices
    are called nvme0, nvme1, ...; the drives disk0, disk1, ....
    """
    more = "".join(f",{name}={value}" for name, value in options.items())
    number = 0
    args = []
    for index, (slot, disks) in enumerate(zip(machine.slots, controllers)):
        disks = disks if isinstance(disks, list) else [disks]
        args += ["-device", f"nvme,id=nvme{index},serial={disks[0].serial},"
                            f"cmb_size_mb={CMB_BYTES >> 20},{slot}{more}"]
        for nsid, disk in enumerate(disks, 1):
            args += _namespace(f"disk{number}", disk,
                               f"bus=nvme{index},nsid={nsid}")
            number += 1
    return args


def _namespace(name, disk, place):
    # Deallocated blocks become holes of the image: guest and host read zeroes.
    return ["-drive", f"if=none,id={name},format=raw,discard=unmap,"
                      f"file={disk.path}",
            "-device", f"nvme-ns,drive={name},{place},"
                       f"logical_block_size={disk.block_size},"
                       f"physical_block_size={disk.block_size}"]


# The memory of the BAR of ivshmem-plain.
BAR_MEMORY = {"qom-type": "memory-backend-ram", "id": "bar", "size": 4 << 20,
              "share": True}


def edu(machine):
    """QEMU arguments: edu, which does DMA, and ivshmem-plain, a BAR for it.

    The BAR is left out if edu cannot reach it.
    """
    mask = (1 << machine.edu_bits) - 1
    args = ["-device", f"edu,dma_mask={mask:#x},{machine.slots[0]}"]
    if machine.cpu_route == "iommu" or machine.edu_bits >= 32:
        args += ["-object", json.dumps(BAR_MEMORY),
                 "-device", "ivshmem-plain,id=peer,memdev=bar,"
                            f"{machine.slots[1]}"]
    return args


# --- kernel and initramfs ----------------------------------------------------

def kernel(flavour="base"):
    """The kernel that the environment names, or else one that is built now."""
    return kernels.from_environment(flavour) or kernels.build(flavour)


def module_files(kernel):
    """The files to load for each of MODULES: {name: [dependencies..., itself]}"""
    files = {path.stem.replace("-", "_"): path for path in kernel.modules}

    def load_order(name):
        out = subprocess.run(["modinfo", "-F", "depends", files[name]],
                             capture_output=True, text=True, check=True)
        order = []
        for needed in filter(None, out.stdout.strip().split(",")):
            order += load_order(needed.replace("-", "_"))
        return [path for path in order if path != files[name]] + [files[name]]

    return {name: list(dict.fromkeys(load_order(name)))
            for name in [*MODULES, *getattr(kernel, "drivers", ())]
            if name in files}


def initramfs(kernel):
    """The initramfs for a kernel; the cache has one for each content."""
    busybox = pathlib.Path("/", kernel.arch.busybox)
    modules = module_files(kernel)
    contents = {"init": GUEST / "init",
                "lib/guest.sh": GUEST / "guest.sh",
                "bin/busybox": busybox}
    for files in modules.values():
        contents |= {f"modules/{path.name}": path for path in files}
    key = hashlib.sha256(repr(modules.keys()).encode())
    for name, path in sorted(contents.items()):
        key.update(name.encode() + b"\0" + path.read_bytes())
    archive = CACHE / "initramfs" / f"{key.hexdigest()[:16]}.cpio"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as tree:
            _copy_contents(pathlib.Path(tree), contents, modules)
            _pack(tree, archive)
    return archive


def _copy_contents(tree, contents, modules):
    for name in ("proc", "sys", "dev", "tmp", "modules", "bin", "lib"):
        (tree / name).mkdir()
    for name, path in contents.items():
        shutil.copy(path, tree / name)
        (tree / name).chmod(0o755)
    # That of another architecture has the same applets, and does not run here.
    applets = subprocess.run(["busybox", "--list"], text=True,
                             capture_output=True, check=True).stdout.split()
    for applet in set(applets) - {"busybox"}:
        (tree / "bin" / applet).symlink_to("busybox")
    for name in {*MODULES, *modules}:
        order = [path.name for path in modules.get(name, [])]
        (tree / f"modules/{name}.order").write_text("\n".join(order))


def _pack(tree, archive):
    names = "\n".join(sorted(
        str(path.relative_to(tree))
        for path in pathlib.Path(tree).rglob("*"))) + "\n"
    # Rename the complete file, since another run may use the archive.
    new = archive.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    with new.open("wb") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"],
                       input=names.encode(), stdout=out, cwd=tree, check=True)
    new.rename(archive)


# --- complaints of the kernel -------------------------------------------------

REPORT = re.compile("|".join([
    r"WARNING: ", r"\bBUG: ", r"\bBUG at ", r"KASAN: ", r"UBSAN: ",
    r"Oops\b", r"Kernel panic", r"general protection fault",
    r"Call Trace:", r"possible (recursive|circular)",
    r"inconsistent lock state", r"suspicious RCU", r"rcu: INFO: ",
    r"INFO: task .* blocked", r"refcount_t: ", r"list_(add|del) corruption",
    r"DMA-API: ", r"kmemleak: [1-9]\d* new suspected",
    r"\[DMA (Read|Write)", r"IO_PAGE_FAULT", r"viommu.* fault from EP",
    r"virtio_iommu.* fault from EP", r"panicked at ",
    r"unexpected IRQ trap", r"No irq handler for", r"irq \d+: nobody cared",
]))
# Lines that match and are no complaint: each boot prints them.
HARMLESS = re.compile("|".join([
    r"DMA-API: preallocated \d+ debug entries",
    r"DMA-API: debugging (enabled by kernel config|disabled on kernel command)",
    r"DMA-API: dma_debug_entry pool grown",
    r"WARNING: See https?://",
]))


def reports(log):
    """The complaints in a kernel log: a list of lines."""
    return [line for line in log.splitlines()
            if REPORT.search(line) and not HARMLESS.search(line)]


# --- running a machine --------------------------------------------------------

# The guest's clock counts instructions: each takes one nanosecond, and those of all
# processors add up. While all are idle it runs at the speed of the host's clock.
ICOUNT_ACCEL = ["-accel", "tcg", "-icount", "shift=0,sleep=on"]
# For a counting machine with one processor. The kernel calibrates the local APIC's
# timer, which is slow there; on a busy host it distrusts the result and takes
# another timer. With this it always takes the other one.
NO_LAPIC_TIMER = "nolapic_timer"

# Seconds for one command in a guest. On a busy host some commands take half a
# minute on the debug kernel.
COMMAND_TIMEOUT = 300


class MachineError(Exception):
    """A machine does not start, respond or stop. The text names its log."""


class CommandError(Exception):
    """A command in a guest, or of QEMU, has failed."""


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command in a guest."""

    code: int
    out: str


_kvm_lock = threading.Lock()
_kvm_results = []


def accelerator(kernel):
    """"kvm" if a guest boots with it, else "tcg". Tested once in a run.

    It is not enough that the device file exists: a guest may hang all the same.
    """
    forced = os.environ.get("DMA_PHYS_ACCEL")
    if forced:
        return forced
    if kernel.arch.name != arches.DEFAULT:
        return "tcg"
    with _kvm_lock:
        if not _kvm_results:
            _kvm_results.append("kvm" if _kvm_works(kernel) else "tcg")
    return _kvm_results[0]


def _kvm_works(kernel):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        with VM(kernel, MACHINES["direct"], name="kvm-probe", accel="kvm",
                console_timeout=6, boot_timeout=15):
            return True
    except MachineError:
        return False


_running = set()
_is_stopping = threading.Event()


def kill_all():
    """Kill all machines, and let no other start."""
    _is_stopping.set()
    for machine in list(_running):
        machine.kill()


class VM:
    """A running machine, as a context manager that powers it off at the end.

    With icount=True its clock counts instructions. With single_thread=True QEMU
    emulates its processors in one thread. With shell=True the console is the standard
    input and output of arguments(), for a person. Guests with minutes of hotplug need that:
    with several threads, QEMU 10.0 loses an interrupt about once in 300 rounds: the
    processor accepts it and the handler never runs.
    """

    def __init__(self, kernel, machine, *, devices=(), append="", name="",
                 accel=None, console_timeout=None, boot_timeout=600, qmp=False,
                 programs=False, trace=(), power_off="poweroff -f", icount=False,
                 cpus=2, single_thread=False, shell=False):
        self.kernel = kernel
        self.machine = machine
        self.name = name or machine.name
        # The process id keeps machines of two runs apart.
        self.log = LOGS / f"vm-{self.name}.{os.getpid()}.log"
        self._console = None
        self._close_lock = threading.Lock()
        self._accel = accel
        self._icount = icount
        self._cpus = cpus
        self._single_thread = single_thread
        self._shell = shell
        self._devices = [*devices, *(USR_DEVICE if programs else [])]
        self._programs = programs
        self._trace_events = list(trace)
        self._trace = None
        self._tree = None
        self._append = append
        self._power_off = power_off
        self._console_timeout = console_timeout
        self._boot_timeout = boot_timeout
        self._number = 0
        self._lines = queue.Queue()
        self._qemu = None
        self._channel = Channel() if qmp else None

    # Start and stop.

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            self.kill()
        else:
            self.stop()

    def arguments(self):
        """The QEMU command line."""
        machine, arch = self.machine, self.kernel.arch
        console, agent = f"file,path={self.log}", "stdio,signal=off"
        if self._shell:
            console, agent = "stdio,signal=off", "null"
        append = [arch.append, f"console={arch.console} panic=-1 kunit.autorun=0",
                  machine.append, self._append,
                  "dma_phys_shell" * self._shell]
        if self._icount:
            accel = ICOUNT_ACCEL
        else:
            accel = self._accel or accelerator(self.kernel)
            if accel == "tcg":
                accel += ",thread=" + ("single" if self._single_thread
                                       else "multi")
            accel = ["-accel", accel]
        board = [arch.qemu, "-nodefaults", "-no-user-config",
                 "-display", "none", "-monitor", "none", "-no-reboot", *accel,
                 "-cpu", machine.processor or arch.processor,
                 "-smp", str(self._cpus), "-m", machine.memory,
                 "-machine", ",".join(filter(None, (arch.board, machine.board)))]
        args = [*board, *([] if machine.coherent else self._device_tree(board)),
                "-kernel", str(self.kernel.image),
                "-initrd", str(initramfs(self.kernel)),
                "-append", " ".join(filter(None, append)),
                "-chardev", f"{console},id=console", "-serial", "chardev:console",
                "-chardev", f"{agent},id=agent", "-serial", "chardev:agent"]
        for device in machine.devices:
            args += ["-device", device]
        for event in self._trace_events:
            args += ["-trace", event]
        if self._trace:
            args += ["-D", self._trace.name]
        if self._channel:
            args += self._channel.arguments()
        return args + self._devices

    def _device_tree(self, board):
        """Arguments: the device tree of the board, without coherent PCI devices."""
        self._tree = tempfile.NamedTemporaryFile(suffix=".dtb")
        path = self._tree.name
        # The tree has a serial port for each of these, as the machine does.
        subprocess.run([*board[:-1], f"{board[-1]},dumpdtb={path}",
                        "-serial", "null", "-serial", "null"], check=True,
                       capture_output=True)
        # The root has the property as well, for all devices. That of the SMMU stays.
        for node in ("/", "/pcie@10000000"):
            subprocess.run(["fdtput", "-d", path, node, "dma-coherent"], check=True)
        return ["-dtb", path]

    def start(self):
        """Boot, and wait until the guest reads commands."""
        LOGS.mkdir(parents=True, exist_ok=True)
        if self._trace_events:
            self._trace = tempfile.NamedTemporaryFile("r")
        arguments = self.arguments()
        self.log.write_text("")
        self._errors = tempfile.TemporaryFile("w+")
        if _is_stopping.is_set():
            raise MachineError(f"machine '{self.name}' is not started: the run "
                               "is being stopped")
        self._qemu = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=[self._channel.fd] if self._channel else [])
        _running.add(self)
        atexit.register(self.kill)
        threading.Thread(target=self._read_agent, daemon=True).start()
        if self._console_timeout:
            self._wait_console(self._console_timeout)
        self._read_result(0, self._boot_timeout)
        if self._channel:
            self._call_qmp(self._channel.open, COMMAND_TIMEOUT)
        if self._programs:
            self.sh("mount_usr")

    def stop(self):
        """Power off with a command, so that drivers run their shutdown."""
        if self._qemu.poll() is None:
            self._send(self._power_off)
            try:
                self._qemu.wait(COMMAND_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._fail("does not power off")
        if self._qemu.wait():
            self._fail(f"QEMU exited with {self._qemu.returncode}")
        self._close()

    def kill(self):
        """Kill QEMU."""
        if self._qemu.poll() is None:
            self._qemu.kill()
            self._qemu.wait()
        self._close()

    def _close(self):
        """Keep the log, under a name without the process id."""
        atexit.unregister(self.kill)
        _running.discard(self)
        if self._channel:
            self._channel.close()
        with self._close_lock:
            if self._console is None:
                self._console = self.console()
                self.log = self.log.rename(LOGS / f"vm-{self.name}.log")

    # Commands.

    def try_sh(self, line, timeout=COMMAND_TIMEOUT):
        """Run a line of shell in the guest: its CommandResult."""
        if "\n" in line or len(line) > 4000:
            raise ValueError("one line of at most 4000 characters")
        self._send(line)
        return self._read_result(self._number, timeout)

    def sh(self, line, timeout=COMMAND_TIMEOUT):
        """Run a line of shell that must succeed: its output."""
        result = self.try_sh(line, timeout)
        if result.code:
            raise CommandError(
                f"'{line}' exited with {result.code}: {result.out}")
        return result.out

    def qmp(self, command, timeout=COMMAND_TIMEOUT, **arguments):
        """Run a QMP command: its return value.

        guest.qmp("device_del", id="disk0")
        """
        return self._call_qmp(self._channel.command, command, timeout,
                              **arguments)

    def event(self, name, timeout=COMMAND_TIMEOUT, **data):
        """Wait for a QMP event with these data: all of its data.

        guest.event("DEVICE_DELETED", device="disk0")
        """
        return self._call_qmp(self._channel.event, name, timeout, **data)

    def read_trace(self):
        """QEMU's trace events since the last call: [(event, text)]"""
        lines = self._trace.read().splitlines()
        return [tuple(line.split(" ", 1)) for line in lines if " " in line]

    def console(self):
        """The kernel log so far."""
        if self._console is not None:
            return self._console
        return self.log.read_text(errors="replace")

    def full_log(self):
        """For messages: the path of the kernel log."""
        return f"the full log: {kernels.host_path(self.log)}"

    def reports(self):
        """The complaints of the kernel so far."""
        return reports(self.console())

    def final_check(self, expected_errors=0):
        """Before power-off: a line for each kind of leak or DMA error."""
        lines = []
        leaks = self.try_sh("leaks").out
        if leaks:
            lines.append("kmemleak: " + leaks)
        maps = self.try_sh("live_maps").out
        if maps:
            lines.append("dma_phys: still mapped: " + maps)
        errors = self.try_sh("dma_errors").out or "0"
        if int(errors) != expected_errors:
            lines.append(f"DMA-API: {errors} errors counted, "
                         f"not {expected_errors}")
        return lines

    # Details.

    def _send(self, line):
        self._number += 1
        try:
            self._qemu.stdin.write(f"{self._number} {line}\n".encode())
            self._qemu.stdin.flush()
        except BrokenPipeError:
            self._fail("has exited")

    def _call_qmp(self, function, *arguments, **more):
        try:
            return function(*arguments, **more)
        except Refused as error:
            raise CommandError(str(error)) from None
        except NoResponse as error:
            self._fail(f"did not respond to {arguments}: {error}")

    def _read_agent(self):
        for line in self._qemu.stdout:
            self._lines.put(line.decode(errors="replace").rstrip("\r\n"))
        self._lines.put(None)

    def _read_result(self, number, timeout):
        end = time.monotonic() + timeout
        out = []
        while True:
            try:
                line = self._lines.get(timeout=end - time.monotonic())
            except (queue.Empty, ValueError):
                self._fail(f"did not respond within {timeout} s")
            if line is None:
                self._fail("has exited")
            if line.startswith(" "):
                out.append(line[1:])
            elif line.startswith(f"={number} "):
                return CommandResult(int(line.split()[1]),
                                     "\n".join(out).strip())

    def _wait_console(self, seconds):
        end = time.monotonic() + seconds
        while not self.log.stat().st_size:
            if time.monotonic() > end or self._qemu.poll() is not None:
                self._fail("prints nothing")
            time.sleep(0.1)

    def _fail(self, what):
        processors = self._processors()
        self.kill()
        self._errors.seek(0)
        tail = self.console().splitlines()[-8:]
        raise MachineError("\n".join([f"machine '{self.name}' {what}",
                                      self._errors.read().strip(), *tail,
                                      *processors, self.full_log()]))

    def _processors(self):
        """For a message: the function that each processor executes."""
        if not self._channel or self._qemu.poll() is not None:
            return []
        try:
            registers = self._channel.command("human-monitor-command", 10, **{
                "command-line": "info registers -a"})
        except (Refused, NoResponse, OSError) as error:
            return [f"QEMU: {error}"]
        return [f"processor {number}: {self.kernel.symbol(int(address, 16))}"
                + ", halted" * (halted == "1")
                for number, (address, halted) in enumerate(re.findall(
                    r"RIP=(\w+).*?HLT=(\d)", registers))]
