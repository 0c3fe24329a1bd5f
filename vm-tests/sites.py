# Two proxies: each prefix leads to its own site, and is translated.

proxy2.wait_for_unit("tunneler-proxy.service")
target2.wait_for_unit("nginx.service")

with subtest("each prefix leads to its own site"):
    client.wait_until_succeeds(fetch("http://100.64.10.5"), timeout=60)
    assert client.succeed(fetch("http://100.64.10.5")).strip() == "target2"
    assert client.succeed(fetch(SITE)).strip() == "target"

with subtest("the second proxy dialled the real address"):
    target2.succeed("grep '^10.0.10.1 ' /var/log/nginx/access.log")

with subtest("a prefix without a proxy is refused"):
    client.fail(fetch("http://100.64.77.5"))

with subtest("a site that is down takes no other with it"):
    proxy2.succeed("systemctl stop tunneler-proxy.service")
    client.fail(fetch("http://100.64.10.5"))
    client.succeed(fetch(SITE))
