"""Simulated bare metal: hundreds of servers in one process, that boot, speak SSH and call, without QEMU.

To Landfall they are servers like any other: a Redfish BMC, a boot script asked for at every start, a rescue system that
runs jobs over SSH, an installed system that phones home. Their commands do nothing but print. A test can order every
kind of trouble, and ask afterwards what really happened to each machine.
"""

from .processes import Landfall, Process
from .remote import ALL, Remote
from .server import ORDERS, SimulatedServer
from .simulation import Simulation, free_network, running
from .spec import BMC_PASSWORD, BMC_USER, SSH_PORT, Pace, ServerSpec, specs

__all__ = [
    "ALL", "BMC_PASSWORD", "BMC_USER", "ORDERS", "SSH_PORT", "Landfall", "Pace", "Process", "Remote", "ServerSpec",
    "SimulatedServer", "Simulation", "free_network", "running", "specs",
]  # fmt: skip
