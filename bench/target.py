"""What the target serves: a small file over HTTP, and iperf3."""

from __future__ import annotations

from pathlib import Path

from bench.cases import HTTP_PORT, IPERF_PORT
from testbed import Host, Lab, Process

BODY = "x" * 127 + "\n"
START_DEADLINE = 10.0

# One worker, on one core, as the table's readers expect of "nginx" on a two-core machine. The worker
# stays root because its files lie in a directory that only root can enter.
_NGINX = """\
user root;
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  sendfile on;
  default_type text/plain;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen {port} backlog=4096;
    root {directory}/www;
  }}
}}
"""

# The same for every subject. A port is not to be waited for: 32 clients that connect afresh for every
# request use up the default range within seconds.
_SYSCTLS = ("net.ipv4.ip_local_port_range=10000 65535", "net.core.somaxconn=4096")


def prepare(lab: Lab, directory: Path) -> None:
    """Start the web server and set what every host has in common."""
    for spec in lab.topology.hosts:
        lab.host(spec.name).run("sysctl", "-q", "-w", *_SYSCTLS)
    www = directory / "www"
    www.mkdir(parents=True)
    (www / "index.html").write_text(BODY, encoding="ascii")
    configuration = directory / "nginx.conf"
    configuration.write_text(_NGINX.format(directory=directory, port=HTTP_PORT), encoding="ascii")
    # -e: without it nginx first tries to write to /var/log.
    target = lab.host("target")
    error_log = directory / "nginx-error.log"
    target.spawn("nginx", "-e", error_log, "-c", configuration, log=directory / "nginx.log")


def start_iperf3(target: Host, log: Path) -> Process:
    """Start an iperf3 server; a new one for each case, because a test that was cut off leaves it busy."""
    server = target.spawn("iperf3", "-s", "-p", str(IPERF_PORT), "--forceflush", log=log)
    server.wait_for_line(lambda line: "Server listening" in line, START_DEADLINE)
    return server
