#!/usr/bin/env python3
"""NetworkPolicies against a table of arrows.

usage: .cache/tools/venv/bin/python tests/chart/policies_test.py
"""

import itertools
import unittest

from arrows import Pod, allowed, one_way
from chart import Rendered, rendered, selects


class NetworkPolicies(unittest.TestCase):
    """Exactly the arrows of docs/ARCHITECTURE.md."""

    # source -> target: the ports (None: any) that may be dialled. What is not here is refused.
    ARROWS = {
        ("client", "scheduler"): {7600},
        ("test", "scheduler"): {7600},
        ("scheduler", "router"): {7610},
        ("scheduler", "worker"): {7620},
        ("worker", "worker"): None,
        ("prometheus", "scheduler"): {7601},
        ("prometheus", "router"): {7611},
        ("prometheus", "worker"): {7621},
        ("gateway", "scheduler"): {7600},
        ("http-client", "gateway"): {7680},
        ("prometheus", "gateway"): {7681},
        ("scheduler", "dns"): {53},
        ("gateway", "dns"): {53},
        ("test", "dns"): {53},
    }
    TRIED = (22, 53, 443, 7600, 7601, 7610, 7611, 7620, 7621, 7680, 7681, 34567)

    def world(self, chart, client):
        pods = {c: Pod("ns", labels, "10.1.0.5") for c, (labels, _) in chart.pods().items()}
        pods["client"] = client
        pods["http-client"] = Pod("ingress-nginx", {}, "172.16.0.6")
        pods["stranger"] = Pod("ns", {"app": "x"}, "172.16.0.9")
        pods["other-namespace"] = Pod("elsewhere", {"demo-pregate-client": "true"}, "172.16.0.8")
        pods["internet"] = Pod(None, None, "198.51.100.7")
        monitoring = (
            "prom"
            if "name: prom\n" in chart.text
            else "observability" if "observability" in chart.text else "monitoring"
        )
        pods["prometheus"] = Pod(monitoring, {"app": "prometheus"}, "172.16.0.7")
        pods["dns"] = Pod("kube-system", {"k8s-app": "kube-dns"}, "169.254.20.10")
        return pods

    def check(self, values, client):
        self.check_chart(values, rendered(values), client)

    def check_chart(self, values, chart, client):
        policies = chart.all("NetworkPolicy")
        pods = self.world(chart, client)
        ours = set(chart.pods())
        for (source, a), (target, b), port in itertools.product(pods.items(), pods.items(), self.TRIED):
            if not {source, target} & ours:
                continue  # traffic among others is none of the chart's business
            ports = self.ARROWS.get((source, target), set())
            expected = ports is None or port in ports
            what = f"{values}: {source} -> {target}:{port}"
            self.assertEqual(allowed(policies, a, b, port), expected, what)
            # Each side by itself, so that one too wide is not hidden by the other.
            if source in ours:
                self.assertEqual(one_way(policies, a, b, "Egress", "TCP", port), expected, f"egress, {what}")
            if target in ours:
                self.assertEqual(
                    one_way(policies, b, a, "Ingress", "TCP", port), expected, f"ingress, {what}"
                )

    def test_arrows_with_the_client_label(self):
        for values in ("minimal", "cpu"):
            self.check(values, Pod("ns", {"demo-pregate-client": "true"}, "172.16.0.5"))
        self.check("cert-manager", Pod("ns", {"demo-pregate-client": "true"}, "172.16.0.5"))
        chart = Rendered("gateway", sets=["networkPolicy.extraEgress=[]"])
        self.check_chart("gateway", chart, Pod("ns", {"demo-pregate-client": "true"}, "172.16.0.5"))

    def test_arrows_with_given_clients(self):
        chart = Rendered("everything", sets=["networkPolicy.extraEgress=[]", "networkPolicy.extraIngress=[]"])
        self.check_chart("everything", chart, Pod("apps", {}, "172.16.0.5"))
        chart = rendered("gpu")
        scheduler = Pod("ns", chart.pods()["scheduler"][0])
        policies = chart.all("NetworkPolicy")
        self.assertTrue(allowed(policies, Pod(None, None, "10.2.3.4"), scheduler, 7600))
        self.assertFalse(allowed(policies, Pod(None, None, "11.2.3.4"), scheduler, 7600))
        self.assertFalse(allowed(policies, Pod("ns", {"demo-pregate-client": "true"}), scheduler, 7600))

    def test_dns_over_udp(self):
        chart = rendered("minimal")
        scheduler, dns = Pod("ns", chart.pods()["scheduler"][0]), Pod("kube-system", {"k8s-app": "kube-dns"})
        self.assertTrue(allowed(chart.all("NetworkPolicy"), scheduler, dns, 53, "UDP"))
        self.assertFalse(allowed(chart.all("NetworkPolicy"), scheduler, dns, 54, "UDP"))

    def test_default_deny_covers_all_pods(self):
        chart = rendered("minimal")
        (deny,) = [p for p in chart.all("NetworkPolicy") if p["metadata"]["name"].endswith("-default-deny")]
        self.assertEqual(deny["spec"]["policyTypes"], ["Ingress", "Egress"])
        self.assertNotIn("ingress", deny["spec"])
        for labels, _ in chart.pods().values():
            self.assertTrue(selects(deny["spec"]["podSelector"], labels))

    def test_two_releases_do_not_reach_each_other(self):
        one, two = rendered("cpu", release="one"), rendered("cpu", release="two")
        policies = one.all("NetworkPolicy") + two.all("NetworkPolicy")
        for (_, (a, _)), (_, (b, _)) in itertools.product(one.pods().items(), two.pods().items()):
            self.assertFalse(any(allowed(policies, Pod("ns", a), Pod("ns", b), port) for port in self.TRIED))

    def test_further_arrows(self):
        """The values' own come on top, for every pod of the cell, and bring DNS."""
        chart = rendered("everything")
        policies = chart.all("NetworkPolicy")
        mesh, store = Pod("mesh", {}), Pod(None, None, "203.0.113.9")
        dns = Pod("kube-system", {"k8s-app": "kube-dns"}, "169.254.20.10")
        for component in ("scheduler", "router", "worker"):
            pod = Pod("ns", chart.pods()[component][0])
            self.assertTrue(allowed(policies, pod, store, 443))
            self.assertTrue(allowed(policies, pod, dns, 53, "UDP"))
            self.assertFalse(allowed(policies, pod, store, 80))
            self.assertTrue(allowed(policies, mesh, pod, 15090))
            self.assertFalse(allowed(policies, mesh, pod, 15091))
        self.assertNotIn("-extra\n", rendered("minimal").text)

    def test_off(self):
        self.assertFalse(rendered("dense").all("NetworkPolicy"))


if __name__ == "__main__":
    unittest.main()
