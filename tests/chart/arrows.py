"""NetworkPolicies as a function: may this pod dial that one? By the rules of networking.k8s.io/v1."""

import ipaddress

from chart import selects


class Pod:
    """What a policy can see of a pod (or of an address outside, with labels None)."""

    def __init__(self, namespace, labels, ip=None):
        self.namespace, self.labels, self.ip = namespace, labels, ip


def peer_matches(peer, pod, policy_namespace):
    """Whether one NetworkPolicyPeer means `pod`."""
    if "ipBlock" in peer:
        return pod.ip is not None and ipaddress.ip_address(pod.ip) in ipaddress.ip_network(
            peer["ipBlock"]["cidr"]
        )
    if pod.labels is None:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod.namespace}):
            return False
    elif pod.namespace != policy_namespace:
        return False
    return selects(peer.get("podSelector", {}), pod.labels)


def port_matches(rule, protocol, port):
    """Whether a rule's ports, if it has any, hold this one."""
    ports = rule.get("ports")
    return not ports or any(
        p.get("protocol", "TCP") == protocol and p.get("port") in (None, port) for p in ports
    )


def one_way(policies, pod, other, direction, protocol, port):
    """Whether the policies on `pod` let traffic with `other` through; no policy of a direction means yes."""
    if pod.labels is None:
        return True
    on_pod = [
        p
        for p in policies
        if p["metadata"]["namespace"] == pod.namespace
        and selects(p["spec"]["podSelector"], pod.labels)
        and direction in p["spec"]["policyTypes"]
    ]
    if not on_pod:
        return True
    side = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    for policy in on_pod:
        for rule in policy["spec"].get(side[0], []):
            peers = rule.get(side[1])
            meant = not peers or any(peer_matches(peer, other, pod.namespace) for peer in peers)
            if meant and port_matches(rule, protocol, port):
                return True
    return False


def allowed(policies, source, target, port, protocol="TCP"):
    """Whether `source` may dial `port` of `target`."""
    return one_way(policies, source, target, "Egress", protocol, port) and one_way(
        policies, target, source, "Ingress", protocol, port
    )
