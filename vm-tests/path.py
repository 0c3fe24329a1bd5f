# An unmodified program reaches a target behind NAT; without tunneler it does not.

with subtest("what the target serves arrives, and it was the proxy that dialled"):
    assert client.succeed(fetch(SITE)).strip() == "target"
    target.succeed("grep '^192.168.1.1 ' /var/log/nginx/access.log")

with subtest("every unit is active"):
    server.wait_for_unit("tunneler-server.service")
    client.wait_for_unit("tunneler-client.service")
    client.wait_for_unit("tunneler-capture.service")

with subtest("a refusal is told at once"):
    # 7 and 56 are refused and reset; 28, too late, would not do.
    attempt = "runuser -u nobody -- curl --silent --max-time 5 http://100.64.1.5:81/"
    client.succeed(f"{attempt}; status=$?; test $status = 7 -o $status = 56")

with subtest("the process that carries connections has no capability"):
    pid = client.succeed("systemctl show --property=MainPID --value tunneler-client.service").strip()
    assert "CapEff:\t0000000000000000" in client.succeed(f"cat /proc/{pid}/status")

with subtest("without the client there is no way"):
    client.succeed("systemctl stop tunneler-client.socket tunneler-client.service tunneler-capture.service")
    assert rules() == ""
    client.fail(fetch(SITE))
