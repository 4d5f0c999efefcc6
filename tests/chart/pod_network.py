"""A network of pods out of network namespaces: an address for each, and NetworkPolicies that are enforced.

As a routing network plugin does it: every pod has a /32 address and a default route to its node, which
forwards what the policies allow (iptables) and drops the rest. Needs root.
"""

import itertools
import json
import os
import shutil
import subprocess

from arrows import allowed

NODE_IP = "169.254.1.1"
PORTS_TRIED = (53, 8080, 7600, 7601, 7610, 7611, 7620, 7621, 7680, 7681)
ANY_PORT = 34567  # stands for all others


def why_not():
    """What this machine lacks for pods, or None."""
    if os.geteuid() != 0:
        return "not root"
    for tool in ("ip", "iptables", "unshare", "nsenter", "setpriv", "chroot"):
        if not shutil.which(tool):
            return f"no {tool}"
    probe = f"pg{os.getpid()}-probe"
    done = subprocess.run(
        f"ip netns add {probe} && ip netns exec {probe} iptables -P FORWARD DROP && unshare -m true",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip()


def run(*command):
    """Runs a command; its stderr is the exception's text."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


class PodNetwork:
    """Not thread-safe. close() removes everything that it made."""

    def __init__(self, policies):
        self.policies = policies
        self.prefix = f"pg{os.getpid()}"
        self.node = f"{self.prefix}-node"
        self.pods = {}  # network namespace -> (Pod of arrows.py, interface)
        self.numbers = itertools.count(2)
        run("ip", "netns", "add", self.node)
        self.in_node("ip", "link", "set", "lo", "up")
        self.in_node("ip", "addr", "add", f"{NODE_IP}/32", "dev", "lo")  # answers ARP on every pod's link
        self.in_node("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.in_node("iptables", "-P", "FORWARD", "DROP")

    def in_node(self, *command):
        """Runs a command in the node's namespace."""
        run("ip", "netns", "exec", self.node, *command)

    def add(self, pod, ip=None):
        """Makes a pod's namespace; returns (its name, its address)."""
        number = next(self.numbers)
        name, interface = f"{self.prefix}-{number}", f"v{os.getpid()}n{number}"[:15]
        pod.ip = ip or f"10.244.7.{number}"
        run("ip", "netns", "add", name)
        self.pods[name] = (pod, interface)
        run("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", interface, "netns", self.node)
        self.in_node("ip", "link", "set", interface, "up")
        self.in_node("ip", "route", "add", f"{pod.ip}/32", "dev", interface)
        for link in ("lo", "eth0"):
            run("ip", "-n", name, "link", "set", link, "up")
        run("ip", "-n", name, "addr", "add", f"{pod.ip}/32", "dev", "eth0")
        run("ip", "-n", name, "route", "add", NODE_IP, "dev", "eth0")
        run("ip", "-n", name, "route", "add", "default", "via", NODE_IP)
        self.enforce()
        return name, pod.ip

    def remove(self, name):
        """Removes a pod's namespace, which must have no processes left."""
        self.pods.pop(name)
        run("ip", "netns", "del", name)
        self.enforce()

    def enforce(self):
        """Compiles the policies for the pods there are; all but a connection's first packet passes."""
        rules = [
            "*filter",
            ":FORWARD DROP [0:0]",
            "-A FORWARD -p tcp ! --syn -j ACCEPT",
            "-A FORWARD -p udp --sport 53 -j ACCEPT",
        ]
        pods = [pod for pod, _ in self.pods.values()]
        for a, b in itertools.permutations(pods, 2):
            pair = f"-A FORWARD -s {a.ip} -d {b.ip}"
            if allowed(self.policies, a, b, ANY_PORT):
                rules.append(f"{pair} -p tcp -j ACCEPT")
            rules += [
                f"{pair} -p tcp --dport {port} -j ACCEPT"
                for port in PORTS_TRIED
                if allowed(self.policies, a, b, port)
            ]
            if allowed(self.policies, a, b, 53, "UDP"):
                rules.append(f"{pair} -p udp --dport 53 -j ACCEPT")
            # Refused at once instead of after a timeout, so that a test of a refusal is quick.
            rules.append(f"{pair} -p tcp -j REJECT --reject-with tcp-reset")
        text = "\n".join(rules + ["COMMIT", ""])
        subprocess.run(
            ["ip", "netns", "exec", self.node, "iptables-restore"], input=text, text=True, check=True
        )

    def close(self):
        """Removes all namespaces, and with them interfaces and rules."""
        for name in [*self.pods, self.node]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        self.pods.clear()


def write_names(path, names):
    """Publishes {DNS name: [addresses]} to dns_server.py, in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(names))
    fresh.rename(path)
