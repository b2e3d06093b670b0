"""Boots the virtual machine beside a stand-in of IMDS and EC2, and judges what stands in the stand-in's record."""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = pathlib.Path(__file__).resolve().parents[2]
INSTANCE = "i-0123456789abcdef0"
# The host, as the guest sees it: through qemu's own network, or over a bridge that only it and a container are at.
HOST = "10.0.2.2"
BRIDGE = "eipwatch-trial"
# How systemd-nspawn says that it is to be started again.
REBOOT = 133
KEY = "eipwatch:heartbeat"
# All of it, on an emulated machine whose host is busy.
LIMIT_S = int(os.environ.get("TRIAL_LIMIT_S", "2400"))
MEMORY_MIB = 1024
HOLD_S = 5
# From the wish to end to the goodbye: the agent stops first.
GOODBYE_S = 30

METADATA = {
    "instance-id": INSTANCE,
    "placement/region": "eu-west-1",
    "iam/security-credentials/": "node",
    "iam/security-credentials/node": json.dumps(
        {
            "Code": "Success", "LastUpdated": "2026-11-22T07:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIATEST",
            "SecretAccessKey": "test", "Token": "test", "Expiration": "2036-11-22T07:00:00Z",
        }
    ),
}  # fmt: skip
WRITTEN = (
    '<CreateTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId>'
    "<return>true</return></CreateTagsResponse>"
)


class StandIn:
    """What the guest asks, and the record of what it was told."""

    def __init__(self, packages, address):
        self.packages = packages
        self.record = []
        self.lock = threading.Lock()
        self.began = time.monotonic()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body, kind="text/plain", headers=()):
                body = body if isinstance(body, bytes) else body.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_PUT(self):
                ttl = self.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "60")
                self.answer(200, "token", headers=[("x-aws-ec2-metadata-token-ttl-seconds", ttl)])

            def do_GET(self):
                if self.path == "/trial/record":
                    return self.answer(200, stand_in.json())
                if self.path.startswith("/packages/"):
                    file = stand_in.packages / pathlib.Path(self.path).name
                    return self.answer(200, file.read_bytes(), "application/octet-stream")
                if self.path.startswith("/seed/"):
                    return self.answer(200, stand_in.seed(self.path.removeprefix("/seed/")))
                if self.headers.get("x-aws-ec2-metadata-token") != "token":
                    return self.answer(401, "")
                found = METADATA.get(self.path.removeprefix("/latest/meta-data/"))
                return self.answer(200, found) if found else self.answer(404, "")

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                if self.path == "/trial/mark":
                    return self.answer(200, str(stand_in.note({"kind": "mark", "text": body})))
                call = {key: values[0] for key, values in urllib.parse.parse_qs(body).items()}
                stand_in.called(call)
                return self.answer(200, WRITTEN, "text/xml")

        self.server = ThreadingHTTPServer((address, 0), Handler)
        self.server.daemon_threads = True
        # An agent that is killed cuts its connections.
        self.server.handle_error = lambda *_: None
        self.url = f"http://{HOST}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def note(self, entry):
        with self.lock:
            self.record.append({"at": round(time.monotonic() - self.began, 2), **entry})
            print(f"{self.record[-1]['at']:8.2f}  {entry.get('text') or entry.get('value')}", flush=True)
            return len(self.record)

    def called(self, call):
        value = call.get("Tag.1.Value", "")
        status = re.search(r" status=(\w+)", value)
        expected = {"Action": "CreateTags", "ResourceId.1": INSTANCE, "Tag.1.Key": KEY}
        others = {k: v for k, v in call.items() if k not in ("Version", "Tag.1.Value") and expected.get(k) != v}
        if others or not status:
            return self.note({"kind": "mark", "text": f"FAILED: a call that the agent must not make: {call}"})
        return self.note({"kind": "tag", "status": status.group(1), "value": value})

    def json(self):
        with self.lock:
            return json.dumps(self.record)

    def seed(self, name):
        """What cloud-init is given: the file of the repository, with an address that can be reached here."""
        if name == "meta-data":
            return f"instance-id: {INSTANCE}\nlocal-hostname: trial\n"
        if name != "user-data":
            return ""
        text = (REPO / "infra/agent/cloud-init-debian.yaml").read_text()
        example = "https://example.com/eipwatch-agent.deb"
        assert example in text
        # curl is there already, and no mirror of Debian's is.
        return text.replace(example, f"{self.url}/packages/eipwatch-agent-0.1.0.deb").replace("packages: [curl]\n", "")


def given(work, stand_in, packages):
    """What stands at /trial in the guest: the script, its environment, the packages."""
    folder = work / "disk"
    folder.mkdir()
    files = [REPO / name for name in ("tests/systemd/guest.py", "docs/agent.md", "infra/agent/cloud-init-al2023.yaml")]
    files += [*packages.glob("*-0.1.1.deb"), *packages.glob("*.rpm")]
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "environment").write_text(
        f"STAND_IN={stand_in.url}\nAWS_EC2_METADATA_SERVICE_ENDPOINT={stand_in.url}\nAWS_ENDPOINT_URL={stand_in.url}\n"
    )
    return folder


def until_off(command, **how):
    """Runs the machine until it has switched itself off; its exit status."""
    machine = subprocess.Popen([str(part) for part in command], **how)
    end = time.monotonic() + LIMIT_S
    try:
        while machine.poll() is None:
            if time.monotonic() > end:
                raise AssertionError(f"not done within {LIMIT_S} s")
            time.sleep(0.5)
    finally:
        machine.terminate()
        machine.wait()
    return machine.returncode


