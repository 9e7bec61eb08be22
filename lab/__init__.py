"""Virtual bare metal: QEMU machines behind a Redfish BMC, without root and on loopback only."""

from .lab import Lab, LabUnusable
from .machine import Machine
from .spec import GIB, Bus, MachineSpec, mac_of

__all__ = ["GIB", "Bus", "Lab", "LabUnusable", "Machine", "MachineSpec", "mac_of"]
