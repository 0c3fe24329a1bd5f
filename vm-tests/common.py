# The beginning of every test: all hosts are up, and the path works.

SITE = "http://100.64.1.5"


def fetch(url: str) -> str:
    """A command that an ordinary user of the client gives."""
    return f"runuser -u nobody -- curl --silent --show-error --fail --max-time 5 {url}/"


def rules() -> str:
    """What of tunneler is in the client's packet filter, in either kind of table."""
    listing = "nft list ruleset; iptables-legacy -t nat -S"
    return client.succeed(f"({listing}) | grep --ignore-case tunneler || true")


start_all()
target.wait_for_unit("nginx.service")
server.wait_for_unit("tunneler-server.socket")
proxy.wait_for_unit("tunneler-proxy.service")
client.wait_for_unit("tunneler-client.socket")
client.wait_until_succeeds(fetch(SITE), timeout=60)
