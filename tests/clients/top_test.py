"""`pregate top` against live programs. usage: top_test.py BIN_DIR"""
import http.server
import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import threading
import time
import unittest

import live


def request(client_tokens, seed):
    return ["--prompt", f"Once upon a time {seed}", "--max-tokens", client_tokens, "--seed", seed, "--ignore-eos"]


class Load:
    """Clients that keep a server busy while it is watched."""

    def __init__(self, server, flags=()):
        self.server, self.flags, self.over, self.clients = server, flags, False, []
        self.threads = [threading.Thread(target=self.loop, args=(i,)) for i in range(2)]

    def loop(self, i):
        while not self.over:
            live.pregate("generate", "--server", self.server.address, *self.flags, *request(200, i))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join()


class TopTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = live.Folder()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def top(self, metrics, *flags, code=0):
        return live.pregate("top", "--metrics", ",".join(metrics), *flags, code=code)

    def assert_shows_load(self, view):
        self.assertEqual(view["model"], "tiny")
        self.assertEqual([s["up"] for s in view["sources"]], [True] * len(view["sources"]))
        self.assertGreater(view["generated_tokens_per_s"], 0)
        self.assertGreater(view["steps_per_s"], 0)
        self.assertGreater(view["itl_s"]["p50"], 0)
        self.assertGreaterEqual(view["itl_s"]["p95"], view["itl_s"]["p50"])
        self.assertEqual(sorted(view["expert_tokens_per_s"]), ["0", "1", "2"])
        worker, = view["workers"]
        self.assertEqual((worker["rank"], worker["up"]), ("0", True))
        self.assertGreater(worker["resident_units"], 0)
        self.assertGreater(worker["resident_bytes"], 0)
        self.assertEqual(worker["hit_ratio"], 1)
        self.assertGreater(worker["tokens_per_s"], 0)
        self.assertGreater(worker["step_s"]["p50"], 0)

    def test_separate_programs_under_load_and_one_that_is_down(self):
        scheduler, router, worker = self.folder.cluster()
        with scheduler, router, worker:
            metrics = [p.metrics_address for p in (scheduler, router, worker)]
            with Load(scheduler):
                live.wait_for(scheduler.running, "load")
                view = json.loads(self.top(metrics, "--once", "--json", "--interval-s", 1))
                text = self.top(metrics, "--once", "--interval-s", 1)
            self.assert_shows_load(view)
            self.assertEqual([s["roles"] for s in view["sources"]], ["scheduler", "router", "worker"])
            self.assertEqual(view["router_up"], 1)
            self.assertGreaterEqual(view["running"], 0)
            self.assertNotIn("\x1b", text)
            for word in ("model     tiny", "running ", "TTFT p50", "ITL p50", "experts   ", metrics[2]):
                self.assertIn(word, text)
            worker.kill()
            live.wait_for(lambda: scheduler.metric("pregate_worker_up", rank="0") == 0, "the scheduler sees it")
            text = self.top(metrics, "--once", "--interval-s", 0.2)
            self.assertIn(f"DOWN      {metrics[2]}: Connection refused\n", text)
            self.assertRegex(text, r"  0 +NO .*its metrics are not read")

    def test_one_process_and_numbers_that_agree_with_its_counters(self):
        with self.folder.serve() as server:
            with Load(server):
                live.wait_for(server.running, "load")
                before, start = server.metric("pregate_generation_tokens_total"), time.monotonic()
                view = json.loads(self.top([server.metrics_address], "--once", "--json", "--interval-s", 2))
                tokens, seconds = server.metric("pregate_generation_tokens_total") - before, time.monotonic() - start
            self.assert_shows_load(view)
            self.assertEqual(view["sources"][0]["roles"], "scheduler router worker")
            # Its interval lies within ours.
            self.assertLessEqual(view["generated_tokens_per_s"] * view["interval_s"], tokens)
            self.assertGreater(view["generated_tokens_per_s"], 0.5 * tokens / seconds)

    def test_a_terminal_is_redrawn_and_q_ends_it(self):
        with self.folder.serve() as server:
            for end in ("q", "signal"):
                main, side = pty.openpty()
                top = subprocess.Popen([live.BIN / "pregate", "top", "--metrics", server.metrics_address, "--interval-s", "0.2"],
                                       stdin=side, stdout=side, stderr=side)
                os.close(side)
                seen = b""
                while seen.count(b"\x1b[H") < 3:
                    seen += os.read(main, 4096)
                if end == "q":
                    os.write(main, b"q")
                else:
                    top.send_signal(signal.SIGINT)
                self.assertEqual(top.wait(timeout=live.TIMEOUT_S), 0)
                seen += os.read(main, 4096)
                os.close(main)
                self.assertTrue(seen.startswith(b"\x1b[?1049h\x1b[?25l"))
                self.assertTrue(seen.rstrip().endswith(b"\x1b[?25h\x1b[?1049l"), seen[-80:])
                self.assertNotIn(b"\x1b[2J", seen)  # clearing the screen would flicker

    def test_what_is_no_metrics_endpoint_is_down(self):
        answers = {"/metrics": b"<html>\n"}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = answers["/metrics"]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"127.0.0.1:{server.server_port}"
            self.assertRegex(self.top([address], "--once", "--interval-s", 0.1, code=1), r"DOWN .*metrics, line 1: no metric's name")
            answers["/metrics"] = b"a 1\n" * 3_000_000
            self.assertRegex(self.top([address], "--once", "--interval-s", 0.1, code=1), r"DOWN .*more than 8388608 bytes")
            server.shutdown()

    def test_who_trickles_is_down_at_the_deadline_and_ctrl_c_does_not_wait_for_it(self):
        """Headers, a body and a handshake that never end: no read of them takes long."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def trickle(client, start):
                try:
                    client.sendall(start)
                    while not client.sendall(b"a"):
                        time.sleep(0.05)
                except OSError:
                    pass

            def serve(start):
                while True:
                    try:
                        client, _ = listener.accept()
                    except OSError:
                        return
                    threading.Thread(target=trickle, args=(client, start[0]), daemon=True).start()

            start = [b""]
            threading.Thread(target=serve, args=(start,), daemon=True).start()
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            operator = ["--tls-dir", self.folder.certs() / "operator"]
            record = bytes([22, 3, 3, 0x3f, 0xff])  # a TLS record of 16 KiB
            for start[0], flags in ((b"HTTP/1.1 200 OK\r\nX: ", []), (b"HTTP/1.1 200 OK\r\n\r\n", []), (record, operator)):
                begin = time.monotonic()
                text = self.top([address], "--once", "--interval-s", 0.1, "--timeout-s", 0.5, *flags, code=1)
                self.assertIn("no whole answer within 500ms", text)
                self.assertLess(time.monotonic() - begin, 5)
            for flags in ([], operator):
                top = subprocess.Popen([live.BIN / "pregate", "top", "--metrics", address, "--timeout-s", "50", "--json", *flags])
                time.sleep(0.5)
                top.send_signal(signal.SIGINT)
                self.assertEqual(top.wait(timeout=5), 0)
            listener.shutdown(socket.SHUT_RDWR)

    def test_json_into_a_pipe_that_closes_ends(self):
        with self.folder.serve() as server:
            top = subprocess.Popen([live.BIN / "pregate", "top", "--metrics", server.metrics_address, "--json", "--interval-s", "0.1"],
                                   stdout=subprocess.PIPE)
            self.assertIn("generated_tokens_per_s", json.loads(top.stdout.readline()))
            top.stdout.close()
            self.assertEqual(top.wait(timeout=live.TIMEOUT_S), -signal.SIGPIPE)

    def test_mistakes_are_named(self):
        for flags, named in ((["--metrics", "nowhere"], "nowhere"), (["--metrics", "10.0.0.1:7601"], "10.0.0.1"),
                             (["--interval-s", "0.01"], "interval-s"), (["--metrics", "unix:/a"], "unix:/a")):
            done = subprocess.run([live.BIN / "pregate", "top", "--once", *flags], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn(named, done.stderr)

    def test_mutual_tls(self):
        certs, strangers = self.folder.certs(), self.folder.certs()
        with self.folder.serve(certs=certs) as server:
            def shown(*flags, code=0):
                return self.top([server.metrics_address], "--once", "--interval-s", 0.2, *flags, code=code)
            self.assertIn("model     tiny", shown("--tls-dir", certs / "operator"))
            self.assertIn("model     tiny", shown("--tls-dir", certs / "monitor"))
            self.assertRegex(shown("--tls-dir", certs / "client", code=1),
                             "DOWN .*: HTTP 403: role client may not call GET /metrics\n")
            self.assertRegex(shown("--tls-dir", strangers / "operator", code=1), "DOWN .*certificate")
            self.assertRegex(shown(code=1), "DOWN .*TLS on one side only")
            # The gRPC port hangs up between handshake and request: that write must not be the end of it.
            self.assertRegex(self.top([server.address], "--once", "--interval-s", 0.1, "--tls-dir", certs / "operator", code=1),
                             "DOWN .*the connection broke")
        # One whom our authority vouches for, but who is no service.
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as impostor:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certs / "client/tls.crt", certs / "client/tls.key")
            impostor.socket = tls.wrap_socket(impostor.socket, server_side=True)
            threading.Thread(target=impostor.serve_forever).start()
            text = self.top([f"127.0.0.1:{impostor.server_port}"], "--once", "--interval-s", 0.1, "--tls-dir", certs / "operator",
                            code=1)
            self.assertIn("the server is a client, not scheduler", text)
            impostor.shutdown()


if __name__ == "__main__":
    unittest.main()
