#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shared by tests/bench/cold_run and tests/bench/warm_start: the sides that they measure in turns.

They print minimum and median of each side and ratios. They assert that each side did its work, and nothing on time:
machines are shared. `virtme` needs root (tests/bench/virtme-root); without root they leave it out and print that.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
POWER_OFF_INIT = r"""
static long Syscall(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
  return result;
}
void _start(void) {
  for (;;) Syscall(169, 0xfee1dead, 0x28121969, 0x4321fedc); /* reboot(POWER_OFF) */
}
"""


def fail(text):
    sys.exit(f"error: {text}")


def quick(argv, **kwargs):
    """Standard output of a command that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, argv))} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def cpio(files):
    """A newc archive of (path, mode, data)."""
    out = bytearray()
    for inode, (path, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        name = path.encode() + b"\0"
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def ancestors(pid):
    while pid > 1:
        yield pid
        try:
            text = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        pid = int(re.search(r"^PPid:\t(\d+)", text, re.M).group(1))


class Ktstr:
    """Runs of ktstrctl with the user's private daemon, the one of the cache that the environment names."""

    CACHE_KEYS = ("KTSTR_CACHE_DIR", "XDG_CACHE_HOME", "HOME")

    def __init__(self, bin_dir, kernel, scheduler, warm):
        self.ktstrctl = bin_dir / "ktstrctl"
        if not self.ktstrctl.exists():
            fail(f"{self.ktstrctl} is not there: build first (packaging/quickstart --setup-only)")
        self.env = dict(os.environ)
        self.env.pop("KTSTR_SOCKET", None)
        self.argv = [str(self.ktstrctl), "--json", "run", "steady", "--engine", "tcg", "--warm", "boot" if warm else "off"]
        if kernel:
            self.argv += ["--kernel", kernel]
        if scheduler:
            self.argv += ["--scheduler", str(scheduler)]

    def start(self, out):
        return subprocess.Popen(self.argv, env=self.env, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def run(self):
        """(seconds, record)"""
        begin = time.monotonic()
        process = self.start(subprocess.PIPE)
        out, err = process.communicate()
        return time.monotonic() - begin, self.record(process, out, err)

    def record(self, process, out, err):
        if process.returncode != 0:
            fail(f"{' '.join(self.argv)} ended with {process.returncode}:\n{out}{err}")
        record = json.loads(out)
        if "records" in record:
            record = record["records"][0]
        return record

    def is_ours(self, pid):
        """Whether the process descends from the daemon of our cache."""
        for ancestor in ancestors(pid):
            try:
                if os.path.basename(os.readlink(f"/proc/{ancestor}/exe")).removesuffix(" (deleted)") != "ktstrd":
                    continue
                pairs = pathlib.Path(f"/proc/{ancestor}/environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            return all(environment.get(key) == self.env.get(key) for key in self.CACHE_KEYS)
        return False

    def waiting_machines(self):
        """Pids of the ktstr-vm processes of our daemon: between runs, those that wait with a restored machine."""
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if name == "ktstr-vm" and self.is_ours(int(entry.name)):
                yield int(entry.name)

    def observe(self, work):
        """One run, not timed. Takes QEMU's arguments and its kernel from QEMU's process."""
        before = set(pathlib.Path("/proc").glob("[0-9]*"))
        process = self.start(subprocess.PIPE)
        argv = None
        while argv is None and process.poll() is None:
            time.sleep(0.01)
            for entry in set(pathlib.Path("/proc").glob("[0-9]*")) - before:
                try:
                    command = (entry / "cmdline").read_bytes().decode().rstrip("\0").split("\0")
                    if "-kernel" not in command or not self.is_ours(int(entry.name)):
                        continue
                    descriptor = re.fullmatch(r"/proc/self/fd/(\d+)", command[command.index("-kernel") + 1])
                    kernel = (entry / "fd" / descriptor.group(1)).read_bytes()
                except (OSError, UnicodeDecodeError):
                    continue
                (work / "kernel").write_bytes(kernel)
                argv = command
                break
        out, err = process.communicate()
        record = self.record(process, out, err)
        if argv is None:
            fail("the run ended, and no QEMU of its daemon was seen")
        return argv, record


class Bare:
    """QEMU with the observed arguments, except for those that name descriptors of ktstr-vm."""

    def __init__(self, observed, work):
        source, init = work / "init.c", work / "init"
        source.write_text(POWER_OFF_INIT)
        quick(["cc", "-Os", "-static", "-nostdlib", "-fno-stack-protector", "-o", init, source])
        (work / "initrd").write_bytes(cpio([("init", 0o100755, init.read_bytes())]))
        self.console = work / "console"
        self.argv = ["qemu-system-x86_64"]
        rest = iter(observed[1:])
        for option in rest:
            if option in ("-S", "-no-shutdown"):  # ktstr-vm starts the guest by QMP, and reads its memory at the end
                continue
            value = next(rest) if option.startswith("-") and option not in ("-nodefaults", "-no-user-config", "-no-reboot") else None
            if option == "-kernel":
                value = str(work / "kernel")
            elif option == "-initrd":
                value = str(work / "initrd")
            elif option == "-mon" or (option == "-chardev" and ("id=qmp" in value or "id=bell" in value)):
                continue
            elif option == "-device" and "chardev=bell" in value:
                continue
            elif option == "-chardev" and "id=console" in value:
                value = f"file,id=console,path={self.console}"
            elif option == "-object":
                value = re.sub(r"memory-backend-file,(.*?),mem-path=[^,]*", r"memory-backend-memfd,\1", value)
            elif option == "-action":  # nobody would end the pause
                value = "panic=shutdown"
            self.argv += [option] + ([value] if value is not None else [])

    def run(self):
        begin = time.monotonic()
        done = subprocess.run(self.argv, capture_output=True, text=True, timeout=300)
        seconds = time.monotonic() - begin
        console = self.console.read_text(errors="replace")
        if done.returncode != 0 or "panic" in console.lower():
            fail(f"bare QEMU ended with {done.returncode}: {done.stderr}{console[-2000:]}")
        return seconds


class Virtme:
    def __init__(self, directory, release):
        self.script = HERE / "virtme-root"
        self.directory = directory
        quick([self.script, "prepare", directory, release])
        self.version = quick([self.script, "run", directory, "vng", "--version"]).strip()
        self.argv = [self.script, "run", directory, "vng", "--run", f"/boot/vmlinuz-{release}", "--disable-kvm", "--cpus", "4",
                     "--memory", "512M", "--", "sh", "-c", "uname -r; grep -c ^processor /proc/cpuinfo"]
        self.expect = [release, "4"]

    def run(self):
        begin = time.monotonic()
        out = quick(self.argv, stdin=subprocess.DEVNULL, timeout=600)
        seconds = time.monotonic() - begin
        if out.split() != self.expect:
            fail(f"virtme-ng: the command in the guest printed {out!r}, not {self.expect}")
        return seconds


def row(name, times):
    print(f"  {name:<8} {min(times):7.2f} {statistics.median(times):7.2f}   of {len(times)}", flush=True)


def arguments_of(doc, rounds):
    """(arguments, path of the scheduler or "")"""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/dev/bin", help="where ktstrctl is (default: build/dev/bin)")
    parser.add_argument("--kernel", help="as of ktstrctl run (default: its choice)")
    parser.add_argument("--scheduler", help="scheduler of the run (default: scx_ktstr of --bin; '' for the kernel's own)")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"runs of each side (default {rounds})")
    parser.add_argument("--virtme-rounds", type=int, default=3, help="runs of virtme-ng, at most --rounds; 0: leave it out (default 3)")
    parser.add_argument("--virtme-dir", type=pathlib.Path, default=ROOT / "build/bench/virtme", help="where its root is made, 600 MB")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    scheduler = arguments.scheduler
    if scheduler is None:
        scheduler = str(arguments.bin.resolve() / "scx_ktstr")
    return arguments, scheduler


def virtme_side(arguments, release):
    """Its run(), or None with the reason printed."""
    if arguments.virtme_rounds < 1:
        print("virtme-ng is left out (--virtme-rounds 0)")
    elif os.geteuid() != 0:
        print("virtme-ng is left out: its root needs root")
    else:
        virtme = Virtme(arguments.virtme_dir, release)
        print(virtme.version)
        return virtme.run
    return None


def in_turns(arguments, sides):
    """{side: [seconds]}, {side: [timings of its records]}"""
    times, timings = {side: [] for side in sides}, {side: [] for side in sides}
    for number in range(arguments.rounds):
        for side, run in sides.items():
            if side == "virtme" and number >= arguments.virtme_rounds:
                continue
            result = run()
            if isinstance(result, tuple):
                result, record = result
                timings[side].append(record["timings"])
            times[side].append(result)
    print("\nseconds      min  median")
    for name, values in times.items():
        row(name, values)
    return times, timings


VIRTME_DOES = """\
  virtme  its own QEMU, emulation with the host's time; compressed image, its root file system over virtiofs with udev; two
          small programs. It boots a whole distribution's root: more than ktstr's guest has. No scheduler, no work."""
