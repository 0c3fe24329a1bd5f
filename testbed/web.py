"""nginx on a host of a lab: a few files over HTTP, and an access log of its own."""

from __future__ import annotations

from pathlib import Path

from testbed.hosts import Host
from testbed.processes import Process, wait_until

PORT = 80
START_DEADLINE = 10.0

# One worker, on one core, as readers of a benchmark expect of "nginx". It stays root because its
# files may lie in a directory that only root can enter.
_CONFIGURATION = """\
user root;
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
  log_format who '$remote_addr "$request" $status $body_bytes_sent';
  access_log {access_log};
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  sendfile on;
  default_type text/plain;
  client_max_body_size 0;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen {port} backlog=4096;
    listen [::]:{port} backlog=4096 ipv6only=on;
    root {directory}/www;
    dav_methods PUT;
  }}
}}
"""


class Web:
    """A running web server.

    Args:
        directory: made, and filled; what is put into ``www`` below it is served.
        log_accesses: whether :meth:`accesses` has anything to tell; writing it takes time.
    """

    def __init__(self, host: Host, directory: Path, port: int = PORT, *, log_accesses: bool = True) -> None:
        self.directory = directory
        self.files = directory / "www"
        self.files.mkdir(parents=True)
        configuration = directory / "nginx.conf"
        access_log = f"{directory}/access.log who" if log_accesses else "off"
        text = _CONFIGURATION.format(directory=directory, port=port, access_log=access_log)
        configuration.write_text(text, encoding="ascii")
        # -e: without it nginx first tries to write to /var/log.
        argv = ("nginx", "-e", directory / "nginx-error.log", "-c", configuration)
        self.process: Process = host.spawn(*argv, log=directory / "nginx.log")
        probe = (f"sport = :{port}",)
        wait_until(
            lambda: len(host.run("ss", "-Hltn", *probe).stdout.splitlines()) == 2,
            START_DEADLINE,
            f"nginx in {host.name} listens on port {port}",
        )

    def accesses(self) -> list[str]:
        """Its access log: ``address "request" status bytes``."""
        return (self.directory / "access.log").read_text(encoding="utf-8").splitlines()
