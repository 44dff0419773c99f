"""What programs can read of a board: its processor, cores and name, as its own kernel writes them."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.errors import ConfigError

from ..profile import Profile


@dataclass(frozen=True)
class Machine:
    """A board that can be emulated.

    Attributes
    ----------
    model : str
        ``/proc/device-tree/model``.
    revision : str
        The board's revision code.
    qemu_cpu : str
        What QEMU calls the processor.
    part, variant, cpu_revision, features, bogomips : str
        Lines of ``/proc/cpuinfo`` on the board; LiteRT chooses its kernels by them and crashes on a foreign file.
    """

    model: str
    revision: str
    qemu_cpu: str
    part: str
    variant: str
    cpu_revision: str
    features: str
    bogomips: str

    def cpuinfo(self, cores: int) -> str:
        """Return ``/proc/cpuinfo``."""
        one = (
            "processor\t: {number}\nBogoMIPS\t: " + self.bogomips + "\nFeatures\t: " + self.features + "\n"
            "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: " + self.variant + "\nCPU part\t: "
            + self.part + "\nCPU revision\t: " + self.cpu_revision + "\n\n"
        )  # fmt: skip
        board = f"Revision\t: {self.revision}\nSerial\t\t: 0000000000000000\nModel\t\t: {self.model}\n"
        return "".join(one.format(number=i) for i in range(cores)) + board


_V8 = "fp asimd evtstrm crc32 cpuid"
_V82 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
)
MACHINES = {
    "pi-zero-2w": Machine(
        "Raspberry Pi Zero 2 W Rev 1.0", "902120", "cortex-a53", "0xd03", "0x0", "4", _V8, "38.40"
    ),
    "pi4": Machine("Raspberry Pi 4 Model B Rev 1.4", "a03115", "cortex-a72", "0xd08", "0x0", "3", _V8, "108.00"),
    "pi5": Machine("Raspberry Pi 5 Model B Rev 1.0", "b04170", "cortex-a76", "0xd0b", "0x4", "1", _V82, "108.00"),
}  # fmt: skip


def machine(name: str) -> Machine:
    """Return the machine of a board's profile.

    Raises
    ------
    ConfigError
        If that board cannot be emulated.

    Examples
    --------
    >>> machine("pi5").qemu_cpu
    'cortex-a76'
    """
    if name not in MACHINES:
        raise ConfigError(f"{name} cannot be emulated: give one of {', '.join(MACHINES)}")
    return MACHINES[name]


def files(profile: Profile) -> dict[str, str]:
    """Return the texts below the root by which programs know the board, by path."""
    board, cores = machine(profile.name), profile.processor.cores
    last = f"0-{cores - 1}\n" if cores > 1 else "0\n"
    total = profile.memory.ram // 1024 * 95 // 100  # the kernel and the graphics keep some
    found = {
        "proc/cpuinfo": board.cpuinfo(cores),
        "proc/device-tree/model": board.model + "\0",
        "proc/meminfo": (
            f"MemTotal:{total:15d} kB\nMemFree:{total * 3 // 4:16d} kB\nMemAvailable:{total * 4 // 5:11d} kB\n"
        ),
    }  # fmt: skip
    return found | {f"sys/devices/system/cpu/{name}": last for name in ("online", "possible", "present")}
