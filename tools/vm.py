#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Virtual machines: one for each way a device reaches memory.

    machine = MACHINES["intel-lazy"]
    with VM(kernel(), machine, devices=nvme(machine, disks)) as guest:
        guest.sh("load nvme && bind nvme $(controllers)")
    guest.reports()         # what the kernel complained about, [] if nothing

A machine is a row of the table below. The guest is a kernel, an initramfs
(tools/guest and busybox) and nothing else; with programs=True it also sees the
tool root's /usr, which costs it half a second. It takes commands on its second
serial port and answers with output and exit code.
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
import sys
import tempfile
import threading
import time

TOOLS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS))

import kernel as kernels  # noqa: E402
import qmp as monitor  # noqa: E402

GUEST = TOOLS / "guest"
CACHE = pathlib.Path(os.environ["DMA_PHYS_CACHE"])
LOGS = CACHE / "log"

# The sample drivers, by the language they are written in.
DRIVERS = {"C": "nvme_phys", "Rust": "rust_nvme_phys"}
# What the initramfs carries where the kernel has it as a module.
MODULES = ["nvme", *DRIVERS.values(), "dma_phys_peer_test", "raw_hazards",
           "dma_phys_benchmark", "rust_dma_phys_benchmark"]

CMB_BYTES = 16 << 20