def emulated(options, stand_in):
    """An emulated machine; what it wrote to its console."""
    console = options.keep / "console.log"
    folder = given(options.work, stand_in, options.packages)
    disk = options.work / "trial.ext4"
    size_kib = 8192 + sum(file.stat().st_size for file in folder.iterdir()) * 5 // 4 // 1024
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", "trial", "-d", folder, disk, f"{size_kib}k"], check=True)
    command = [
        # Time in there goes by instructions, 2 ns each, so that the agent's 2 s for a goodbye do not depend on what else the
        # host does; while there is nothing to do, it goes as outside.
        "qemu-system-x86_64", "-accel", "tcg,thread=single", "-icount", "shift=1,sleep=on", "-machine", "q35", "-cpu", "max",
        "-m", str(MEMORY_MIB), "-display", "none", "-monitor", "none", "-serial", f"file:{console}",
        "-drive", f"file={options.base},format=raw,if=virtio,snapshot=on",
        "-drive", f"file={disk},format=raw,if=virtio,readonly=on",
        "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
        "-device", "virtio-rng-pci",
        "-kernel", options.kernel, "-initrd", options.initrd, "-append",
        "root=/dev/vda rw console=ttyS0 net.ifnames=0 systemd.show_status=1 systemd.status_unit_format=name loglevel=4 "
        f"ds=nocloud-net;s={stand_in.url}/seed/",
    ]  # fmt: skip
    until_off(command)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.read_text(errors="replace"))


def contained(options, stand_in):
    """A container whose first process is systemd; what its journal says of units that were stopped."""
    root, image = options.work / "root", options.work / "base.ext4"
    root.mkdir()
    subprocess.run(["cp", "--sparse=always", options.base, image], check=True)
    subprocess.run(["mount", "-o", "loop", image, root], check=True)
    try:
        (root / "etc/fstab").write_text("")
        interfaces = root / "etc/network/interfaces"
        interfaces.write_text(interfaces.read_text().replace("eth0", "host0"))
        seed = root / "var/lib/cloud/seed/nocloud"
        seed.mkdir(parents=True)
        for name in ("meta-data", "user-data"):
            (seed / name).write_text(stand_in.seed(name))
        command = [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", f"--directory={root}", "--machine=trial",
            f"--network-bridge={BRIDGE}", "--resolv-conf=off", "--console=pipe",
            f"--bind-ro={given(options.work, stand_in, options.packages)}:/trial",
        ]  # fmt: skip
        while until_off(command, stdin=subprocess.DEVNULL) == REBOOT:
            pass
        command = ["journalctl", "--no-pager", f"--directory={root / 'var/log/journal'}"]
        journal = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (options.keep / "console.log").write_text(journal)
        return journal
    finally:
        subprocess.run(["umount", root], check=True)


def bridge(*what):
    """Makes or removes the network between the host and a container."""
    subprocess.run(["ip", "link", *what], check=True)


def judge(record, console):
    """What must stand in the record, and how the machine went down."""
    failed = [entry["text"] for entry in record if entry.get("text", "").startswith("FAILED")]
    assert not failed, failed
    places = {entry["text"]: index for index, entry in enumerate(record) if entry["kind"] == "mark"}
    for verb, end in (("reboot", places.get("booted again")), ("poweroff", None)):
        assert verb in places, f"it never came to the {verb}"
        asked = record[places[verb]]["at"]
        after = [entry for entry in record[places[verb] : end] if entry["kind"] == "tag"]
        goodbyes = [entry for entry in after if entry["status"] == "leaving"]
        assert len(goodbyes) == 1, f"{verb}: {len(goodbyes)} times leaving in {after}"
        (goodbye,) = goodbyes
        assert after[-1] is goodbye or end is not None, f"after the goodbye came {after[-1]}"
        assert "why=the_machine_shuts_down" in goodbye["value"], goodbye
        took = goodbye["at"] - asked
        assert took < GOODBYE_S, f"{verb}: the goodbye came {took:.1f} s later"
        print(f"{verb}: leaving was written {took:.1f} s after it was asked for")
    stops = [entry for entry in record[places["poweroff"] :] if entry.get("text") == "the service stops"]
    (stop,) = stops
    held = stop["at"] - goodbye["at"]
    assert held >= HOLD_S - 1, f"the service answered for {held:.1f} s after the goodbye only"
    print(f"poweroff: the service went on for {held:.1f} s after the goodbye")
    # Twice: the reboot and the power-off.
    for down in re.findall(r"Stopped eipwatch-agent\.service.*?(?=Stopped eipwatch-agent\.service|\Z)", console, re.S)[-1:]:
        goodbye_at, network_at = down.find("Stopped eipwatch-agent-leave.service"), down.find("Stopped networking.service")
        assert 0 < goodbye_at < network_at, "the order in which the units were stopped"
    print("units were stopped in this order: agent, goodbye, network")


def main():
    parser = argparse.ArgumentParser()
    for name in ("kernel", "initrd", "base", "packages", "work", "keep"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--container", action="store_true")
    options = parser.parse_args()
    if options.container:
        bridge("add", BRIDGE, "type", "bridge")
        subprocess.run(["ip", "address", "add", f"{HOST}/24", "dev", BRIDGE], check=True)
        bridge("set", BRIDGE, "up")
    stand_in = StandIn(options.packages, HOST if options.container else "127.0.0.1")
    try:
        console = (contained if options.container else emulated)(options, stand_in)
        judge(stand_in.record, console)
    except AssertionError as error:
        print(f"failed: {error}\nThe machine's console is in {options.keep / 'console.log'}", file=sys.stderr)
        return 1
    finally:
        (options.keep / "record.json").write_text(stand_in.json())
        if options.container:
            bridge("delete", BRIDGE)
    print(f"the agent on systemd: passed, in {stand_in.record[-1]['at']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
