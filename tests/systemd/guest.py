"""Runs in the virtual machine, as root: installs, restarts, upgrades, hangs and kills the agent, and looks at what it wrote.

It tells the stand-in what it is about to do, so that deeds and heartbeats stand in one record. It ends each boot by a
reboot or a power-off, whose heartbeats host.py judges.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import time
import urllib.request

STAND_IN = os.environ["STAND_IN"]
AGENT, LEAVE = "eipwatch-agent.service", "eipwatch-agent-leave.service"
STATE = pathlib.Path("/var/lib/trial")
# Enough for an emulated machine that shares its host with others.
LONG_S = 180
EVERY_S = 5
EXPOSURE_LIMIT = 2.0
# Two seconds, and what an emulated machine needs to start a program.
GIVEN_UP_S = 6


def ask(path, data=None):
    request = urllib.request.Request(STAND_IN + path, data=data.encode() if data is not None else None)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def mark(text):
    """Says what comes next; its place in the record."""
    print("trial:", text)
    return int(ask("/trial/mark", text))


def beats(since):
    """The heartbeats written since a place in the record."""
    return [entry for entry in json.loads(ask("/trial/record"))[since:] if entry["kind"] == "tag"]


def run(*command, fails=False):
    result = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    if (result.returncode != 0) != fails:
        raise AssertionError(f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout.strip()


def show(unit, name):
    return run("systemctl", "show", "--property", name, "--value", unit)


def until(what, come, limit_s=LONG_S):
    end = time.monotonic() + limit_s
    while not come():
        assert time.monotonic() < end, f"out of time while waiting for {what}"
        time.sleep(0.5)


def wait_for(status, since):
    """A heartbeat of this status, as the newest."""
    until(f"status={status}", lambda: [b["status"] for b in beats(since)][-1:] == [status])


def announced_nothing(since):
    said = [b["value"] for b in beats(since) if b["status"] != "ok"]
    assert said == [], said


def agent_pid():
    return int(show(AGENT, "MainPID"))


def replaced(pid):
    until("another process of the agent", lambda: agent_pid() not in (0, pid) and show(AGENT, "ActiveState") == "active")


def installed_by_cloud_init():
    here = mark("cloud-init installs the agent")
    status = run("cloud-init", "status", "--wait")
    assert "status: done" in status, status
    wait_for("ok", here)
    assert "leaving" not in {b["status"] for b in beats(0)}
    run("cloud-init", "schema", "--config-file", "/trial/cloud-init-al2023.yaml")


def a_goodbye_waits_for_no_resolver():
    """A resolver that never answers: glibc would go on asking for ten seconds and more."""
    mark("names are no longer resolved")
    pathlib.Path("/etc/resolv.conf").write_text("nameserver 127.0.0.53\n")
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.53", 53))
    names = {"AWS_ENDPOINT_URL": "http://ec2.trial.example:80", "EIPWATCH_AGENT_RUN_DIR": "/run"}
    begun = time.monotonic()
    result = subprocess.run(["eipwatch-agent", "leave"], env={**os.environ, **names}, timeout=LONG_S, check=False)
    took = time.monotonic() - begun
    silent.close()
    mark(f"the goodbye was given up after {took:.1f} s")
    assert result.returncode == 1 and took < GIVEN_UP_S, result
    pathlib.Path("/run/leaving").unlink()


def units_are_as_they_should():
    mark("units")
    for unit in (AGENT, LEAVE):
        assert run("systemctl", "is-enabled", unit) == "enabled"
        assert run("systemctl", "is-active", unit) == "active"
        report = run("systemd-analyze", "security", "--no-pager", unit)
        exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", report).group(1))
        mark(f"exposure of {unit}: {exposure}")
        assert exposure < EXPOSURE_LIMIT, report
    assert show(AGENT, "Type") == "notify"
    assert show(AGENT, "StatusText") != "", "it tells systemd what it does"
    assert "eipwatch" in pathlib.Path(f"/proc/{agent_pid()}/comm").read_text()
    assert pathlib.Path(f"/proc/{agent_pid()}").stat().st_uid != 0, "the agent is not root"


def checks_work_in_the_sandbox():
    here = mark("checks: http, unit, exec, tcp")
    checks = '["http:8080/health", "unit:trial-web.service", "exec:/usr/local/bin/ok", "tcp:8080"]'
    pathlib.Path("/etc/eipwatch-agent.toml").write_text(f'check = {checks}\ntimeout = "10s"\n')
    run("systemctl", "restart", AGENT)
    wait_for("ok", here)
    time.sleep(EVERY_S)
    announced_nothing(here)
    here = mark("the service is stopped")
    run("systemctl", "stop", "trial-web.service")
    wait_for("fail", here)
    until("both checks to have failed", lambda: all(word in beats(here)[-1]["value"] for word in ("http:8080", "unit:trial-web")))
    assert "exec:" not in beats(here)[-1]["value"]
    here = mark("the service is started")
    run("systemctl", "start", "trial-web.service")
    wait_for("ok", here)


def a_restart_announces_nothing():
    for how in (("restart",), ("stop", "start")):
        here, pid = mark("the agent is restarted: " + ", ".join(how)), agent_pid()
        for verb in how:
            run("systemctl", verb, AGENT)
        replaced(pid)
        until("heartbeats", lambda: len(beats(here)) > 2)
        announced_nothing(here)


def upgrade(*command):
    here, pid = mark("the package is upgraded"), agent_pid()
    since = show(LEAVE, "ActiveEnterTimestampMonotonic")
    run(*command)
    replaced(pid)
    until("heartbeats", lambda: len(beats(here)) > 2)
    announced_nothing(here)
    assert show(LEAVE, "ActiveEnterTimestampMonotonic") == since, "the unit that says goodbye was touched"


def one_that_hangs_is_started_anew():
    here, pid = mark("the agent hangs: SIGSTOP"), agent_pid()
    os.kill(pid, 19)
    replaced(pid)
    mark("the watchdog has started it anew")
    assert "Watchdog timeout" in run("journalctl", "--no-pager", "--unit", AGENT)
    until("heartbeats", lambda: len(beats(here)) > 2)
    announced_nothing(here)


def one_that_dies_is_started_anew():
    here, pid = mark("the agent dies: SIGKILL"), agent_pid()
    os.kill(pid, 9)
    replaced(pid)
    until("heartbeats", lambda: len(beats(here)) > 1)
    announced_nothing(here)


def only_a_shutdown_says_goodbye():
    here = mark("somebody stops the unit that says goodbye")
    run("systemctl", "stop", LEAVE, fails=True)
    assert run("systemctl", "is-active", LEAVE) == "active"
    time.sleep(EVERY_S)
    announced_nothing(here)


def leave_by_hand_and_back():
    here = mark("eipwatch-agent leave")
    run("eipwatch-agent", "leave", "--why", "trial")
    wait_for("leaving", here)
    first = len(beats(here))
    until("the agent to say so itself", lambda: len(beats(here)) > first + 1)
    assert {b["status"] for b in beats(here)[first:]} == {"leaving"}
    here = mark("back by a restart")
    run("systemctl", "restart", AGENT)
    wait_for("ok", here)


def the_network_comes_and_goes():
    here, pid = mark("the network goes for 15 s"), agent_pid()
    (interface,) = set(os.listdir("/sys/class/net")) - {"lo"}
    run("ip", "link", "set", interface, "down")
    time.sleep(15)
    run("ip", "link", "set", interface, "up")
    until("heartbeats", lambda: len(beats(here)) > 2)
    announced_nothing(here)
    assert agent_pid() == pid, "it did not survive"


def removed_and_installed_as_rpm():
    here = mark("the Debian package is purged")
    run("apt-get", "purge", "--yes", "eipwatch-agent")
    assert not pathlib.Path("/usr/bin/eipwatch-agent").exists()
    assert show(AGENT, "ActiveState") == "inactive"
    here = mark("the RPM package is installed")
    time.sleep(2 * EVERY_S)
    assert beats(here) == [], "something is still running"
    # Debian's rpm knows nothing of Debian's packages, so it would miss glibc and systemd.
    run("rpm", "--install", "--nodeps", "/trial/eipwatch-agent-0.1.0.rpm")
    wait_for("ok", here)
    units_are_as_they_should()
    upgrade("rpm", "--upgrade", "--nodeps", "/trial/eipwatch-agent-0.1.1.rpm")


def the_hold_is_set_up():
    """The drop-in of docs/agent.md: the service answers on for a while after the goodbye."""
    folder = pathlib.Path(f"/etc/systemd/system/{LEAVE}.d")
    folder.mkdir(exist_ok=True)
    text = pathlib.Path("/trial/agent.md").read_text()
    (drop_in,) = re.findall(r"```ini\n(\[Unit\].*?)```", text, re.S)
    drop_in = "\n".join(line.strip() for line in drop_in.replace("nginx.service", "trial-web.service").splitlines())
    (folder / "hold.conf").write_text(drop_in)
    run("systemctl", "daemon-reload")


def boot_1():
    installed_by_cloud_init()
    units_are_as_they_should()
    checks_work_in_the_sandbox()
    a_restart_announces_nothing()
    upgrade("dpkg", "--install", "/trial/eipwatch-agent-0.1.1.deb")
    one_that_hangs_is_started_anew()
    one_that_dies_is_started_anew()
    only_a_shutdown_says_goodbye()
    leave_by_hand_and_back()
    a_goodbye_waits_for_no_resolver()
    the_network_comes_and_goes()
    end("reboot")


def boot_2():
    here = mark("booted again")
    wait_for("ok", here)
    removed_and_installed_as_rpm()
    the_hold_is_set_up()
    end("poweroff")


def end(verb):
    mark(verb)
    run("systemctl", "--no-block", verb)
    time.sleep(LONG_S)


def main():
    STATE.mkdir(exist_ok=True)
    count = STATE / "boots"
    boots = int(count.read_text()) + 1 if count.exists() else 1
    count.write_text(str(boots))
    try:
        (boot_1, boot_2)[boots - 1]()
    except Exception as error:  # Whatever it was, the host is to know.
        command = ["journalctl", "--no-pager", "--lines=40", "--unit", AGENT, "--unit", LEAVE]
        journal = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        mark(f"FAILED: {error}\n{journal}")
        subprocess.run(["systemctl", "poweroff", "--force"], check=False)


if __name__ == "__main__":
    main()
