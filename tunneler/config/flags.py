"""Which flag sets which key: one table for the command line and for the messages about it.

Nothing heavy is imported here: ``--help`` needs this table and no model.
"""

from __future__ import annotations

FLAG_OF_KEY = {
    "listen_addr": "--listen",
    "server_addr": "--server",
    "target_cidr": "--cidr",
    "listen_port": "--listen-port",
    "exclude": "--exclude",
    "client_id": "--client-id",
    "capture.gateway": "--gateway",
    "capture.enabled": "--no-capture",
    "proxy_id": "--proxy-id",
    "managed_cidr": "--managed-cidr",
    "routes": "--route",
    "transport": "--transport",
    "tls.cert_file": "--tls-cert",
    "tls.key_file": "--tls-key",
    "tls.ca_file": "--tls-ca",
    "tls.min_version": "--tls-min-version",
    "tls.insecure": "--tls-insecure",
    "log.level": "--log-level",
    "log.format": "--log-format",
}
