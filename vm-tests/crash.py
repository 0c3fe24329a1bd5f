# Capture rules after a crash: gone with whoever keeps them, back with it, never doubled.

before = rules()
assert before != ""

with subtest("the keeper of the rules is killed"):
    client.succeed("systemctl kill --signal=KILL tunneler-capture.service")
    client.wait_until_succeeds(fetch(SITE), timeout=30)
    client.wait_for_unit("tunneler-capture.service")
    assert rules() == before

with subtest("the client is killed"):
    client.succeed("systemctl kill --signal=KILL tunneler-client.service")
    client.wait_until_succeeds(fetch(SITE), timeout=30)
    assert rules() == before

with subtest("a stop leaves nothing"):
    client.succeed("systemctl stop tunneler-client.socket tunneler-client.service tunneler-capture.service")
    assert rules() == ""

with subtest("a host that loses its power starts clean, and works"):
    client.crash()
    client.start()
    client.wait_for_unit("tunneler-client.socket")
    client.wait_until_succeeds(fetch(SITE), timeout=60)
    assert rules() == before