# An emulated machine keeps more than one core busy, but waits a lot.
AT_ONCE = max(2, len(os.sched_getaffinity(0)) // 2)

# Our own programs, for a guest to read: it fetches what it runs and no more.
# They are tens of megabytes with their libraries, and in an initramfs each boot
# would copy all of that.
PROGRAMS = ["-fsdev", "local,id=usr,path=/usr,security_model=none,readonly=on",
            "-device", "virtio-9p-pci,fsdev=usr,mount_tag=usr,bus=pcie.0"]


# --- machines ---------------------------------------------------------------

# Not with five levels of page tables: an interrupt in the moment in which the
# kernel identifies the processor is then a false report of KASAN.
# Not with an x2APIC: under TCG the guest now and then waits for ever for an
# interrupt, with the one before never acknowledged.
PLAIN = "max,la57=off,x2apic=off"
# The kernel lets peers talk across a host bridge where the processor is an
# AMD Zen, and refuses it where it does not know the bridge (q35's own).
ZEN = "EPYC,vendor=AuthenticAMD,x2apic=off"
# A family before Zen, whatever brand KVM gives it.
OLD = "qemu64"


@dataclasses.dataclass(frozen=True)
class Machine:
    """One arrangement of processor, IOMMU and buses.

    cpu and mmio are the routes that a map must take here: what its handle
    records. mmio "refused" means -EREMOTEIO; None means that peers are no
    subject of this machine. edu_bits is how far QEMU's edu device reaches:
    where no IOMMU helps it must be told to reach all memory.
    """

    name: str
    text: str
    cpu: str
    mmio: str | None = None
    processor: str = PLAIN
    append: str = ""
    devices: tuple[str, ...] = ()
    # Where the devices under test sit; one slot each.
    slots: tuple[str, ...] = ("bus=pcie.0,addr=8", "bus=pcie.0,addr=9")
    edu_bits: int = 64
    memory: str = "1G"


INTEL = ("intel-iommu,intremap=off",)
SWITCH = (
    "pcie-root-port,id=root,bus=pcie.0,addr=8,chassis=1",
    "x3130-upstream,id=up,bus=root",
    "xio3130-downstream,id=down0,bus=up,chassis=2,slot=0",
    "xio3130-downstream,id=down1,bus=up,chassis=3,slot=1",
)

MACHINES = {machine.name: machine for machine in [
    # With 3 GiB some lies beyond 4 GiB, and the kernel makes bounce slots, so
    # that this device has the choice.
    Machine("direct", "no IOMMU", "direct", memory="3G"),
    Machine("bounce", "swiotlb=force", "bounce", append="swiotlb=force"),
    # movable_node makes the kernel put its bounce slots as low as it can, where
    # 28 bits reach them. They do not reach most of the memory.
    Machine("bounce-natural", "memory beyond the mask", "bounce",
            append="movable_node", edu_bits=28, memory="3G"),
    Machine("intel-lazy", "Intel IOMMU, lazy", "iommu", devices=INTEL,
            append="intel_iommu=on iommu.strict=0", edu_bits=28),
    Machine("intel-strict", "Intel IOMMU, strict", "iommu", devices=INTEL,
            memory="3G",
            append="intel_iommu=on iommu.strict=1", edu_bits=28),
    Machine("intel-passthrough", "Intel IOMMU, passthrough", "direct",
            devices=INTEL, append="intel_iommu=on iommu=pt"),
    Machine("amd", "AMD IOMMU", "iommu", "iommu", processor=ZEN,
            devices=("amd-iommu",), edu_bits=28),
    Machine("virtio-iommu", "virtio-iommu", "iommu", edu_bits=28,
            devices=("virtio-iommu-pci,bus=pcie.0,addr=3",)),
    Machine("p2p-bus", "peers behind one switch", "direct", "bus",
            devices=SWITCH, slots=("bus=down0", "bus=down1")),
    Machine("p2p-bridge", "peers through the host bridge", "direct", "direct",
            processor=ZEN),
    Machine("p2p-iommu", "the same, Intel IOMMU", "iommu", "iommu",
            processor=ZEN, append="intel_iommu=on iommu.strict=0",
            devices=INTEL, edu_bits=28),
    Machine("p2p-refused", "no way between the peers", "direct", "refused",
            processor=OLD),
]}


def nvme(machine, controllers, **options):
    """QEMU arguments: an NVMe controller with a CMB for each slot in use.

    controllers is what each has: a disk, or a list of them, its namespaces in
    order. options are properties of QEMU's for all controllers: mdts=5. The
    devices are called nvme0, nvme1, ...; the drives disk0, disk1, ....
    """
    more = "".join(f",{name}={value}" for name, value in options.items())
    number = 0
    args = []
    for at, (slot, disks) in enumerate(zip(machine.slots, controllers)):
        disks = disks if isinstance(disks, list) else [disks]
        args += ["-device", f"nvme,id=nvme{at},serial={disks[0].serial},"
                            f"cmb_size_mb={CMB_BYTES >> 20},{slot}{more}"]
        for nsid, disk in enumerate(disks, 1):
            args += _namespace(f"disk{number}", disk,
                               f"bus=nvme{at},nsid={nsid}")
            number += 1
    return args


def _namespace(name, disk, where):
    # What is deallocated becomes a hole: it reads as zeroes, here and there.
    return ["-drive", f"if=none,id={name},format=raw,discard=unmap,"
                      f"file={disk.path}",
            "-device", f"nvme-ns,drive={name},{where},"
                       f"logical_block_size={disk.block_size},"
                       f"physical_block_size={disk.block_size}"]


# The memory behind that BAR, for QEMU to make.
EDU_MEMORY = {"qom-type": "memory-backend-ram", "id": "bar", "size": 4 << 20,
              "share": True}


def edu(machine):
    """QEMU arguments: a device that copies bytes, and a BAR to lend it.

    No BAR where the device could not reach it.
    """
    mask = (1 << machine.edu_bits) - 1
    args = ["-device", f"edu,dma_mask={mask:#x},{machine.slots[0]}"]
    if machine.cpu == "iommu" or machine.edu_bits == 64:
        args += ["-object", json.dumps(EDU_MEMORY),
                 "-device", "ivshmem-plain,id=lender,memdev=bar,"
                            f"{machine.slots[1]}"]
    return args


# --- what runs in them ------------------------------------------------------

def kernel(flavour="base"):
    """The kernel of a flavour, built where it is not.

    DMA_PHYS_BUILD, or DMA_PHYS_BUILD_DEBUG, names one that is, and
    DMA_PHYS_SRC its source.
    """
    build = os.environ.get("DMA_PHYS_BUILD" if flavour == "base"
                           else f"DMA_PHYS_BUILD_{flavour.upper()}")
    if not build:
        return kernels.build(flavour)
    return kernels.Kernel(flavour, pathlib.Path(os.environ["DMA_PHYS_SRC"]),
                          pathlib.Path(build))


def module_files(kernel):
    """MODULES that are files, as {name: [dependencies first, itself last]}."""
    files = {path.stem.replace("-", "_"): path for path in kernel.modules}

    def closure(name):
        out = subprocess.run(["modinfo", "-F", "depends", files[name]],
                             capture_output=True, text=True, check=True)
        order = []
        for needed in filter(None, out.stdout.strip().split(",")):
            order += closure(needed.replace("-", "_"))
        return [path for path in order if path != files[name]] + [files[name]]

    return {name: list(dict.fromkeys(closure(name)))
            for name in MODULES if name in files}


def initramfs(kernel):
    """The archive for a kernel, made once for each content."""
    busybox = pathlib.Path(shutil.which("busybox"))
    modules = module_files(kernel)
    parts = {"init": GUEST / "init", "lib/guest.sh": GUEST / "guest.sh",
             "bin/busybox": busybox}
    for files in modules.values():
        parts |= {f"modules/{path.name}": path for path in files}
    key = hashlib.sha256(repr(modules.keys()).encode())
    for name, path in sorted(parts.items()):
        key.update(name.encode() + b"\0" + path.read_bytes())
    archive = CACHE / "initramfs" / f"{key.hexdigest()[:16]}.cpio"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as tree:
            _lay_out(pathlib.Path(tree), parts, modules)
            _pack(tree, archive)
    return archive


def _lay_out(tree, parts, modules):
    for name in ("proc", "sys", "dev", "tmp", "modules", "bin", "lib"):
        (tree / name).mkdir()
    for name, path in parts.items():
        shutil.copy(path, tree / name)
        (tree / name).chmod(0o755)
    applets = subprocess.run([tree / "bin/busybox", "--list"], text=True,
                             capture_output=True, check=True).stdout.split()
    for applet in set(applets) - {"busybox"}:
        (tree / "bin" / applet).symlink_to("busybox")
    for name in MODULES:
        order = [path.name for path in modules.get(name, [])]
        (tree / f"modules/{name}.order").write_text("\n".join(order))


def _pack(tree, archive):
    names = "\n".join(sorted(
        str(path.relative_to(tree))
        for path in pathlib.Path(tree).rglob("*"))) + "\n"
    # The name appears only when the file is whole: another run may look.
    half = archive.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    with half.open("wb") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"],
                       input=names.encode(), stdout=out, cwd=tree, check=True)
    half.rename(archive)


