"""Two network namespaces as two hosts, two processes on each: are the records those of one process, whatever is cut?

Needs Linux, root and `ip`:

    python -m tests.faults.two_hosts --parallel cells --cut
    python -m tests.faults.two_hosts --parallel data
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conftest import PROGRAM, SmallSuite

ACCELERATE = str(Path(sysconfig.get_path("scripts")) / "accelerate")
HOSTS, DEVICES = ("dqss-a", "dqss-b"), ("veth-a", "veth-b")
SUITES = {
    "cells": """\
suite: small
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W4A4, W3A3]
protocol: all-layers
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
ptq:
  quantizers: {weight: [minmax, mse], activation: [minmax, mse]}
  methods: [uniform, best-uniform, random: {images: 2000}, dqss: {steps: 30}]
""",
    "data": """\
suite: small
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W4A4]
protocol: all-layers
seeds: [0, 1]
qat:
  quantizers: {weight: [lsq, dorefa], activation: [lsq, pact]}
  training: {epochs: 1, batch_size: 64}
  methods: [uniform-lsq, uniform-dorefa, dqss: {start: best-uniform}]
""",
}
CUT_AT = {"cells": 14, "data": 2}
"""How many records there are when the link goes down."""
LONGEST_SECONDS = 900
NOISE_POINTS = 5.0
"""Of top-1 on 128 images, of which each is 0.8; trainings in parts differed by 2.3 at most."""


@contextmanager
def linked() -> Iterator[None]:
    """Make the hosts and the link between them."""
    a, b = HOSTS
    commands = [
        f"netns add {a}",
        f"netns add {b}",
        f"link add name {DEVICES[0]} netns {a} type veth peer name {DEVICES[1]} netns {b}",
        *(
            f"-n {host} addr add 10.77.0.{n}/24 dev {device}"
            for n, host, device in zip((1, 2), HOSTS, DEVICES, strict=True)
        ),
        *(
            f"-n {host} link set {device} up"
            for host, own in zip(HOSTS, DEVICES, strict=True)
            for device in (own, "lo")
        ),
    ]
    try:
        for command in commands:
            subprocess.run(f"ip {command}".split(), check=True)
        yield
    finally:
        for host in HOSTS:
            subprocess.run(f"ip netns del {host}".split(), check=False)


def link(state: str) -> None:
    """Put the link `up` or `down`."""
    subprocess.run(f"ip -n {HOSTS[1]} link set {DEVICES[1]} {state}".split(), check=True)


def launched(suite: SmallSuite, out: Path, parallel: str) -> list[subprocess.Popen[bytes]]:
    """Start the launcher of each host."""
    found = []
    for rank, host in enumerate(HOSTS):
        launcher = [ACCELERATE, "launch", "--multi_gpu", "--num_machines", "2", "--num_processes", "4"]
        place = ["--machine_rank", str(rank), "--main_process_ip", "10.77.0.1", "--main_process_port", "29555"]
        command = ["ip", "netns", "exec", host, sys.executable, *launcher, *place, *suite.arguments(out)]
        own = {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": DEVICES[rank], "HF_HOME": str(out.parent)}
        with (out.parent / f"{host}.log").open("ab") as log:
            found.append(
                subprocess.Popen(
                    [*command, "--parallel", parallel], env={**suite.environment, **own}, stdout=log, stderr=log
                )
            )
    return found


def ended(launchers: list[subprocess.Popen[bytes]]) -> None:
    """Wait for both, and tell how each ends and when."""
    begun, left = time.monotonic(), dict(zip(HOSTS, launchers, strict=True))
    while left and time.monotonic() - begun < LONGEST_SECONDS:
        time.sleep(0.5)
        for host, launcher in list(left.items()):
            if launcher.poll() is not None:
                print(f"{host}: exit code {launcher.returncode} after {time.monotonic() - begun:.0f} s", flush=True)
                del left[host]
    for host, launcher in left.items():
        launcher.kill()
        print(f"{host}: killed after {LONGEST_SECONDS} s", flush=True)


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Return the name of each record's file with what writing it again would change."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (out / "small").glob("*.json")}


def compared(suite: SmallSuite, out: Path) -> bool:
    """Tell how the records differ from those of one process; return whether all are there, and alike."""
    found, alone = suite.results(out), suite.results(suite.reference)
    tracked = suite.tracked_keys(out) == sorted(alone)
    sharing = {str((record["parallel"], record["processes"])) for record in found.values()}
    print(f"records: {len(found)} of {len(alone)}, {', '.join(sorted(sharing))}; each tracked once: {tracked}")
    alike = found.keys() == alone.keys() and tracked
    for key in sorted(found.keys() & alone.keys()):
        one, other = found[key], alone[key]
        differing = {name for name in one if one[name] != other[name]} - {"parallel", "processes"}
        if differing:
            print(f"{one['method']} seed {one['seed']}: {one['score']} against {other['score']}: {sorted(differing)}")
        # A training in parts takes other sums; it has the score of one process within seed noise.
        near = one["parallel"] == "data" and abs(one["score"] - other["score"]) <= NOISE_POINTS
        alike = alike and (not differing or near)
    return alike


def main() -> int:
    """Run, cut, go on, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", choices=tuple(SUITES), required=True)
    parser.add_argument("--cut", action="store_true", help="take the link down in mid-run, and go on afterwards")
    args = parser.parse_args()
    with TemporaryDirectory() as folder, linked():
        made = Path(folder)
        suite = SmallSuite(made / "small.yaml", made / "program.py", made / "reference")
        suite.suite.write_text(SUITES[args.parallel])
        suite.program.write_text(PROGRAM)
        alone = suite.run(suite.reference)
        if alone.returncode:
            sys.exit(alone.stderr)
        out = made / "out"
        launchers = launched(suite, out, args.parallel)
        kept: dict[str, tuple[int, int]] = {}
        if args.cut:
            while len(finished(out)) < CUT_AT[args.parallel] and launchers[0].poll() is None:
                time.sleep(0.1)
            link("down")
            print(f"cut after {len(finished(out))} records", flush=True)
            ended(launchers)
            for host in HOSTS:
                said = [line for line in (made / f"{host}.log").read_text().splitlines() if "dqss-bench: " in line]
                print(f"{host} said: {said}")
            kept = finished(out)
            print(f"records before going on: {len(kept)}")
            link("up")
            launchers = launched(suite, out, args.parallel)
        ended(launchers)
        now = finished(out)
        again = sum(now.get(name) != facts for name, facts in kept.items())
        print(f"written again: {again}")
        good = compared(suite, out) and not again
        if not good:
            for host in HOSTS:
                print((made / f"{host}.log").read_text())
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
