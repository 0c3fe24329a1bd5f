"""Hosts in network namespaces, for the demo, the tests and the benchmark.

::

    with Lab(standard_topology()) as lab:
        web = lab.host("target").spawn("python3", "-m", "http.server", "80", log=directory / "web.log")
        lab.host("proxy").run("curl", "-sS", "http://192.168.1.5/")
"""

from testbed.hosts import Host
from testbed.namespaces import Lab
from testbed.processes import CommandFailed, Process, ProcessEndedError, wait_until
from testbed.topology import HostSpec, Topology, standard_topology

__all__ = [
    "CommandFailed",
    "Host",
    "HostSpec",
    "Lab",
    "Process",
    "ProcessEndedError",
    "Topology",
    "standard_topology",
    "wait_until",
]
