"""Run by the system's Python, which has cloud-init: prints as JSON what cloud-init reads from a config drive's files.

argv: the folder, then NAME=MAC for every network card that the machine is to have.
"""

import base64
import json
import sys
from typing import Any


def read(folder: str, known_macs: dict[str, str]) -> dict[str, Any]:
    from cloudinit.net.network_state import parse_net_config_data  # type: ignore[import-not-found]
    from cloudinit.sources.DataSourceConfigDrive import read_config_drive  # type: ignore[import-not-found]
    from cloudinit.sources.helpers.openstack import convert_net_json  # type: ignore[import-not-found]

    found = read_config_drive(folder)
    network = convert_net_json(found["networkdata"], known_macs=known_macs)
    return {
        "metadata": found["metadata"],
        "dsmode": found.get("dsmode"),
        "userdata": base64.b64encode(found["userdata"]).decode(),
        "vendordata": found["vendordata"],
        "interfaces": list(parse_net_config_data(network).iter_interfaces()),
        "dns": parse_net_config_data(network).dns_nameservers,
    }


if __name__ == "__main__":
    pairs = [argument.split("=", 1) for argument in sys.argv[2:]]
    print(json.dumps(read(sys.argv[1], {mac: name for name, mac in pairs})))