# --- what the kernel complains about ----------------------------------------

REPORT = re.compile("|".join([
    r"WARNING: ", r"\bBUG: ", r"\bBUG at ", r"KASAN: ", r"UBSAN: ",
    r"Oops\b", r"Kernel panic", r"general protection fault",
    r"Call Trace:", r"possible (recursive|circular)",
    r"inconsistent lock state", r"suspicious RCU", r"rcu: INFO: ",
    r"INFO: task .* blocked", r"refcount_t: ", r"list_(add|del) corruption",
    r"DMA-API: ", r"kmemleak: [1-9]\d* new suspected",
    r"\[DMA (Read|Write)", r"IO_PAGE_FAULT", r"viommu.* fault from EP",
    r"virtio_iommu.* fault from EP", r"panicked at ",
]))
# Said at every boot, and no complaint.
INFORMATION = re.compile("|".join([
    r"DMA-API: preallocated \d+ debug entries",
    r"DMA-API: debugging (enabled by kernel config|disabled on kernel command)",
    r"DMA-API: dma_debug_entry pool grown",
    r"WARNING: See https?://",
]))


def reports(log):
    """The lines of a kernel log that are a complaint."""
    return [line for line in log.splitlines()
            if REPORT.search(line) and not INFORMATION.search(line)]


# An emulated processor may stand still while the host is busy. The kernel then
# distrusts its clock or its timer interrupt, and may hang at boot over it.
QUIET_CLOCKS = "tsc=reliable no_timer_check"


# One nanosecond of the guest's time is one instruction, of all its processors
# together. While they idle its clock goes with the host's.
COUNTED = ["-accel", "tcg", "-icount", "shift=0,sleep=on"]
# For a counted machine with one processor: the kernel measures the timer of the
# processor in a loop that is slow there, on a busy host distrusts it, and takes
# another one. Have it take that one always.
ONE_TIMER = "nolapic_timer"


# Seconds that a guest may take for one command. The kernel that reports needs
# half a minute for some on a busy host.
PATIENCE = 300


# --- running one ------------------------------------------------------------

class Failure(Exception):
    """A machine that does not start, answer or stop, and where its log is."""


class Refusal(Exception):
    """A command in the guest that had to succeed and did not."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command in the guest said and how it ended."""

    code: int
    out: str


_probe = threading.Lock()
_probed = []


def accelerator(kernel):
    """KVM where a probe boot shows that it runs a guest, else TCG.

    The device file says little: it may open, and the guest then hang.
    Probed once a run.
    """
    forced = os.environ.get("DMA_PHYS_ACCEL")
    if forced:
        return forced
    with _probe:
        if not _probed:
            _probed.append("kvm" if _kvm_works(kernel) else "tcg")
    return _probed[0]


def _kvm_works(kernel):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        with VM(kernel, MACHINES["direct"], name="kvm-probe", accel="kvm",
                silence=6, patience=15):
            return True
    except Failure:
        return False


