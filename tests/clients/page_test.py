"""The page for people and what it shows of the cluster, over HTTP: headers, tokens, off, several schedulers.

usage: page_test.py BIN_DIR
"""
import base64
import contextlib
import hashlib
import http.client
import json
import re
import signal
import threading
import unittest

import live


def get(server, path, token=None, method="GET"):
    """(status, headers in lower case, body)."""
    with contextlib.closing(http.client.HTTPConnection(server.http_address, timeout=60)) as connection:
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()


def cluster(server, token=None):
    status, headers, body = get(server, "/v1/pregate/cluster", token)
    assert status == 200, body
    assert headers["content-type"] == "application/json" and headers["cache-control"] == "no-store", headers
    return json.loads(body)["schedulers"]


class PageTest(live.Served, unittest.TestCase):
    def test_the_page_may_do_what_it_was_built_with_and_nothing_else(self):
        status, headers, html = get(self.server, "/")
        self.assertEqual(status, 200)
        self.assertEqual(headers["content-type"], "text/html; charset=utf-8")
        self.assertEqual(headers["x-content-type-options"], "nosniff")
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        self.assertEqual(policy["default-src"], "'none'")
        self.assertEqual(policy["connect-src"], "'self'")
        self.assertEqual(policy["frame-ancestors"], "'none'")
        for tag in ("script", "style"):
            (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.S)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            self.assertEqual(policy[f"{tag}-src"], f"'sha256-{digest}'")
        self.assertNotRegex(html, "https?://")
        self.assertEqual(get(self.server, "/?a=b")[2], html)
        status, headers, _ = get(self.server, "/", method="POST")
        self.assertEqual((status, headers["allow"]), (405, "GET"))

    def test_the_cluster_is_told_with_its_steps(self):
        before = cluster(self.server)
        self.complete(7)
        (scheduler,) = cluster(self.server)
        self.assertIsNone(scheduler["error"])
        self.assertEqual((scheduler["model"], scheduler["num_experts"]), ("tiny", 3))
        self.assertTrue(scheduler["serving"] and scheduler["router_up"])
        (worker,) = scheduler["workers"]
        self.assertTrue(worker["up"] and worker["member"])
        self.assertEqual(worker["units"], ["rrr"] * 3)  # all fit
        new = [s for s in scheduler["steps"] if s["number"] > (before[0]["steps"] or [{"number": 0}])[-1]["number"]]
        self.assertGreater(len(new), 0)
        self.assertGreater(sum(s["prefill_tokens"] for s in new), 0)
        self.assertGreater(sum(s["decode_rows"] for s in new), 0)
        numbers = [s["number"] for s in scheduler["steps"]]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        begins = [s["begin_us"] for s in scheduler["steps"]]
        self.assertEqual(begins, sorted(begins))
        for step in new:
            self.assertGreaterEqual(step["round_trip_us"], 0)
            self.assertTrue({*step["experts"]} and {*step["experts"]} <= {0, 1, 2}, step)
            self.assertGreater(step["unit_hits"], 0)
            self.assertEqual(step["unit_misses"], 0)

    def test_no_more_than_the_last_200_steps_are_kept(self):
        self.complete(250)
        (scheduler,) = cluster(self.server)
        self.assertEqual(len(scheduler["steps"]), 200)
        self.assertGreater(scheduler["steps"][0]["number"], 50)

    def complete(self, tokens):
        """One by one: no drafts."""
        body = {"prompt": "Once upon a time", "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "pregate": {"no_drafts": True}}
        with contextlib.closing(http.client.HTTPConnection(self.server.http_address, timeout=60)) as connection:
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200, answer.read())


class OtherServersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = live.Folder()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_off_it_is_not_there(self):
        with self.folder.serve("--page", "off") as server:
            for path in ("/", "/v1/pregate/cluster"):
                status, _, body = get(server, path)
                self.assertEqual(status, 404)
                self.assertIn(f"there is nothing at GET {path}", json.loads(body)["error"]["message"])
            self.assertEqual(get(server, "/v1/models")[0], 200)

    def test_where_tokens_are_needed_the_page_is_open_and_the_cluster_is_not(self):
        file = self.folder.path / "tokens.json"
        token = json.loads(live.pregate("api-token", "new", "--tenant", "me", "--file", file, "--json"))["token"]
        with self.folder.serve("--api-tokens-file", file) as server:
            self.assertEqual(get(server, "/")[0], 200)
            for wrong in (None, token + "x"):
                status, headers, _ = get(server, "/v1/pregate/cluster", wrong)
                self.assertEqual((status, headers["www-authenticate"]), (401, "Bearer"))
            self.assertEqual(len(cluster(server, token)), 1)

    def test_units_come_and_go_where_not_all_fit(self):
        with self.folder.serve("--expert-slots", 1) as server:
            (worker,) = cluster(server)[0]["workers"]
            self.assertEqual(worker["unit_slots"], 3)
            live.pregate("generate", "--server", server.address, "--prompt", "Once upon a time there was", "--max-tokens", 20, "--ignore-eos")
            (worker,) = cluster(server)[0]["workers"]
            self.assertEqual(len(worker["units"]), 3)
            self.assertIn("r", "".join(worker["units"]))
            self.assertIn(".", "".join(worker["units"]))
            self.assertGreater(worker["unit_misses"], 0)

    def test_a_server_that_ends_does_so_while_it_is_looked_at(self):
        def look():
            try:
                while True:
                    answers.append(get(server, "/v1/pregate/cluster")[0])
            except (OSError, http.client.HTTPException):
                return
        answers = []
        with self.folder.serve() as server:
            lookers = [threading.Thread(target=look) for _ in range(4)]
            for looker in lookers:
                looker.start()
            live.wait_for(lambda: len(answers) > 20, "they look")
            server.signal(signal.SIGTERM)
            for looker in lookers:
                looker.join(live.TIMEOUT_S)
            self.assertEqual(server.process.wait(live.TIMEOUT_S), 0, server.log.read_text())
        self.assertEqual(set(answers), {200})

    def test_a_gateway_tells_of_each_scheduler_and_of_one_that_is_gone(self):
        scheduler, router, worker = self.folder.cluster()
        with scheduler, router, worker:
            other, *parts = self.folder.cluster()
            addresses = f"{scheduler.address},{other.address}"
            gateway = live.Program(self.folder.path, "gateway", live.BIN / "pregate-gateway", "--schedulers", addresses, http=True)
            with gateway:
                live.wait_for(lambda: live.http_health(gateway) == 200, "the gateway is ready")
                both = cluster(gateway)
                self.assertEqual([s["name"] for s in both], addresses.split(","))
                self.assertEqual([s["error"] for s in both], [None, None])
                self.assertEqual([[w["up"] for w in s["workers"]] for s in both], [[True], [True]])
                other.kill()
                first, second = cluster(gateway)
                self.assertIsNone(first["error"])
                self.assertIn("UNAVAILABLE", second["error"])
                self.assertNotIn("steps", second)
                # The worker goes: the scheduler says so.
                worker.kill()
                live.wait_for(lambda: not cluster(gateway)[0]["serving"], "the cell is gone")
                self.assertFalse(cluster(gateway)[0]["workers"][0]["up"])
            for part in parts:
                part.stop()


if __name__ == "__main__":
    unittest.main()
