# The server is restarted, and killed, under a download.

target.succeed("head -c 16M /dev/urandom >/var/www/big")
wanted = target.succeed("sha256sum </var/www/big")
begin = "systemd-run --unit=download --uid=nobody --property=RemainAfterExit=yes"
curl = f"$(command -v curl) --silent --show-error --fail --limit-rate 2M --output /tmp/big {SITE}/big"


def download() -> None:
    """Begin one, in the background."""
    client.succeed(f"{begin} {curl}")
    client.wait_until_succeeds("test -s /tmp/big", timeout=15)


def ended() -> str:
    """Wait for its end; what systemd says of it."""
    client.wait_until_succeeds(
        "systemctl show --property=SubState download | grep 'exited\\|failed'", timeout=60
    )
    result = client.succeed("systemctl show --property=Result --value download").strip()
    client.succeed("systemctl stop download; systemctl reset-failed download || true")
    return result


with subtest("a restart drains: the download arrives whole"):
    download()
    server.succeed("systemctl restart tunneler-server.service")
    assert ended() == "success"
    assert client.succeed("sha256sum </tmp/big") == wanted
    client.wait_until_succeeds(fetch(SITE), timeout=30)

with subtest("a kill resets it, which is told at once; what comes after works"):
    client.succeed("rm /tmp/big")
    download()
    server.succeed("systemctl kill --signal=KILL tunneler-server.service")
    assert ended() == "exit-code"
    client.wait_until_succeeds(fetch(SITE), timeout=30)