_running = set()
_no_more = threading.Event()


def kill_all():
    """End every machine, and let none start, as when a person interrupts."""
    _no_more.set()
    for machine in list(_running):
        machine.kill()


class VM:
    """A running machine. Use it as a context; leaving it powers it off.

    With icount=True its clock counts instructions. With turns=True its processors
    run by turns where they are emulated: for guests that sleep and wake for
    minutes. At the same time, QEMU 10.0 loses an interrupt of a processor about
    once in 300 rounds of hotplug: it is taken, and its handler never runs.
    """

    def __init__(self, kernel, machine, *, devices=(), append="", name="",
                 accel=None, silence=None, patience=600, qmp=False,
                 programs=False, trace=(), off="poweroff -f", icount=False,
                 cpus=2, turns=False):
        self.kernel = kernel
        self.machine = machine
        self.name = name or machine.name
        # Another run may boot the same machine: its log is another file.
        self.log = LOGS / f"vm-{self.name}.{os.getpid()}.log"
        self._console = None
        self._closing = threading.Lock()
        self._accel = accel
        self._icount = icount
        self._cpus = cpus
        self._turns = turns
        self._devices = [*devices, *(PROGRAMS if programs else [])]
        self._programs = programs
        self._trace_events = list(trace)
        self._trace = None
        self._append = append
        self._off = off
        self._silence = silence
        self._patience = patience
        self._number = 0
        self._lines = queue.Queue()
        self._qemu = None
        self._channel = monitor.Channel() if qmp else None

    # Its life.

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            self.kill()
        else:
            self.stop()

    def arguments(self):
        """The whole QEMU command line."""
        machine = self.machine
        append = [QUIET_CLOCKS, "console=ttyS0 panic=-1 kunit.autorun=0",
                  machine.append, self._append]
        if self._icount:
            accel = COUNTED
        else:
            accel = self._accel or accelerator(self.kernel)
            if accel == "tcg":
                accel += ",thread=" + ("single" if self._turns else "multi")
            accel = ["-accel", accel]
        args = ["qemu-system-x86_64", "-nodefaults", "-no-user-config",
                "-display", "none", "-monitor", "none", "-no-reboot",
                "-machine", "q35", *accel,
                "-cpu", machine.processor, "-smp", str(self._cpus),
                "-m", machine.memory,
                "-kernel", str(self.kernel.image),
                "-initrd", str(initramfs(self.kernel)),
                "-append", " ".join(filter(None, append)),
                "-chardev", f"file,id=console,path={self.log}",
                "-serial", "chardev:console",
                "-chardev", "stdio,id=agent,signal=off",
                "-serial", "chardev:agent"]
        for device in machine.devices:
            args += ["-device", device]
        for event in self._trace_events:
            args += ["-trace", event]
        if self._trace:
            args += ["-D", self._trace.name]
        if self._channel:
            args += self._channel.arguments()
        return args + self._devices

    def start(self):
        """Boot, and wait for the guest's first word."""
        LOGS.mkdir(parents=True, exist_ok=True)
        if self._trace_events:
            self._trace = tempfile.NamedTemporaryFile("r")
        arguments = self.arguments()
        self.log.write_text("")
        self._errors = tempfile.TemporaryFile("w+")
        if _no_more.is_set():
            raise Failure(f"machine '{self.name}' is no longer wanted")
        self._qemu = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=[self._channel.fd] if self._channel else [])
        _running.add(self)
        atexit.register(self.kill)
        threading.Thread(target=self._listen, daemon=True).start()
        if self._silence:
            self._expect_console(self._silence)
        self._read_answer(0, self._patience)
        if self._channel:
            self._qemu_says(self._channel.open, PATIENCE)
        if self._programs:
            self.sh("programs")

    def stop(self):
        """Power off in order, so that drivers see their shutdown."""
        if self._qemu.poll() is None:
            self._say(self._off)
            try:
                self._qemu.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._fail("does not power off")
        if self._qemu.wait():
            self._fail(f"QEMU ended with {self._qemu.returncode}")
        self._close()

    def kill(self):
        """End it now."""
        if self._qemu.poll() is None:
            self._qemu.kill()
            self._qemu.wait()
        self._close()

    def _close(self):
        """Keep the log, under the name that a person looks for."""
        atexit.unregister(self.kill)
        _running.discard(self)
        if self._channel:
            self._channel.close()
        with self._closing:
            if self._console is None:
                self._console = self.console()
                self.log = self.log.rename(LOGS / f"vm-{self.name}.log")

    # What it does for us.

    def ask(self, line, timeout=PATIENCE):
        """Run one line of shell in the guest."""
        if "\n" in line or len(line) > 4000:
            raise ValueError("one line of at most 4000 characters")
        self._say(line)
        return self._read_answer(self._number, timeout)

    def sh(self, line, timeout=PATIENCE):
        """The same, for a line that must succeed: its output."""
        answer = self.ask(line, timeout)
        if answer.code:
            raise Refusal(f"'{line}' ended with {answer.code}: {answer.out}")
        return answer.out

    def qmp(self, command, timeout=PATIENCE, **arguments):
        """Have QEMU itself do something: what it returns.

        guest.qmp("device_del", id="disk0")
        """
        return self._qemu_says(self._channel.command, command, timeout,
                               **arguments)

    def event(self, name, timeout=PATIENCE, **data):
        """Wait for an event of QEMU's with these data: all of its data.

        guest.event("DEVICE_DELETED", device="disk0")
        """
        return self._qemu_says(self._channel.event, name, timeout, **data)

    def traced(self):
        """What QEMU's devices did since the last call, as (event, text).

        Events are those that the machine was made with, in QEMU's words.
        """
        lines = self._trace.read().splitlines()
        return [tuple(line.split(" ", 1)) for line in lines if " " in line]

    def console(self):
        """The kernel's log so far."""
        if self._console is not None:
            return self._console
        return self.log.read_text(errors="replace")

    def where(self):
        """What to tell a person about the log."""
        return f"the full log: {kernels.host_path(self.log)}"

    def reports(self):
        """What the kernel complained about so far."""
        return reports(self.console())

    def last_look(self, expected_errors=0):
        """Before power-off: leaks and DMA errors, as lines of complaint."""
        found = []
        leaks = self.ask("leaks").out
        if leaks:
            found.append("kmemleak: " + leaks)
        maps = self.ask("live_maps").out
        if maps:
            found.append("dma_phys: still mapped: " + maps)
        errors = self.ask("dma_errors").out or "0"
        if int(errors) != expected_errors:
            found.append(f"DMA-API: {errors} errors counted, "
                         f"not {expected_errors}")
        return found

    # How.

    def _say(self, line):
        self._number += 1
        try:
            self._qemu.stdin.write(f"{self._number} {line}\n".encode())
            self._qemu.stdin.flush()
        except BrokenPipeError:
            self._fail("is gone")

    def _qemu_says(self, ask, *arguments, **more):
        try:
            return ask(*arguments, **more)
        except monitor.Refused as error:
            raise Refusal(str(error)) from None
        except monitor.Silent as error:
            self._fail(f"did not answer {arguments}: {error}")

    def _listen(self):
        for line in self._qemu.stdout:
            self._lines.put(line.decode(errors="replace").rstrip("\r\n"))
        self._lines.put(None)

    def _read_answer(self, number, timeout):
        end = time.monotonic() + timeout
        out = []
        while True:
            try:
                line = self._lines.get(timeout=end - time.monotonic())
            except (queue.Empty, ValueError):
                self._fail(f"did not answer within {timeout} s")
            if line is None:
                self._fail("ended")
            if line.startswith(" "):
                out.append(line[1:])
            elif line.startswith(f"={number} "):
                return Answer(int(line.split()[1]), "\n".join(out).strip())

    def _expect_console(self, seconds):
        end = time.monotonic() + seconds
        while not self.log.stat().st_size:
            if time.monotonic() > end or self._qemu.poll() is not None:
                self._fail("is silent")
            time.sleep(0.1)

    def _fail(self, what):
        processors = self._processors()
        self.kill()
        self._errors.seek(0)
        tail = self.console().splitlines()[-8:]
        raise Failure("\n".join([f"machine '{self.name}' {what}",
                                 self._errors.read().strip(), *tail,
                                 *processors, self.where()]))

    def _processors(self):
        """Where each of them is, for who must know why a guest is silent."""
        if not self._channel or self._qemu.poll() is not None:
            return []
        try:
            said = self._channel.command("human-monitor-command", 10, **{
                "command-line": "info registers -a"})
        except (monitor.Refused, monitor.Silent, OSError) as error:
            return [f"QEMU: {error}"]
        return [f"processor {number}: {self.kernel.symbol(int(at, 16))}"
                + ", halted" * (halted == "1")
                for number, (at, halted) in enumerate(re.findall(
                    r"RIP=(\w+).*?HLT=(\d)", said))]
