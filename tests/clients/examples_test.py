"""The example clients against live programs. usage: examples_test.py BIN_DIR CPP_CLIENT"""
import json
import pathlib
import signal
import subprocess
import sys
import unittest

import live

CPP = pathlib.Path(sys.argv.pop(1)).resolve()
LINES_MAX = 59
LONG = live.LONG


def request(prompt, max_tokens, temperature=0, seed=0):
    return json.dumps({"text": prompt, "maxTokens": max_tokens, "ignoreEos": True, "noDrafts": max_tokens == LONG,
                       "sampling": {"temperature": temperature, "seed": seed}})


class Examples(live.Served):
    """The tests of one language; `argv` starts its client."""

    LAYERS = live.DEEP

    argv, env, source = [], {}, None

    def client(self, server, *args, **env):
        return live.Client([*self.argv, server.address, *args], {**self.env, **env})

    def await_idle(self):
        live.wait_for(lambda: self.server.running() == 0, "the sequence is freed")

    def test_is_short(self):
        self.assertLessEqual(len(self.source.read_text().splitlines()), LINES_MAX)

    def test_streams_what_generate_says(self):
        expected = self.folder.generate("Once upon a time", LONG, 0.8, 5)["text"]
        with self.client(self.server, request("Once upon a time", LONG, 0.8, 5)) as client:
            first = client.read_some(1)
            self.assertLess(len(first), len(expected.encode()) // 2, "all came at once")
            code, text, err = client.finish()
        self.assertEqual((code, text), (0, expected), err)

    def test_a_mistake_is_reported_in_the_servers_words(self):
        with self.client(self.server, request("x", -3)) as client:
            code, _, err = client.finish()
        self.assertNotEqual(code, 0)
        self.assertIn("max_tokens is -3", err)

    def test_what_is_no_request_is_said_without_a_traceback(self):
        for text in ('{"text": ', '{"txt": 1}'):
            with self.client(self.server, text) as client:
                code, out, err = client.finish()
            self.assertNotEqual(code, 0)
            self.assertEqual(out, "")
            self.assertLessEqual(err.count("\n"), 2, err)  # protobuf's own text may have two lines
            self.assertRegex(err, "txt" if "txt" in text else "(?i)expect")

    def test_deadline_is_reported_and_text_so_far_is_kept(self):
        expected = self.folder.generate("Tell me", 40)["text"].encode()
        with self.client(self.server, request("Tell me", LONG), "3") as client:
            client.read_some(10)
            self.server.signal(signal.SIGSTOP)
            code, text, err = client.finish()
            self.server.signal(signal.SIGCONT)
        self.assertNotEqual(code, 0)
        self.assertRegex(err, "(?i)deadline.exceeded")
        self.assertEqual(text.encode()[:len(expected)], expected[:len(text.encode())])
        self.await_idle()

    def test_ctrl_c_cancels_on_the_server_and_keeps_the_text(self):
        def cancelled():
            return self.server.metric("pregate_requests_total", finish_reason="cancelled")
        before = cancelled()
        with self.client(self.server, request("Tell me", LONG)) as client:
            client.read_some(10)
            self.assertEqual(self.server.running(), 1)
            client.process.send_signal(signal.SIGINT)
            code, text, err = client.finish()
        self.assertNotEqual(code, 0)
        self.assertIn("CANCELLED", err)
        self.assertGreaterEqual(len(text.encode()), 10)
        self.await_idle()
        self.assertEqual(cancelled(), before + 1)

    def test_a_full_queue_is_tried_again_until_there_is_room(self):
        expected = self.folder.generate("Me too", 20)["text"]
        scheduler, router, worker = self.folder.cluster("--running-max", 1, "--queue-max", 1,
                                                        "--worker-stall-timeout-s", 3600)
        with scheduler, router, worker, self.client(scheduler, request("Tell me", LONG)) as first:
            first.read_some(1)
            worker.signal(signal.SIGSTOP)  # what runs goes on running
            with self.client(scheduler, request("Tell me", LONG)) as second:
                live.wait_for(lambda: scheduler.metric("pregate_num_requests_waiting") == 1, "one waits")
                with self.client(scheduler, request("Me too", 20)) as third:
                    live.wait_for(lambda: scheduler.metric("pregate_requests_total", finish_reason="refused") > 0,
                                  "one is refused")
                    for occupant in (first, second):
                        occupant.process.send_signal(signal.SIGINT)
                        occupant.finish()
                    worker.signal(signal.SIGCONT)
                    code, text, err = third.finish()
        self.assertEqual((code, text), (0, expected), err)

    def test_a_killed_scheduler_changes_no_text(self):
        expected = self.folder.generate("The quick brown fox", 400, 1, 99)["text"]
        scheduler, router, worker = self.folder.cluster()
        with scheduler, router, worker, self.client(scheduler, request("The quick brown fox", 400, 1, 99)) as client:
            client.read_some(50)
            scheduler.kill()
            before = len(client.out)
            scheduler.start()
            code, text, err = client.finish()
            self.assertEqual((code, text), (0, expected), err)
            self.assertLess(before, len(expected.encode()), "nothing was left to resume")
            # It went on: the new scheduler did not generate everything again.
            self.assertLess(scheduler.metric("pregate_generation_tokens_total"), 400)


    def test_mutual_tls(self):
        expected = self.folder.generate("Hello", 20)["text"]
        certs, strangers = self.folder.certs(), self.folder.certs()
        with self.folder.serve(certs=certs) as server:
            with self.client(server, request("Hello", 20), PREGATE_TLS_DIR=str(certs / "client")) as client:
                code, text, err = client.finish()
            self.assertEqual((code, text), (0, expected), err)
            for refused in ({"PREGATE_TLS_DIR": str(strangers / "client")}, {}):
                with self.client(server, request("Hello", 20), "1", **refused) as client:
                    self.assertNotEqual(client.finish()[0], 0)


class CppTest(Examples, unittest.TestCase):
    argv, source = [CPP], live.ROOT / "examples/cpp/generate.cc"


class PythonTest(Examples, unittest.TestCase):
    source = live.ROOT / "examples/python/generate.py"
    argv = [live.PYTHON, source]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        readme = (live.ROOT / "examples/README.md").read_text()
        command = next(line.strip() for line in readme.splitlines() if "grpc_tools.protoc" in line)
        stubs = cls.folder.path / "stubs"
        stubs.mkdir()
        # The documented command, with another folder for its output.
        words = [w.replace("=stubs", f"={stubs}") for w in command.split()]
        subprocess.run([str(live.PYTHON), *words[1:]], cwd=live.ROOT, check=True)
        cls.env = {"PYTHONPATH": str(stubs)}


if __name__ == "__main__":
    unittest.main()
