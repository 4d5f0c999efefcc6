"""The Python package: its wheel is built and installed into a venv of its own, and called against live programs.

usage: package_test.py BIN_DIR
"""
import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

VENV = pathlib.Path(__file__).resolve().parents[2] / ".cache/tools/package-venv"


def install():
    """Builds the wheel, installs it with what it asks for, and goes on as that venv's Python."""
    root = VENV.parents[2]
    wheel = subprocess.run([root / "scripts/python_package.sh"], check=True, capture_output=True, text=True).stdout.strip()
    if not (VENV / "bin/python").exists():
        subprocess.run(["/usr/bin/python3", "-m", "venv", VENV], check=True)
    pip = [VENV / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "grpcio==1.71.0", wheel], check=True)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", wheel], check=True)
    os.execv(VENV / "bin/python", [VENV / "bin/python", *sys.argv])


if pathlib.Path(sys.prefix) != VENV:
    install()

import pregate  # noqa: E402

import live  # noqa: E402

LONG = live.LONG
STEADY = {"ignore_eos": True, "no_drafts": True}


class PackageTest(live.Served, unittest.TestCase):
    """One server for all; tests that disturb one start their own."""

    LAYERS = live.DEEP

    def client(self, server=None, **options):
        client = pregate.Client((server or self.server).address, **options)
        self.addCleanup(client.close)
        return client

    def test_is_what_is_installed(self):
        self.assertIn(str(VENV), pregate.__file__)
        self.assertTrue((pathlib.Path(pregate.__file__).parent / "py.typed").exists())
        for name in pregate.__all__:
            self.assertTrue(hasattr(pregate, name), name)

    def test_streams_what_generate_says(self):
        expected = self.folder.generate("Once upon a time", 60, 0.8, 5)
        stream = self.client().generate("Once upon a time", max_tokens=60, temperature=0.8, seed=5, ignore_eos=True,
                                        return_routes=True)
        chunks = list(stream)
        done = stream.result()
        self.assertGreater(len(chunks), 1)
        self.assertEqual("".join(chunk.text for chunk in chunks), expected["text"])
        self.assertEqual(sum((chunk.tokens for chunk in chunks), []), done.tokens)
        self.assertEqual((done.text, len(done.tokens), len(done.routes)), (expected["text"], 60, 60))
        self.assertLessEqual(set(done.routes), {-1, 0, 1, 2})
        self.assertEqual(len(done.prompt_routes), done.usage.prompt_tokens)
        self.assertEqual((done.finish_reason, done.seed, done.resumptions), ("length", 5, 0))
        self.assertEqual(done.usage.generated_tokens, 60)
        self.assertGreater(done.timings.total_seconds, 0)

    def test_prompts_of_three_forms(self):
        client = self.client()
        ids = client.tokenize("Hello")
        self.assertEqual(client.generate(ids, max_tokens=8, **STEADY).result().text,
                         client.generate("Hello", max_tokens=8, **STEADY).result().text)
        messages = [{"role": "user", "content": "Hello"}]
        asked = client.chat(messages, max_tokens=8, **STEADY).result()
        self.assertEqual(asked.text, client.generate(messages, max_tokens=8, **STEADY).result().text)
        self.assertEqual(asked.usage.prompt_tokens, len(client.tokenize_chat(messages)))
        self.assertEqual(client.detokenize(ids), "Hello")

    def test_model_info(self):
        info = self.client().model_info()
        self.assertEqual((info.model, info.num_experts), ("tiny", 3))
        self.assertGreater(info.context_tokens, 0)

    def test_stop_and_fields(self):
        client = self.client()
        whole = client.generate("Once upon", max_tokens=30, **STEADY).result()
        stop = whole.text[len(whole.text) // 2:][:3]
        done = client.generate("Once upon", stop=stop, fields={"max_tokens": 30}, **STEADY).result()
        self.assertEqual((done.finish_reason, done.stop_string), ("stop_string", stop))
        self.assertEqual(done.text, whole.text[:whole.text.index(stop)])

    def test_probabilities_and_echo(self):
        done = self.client().generate("Once upon", max_tokens=6, logprobs=2, prompt_logprobs=0, echo=True, **STEADY).result()
        self.assertEqual([one.token for one in done.logprobs], done.tokens)
        for one in done.logprobs:  # greedy: the likeliest is the one that was taken
            self.assertEqual((one.top[0].token, len(one.top)), (one.token, 2))
            self.assertLessEqual(one.top[1].logprob, one.logprob)
            self.assertLess(one.logprob, 0)
        self.assertEqual(len(done.prompt_tokens), done.usage.prompt_tokens)
        self.assertEqual([one.token for one in done.prompt_logprobs], done.prompt_tokens[1:])
        self.assertEqual(done.prompt_text, "Once upon")

    def test_bias_and_penalties(self):
        client = self.client()
        first = client.generate("Once upon", max_tokens=1, **STEADY).result().tokens[0]
        for options in ({"logit_bias": {first: -100}}, {"logit_bias": {first + 1: 100}}):
            self.assertNotEqual(client.generate("Once upon", max_tokens=1, **options, **STEADY).result().tokens[0], first)
        for name in ("frequency_penalty", "presence_penalty"):
            with self.assertRaisesRegex(pregate.InvalidRequestError, name):
                client.generate("x", **{name: 3.0}).result()

    def test_mistakes_name_field_and_value(self):
        client = self.client()
        with self.assertRaisesRegex(pregate.InvalidRequestError, "max_tokens is -3"):
            client.generate("x", max_tokens=-3).result()
        with self.assertRaisesRegex(pregate.PregateError, "(?s)model.*other"):
            client.generate("x", model="other").result()
        for error, options in ((TypeError, {"max_token": 3}), (TypeError, {"temperature": "hot"}),
                               (ValueError, {"max_tokens": 2**40}), (ValueError, {"fields": {"no_such": 1}}),
                               (ValueError, {"fields": {"n": 2}}), (TypeError, {"n": 2})):
            with self.assertRaisesRegex(error, next(iter(options))):
                client.generate("x", **options)

    def test_nobody_there(self):
        begun = time.monotonic()
        with self.assertRaisesRegex(pregate.UnavailableError, "(?i)connect"):
            pregate.Client("127.0.0.1:1", retry_s=0.5).model_info()
        self.assertGreater(time.monotonic() - begun, 0.2, "tried again")
        with self.assertRaises(pregate.UnavailableError):
            pregate.Client("127.0.0.1:1", retry_s=0).generate("x").result()

    def test_deadline_keeps_the_text(self):
        with self.folder.serve() as server:
            stream = self.client(server).generate("Tell me", max_tokens=LONG, timeout_s=3, **STEADY)
            next(stream)
            server.signal(signal.SIGSTOP)
            with self.assertRaises(pregate.DeadlineError):
                stream.result()
            self.assertTrue(stream.text)
            self.assertGreater(len(stream.resume_point.tokens), 0)

    def test_whoever_leaves_frees_the_sequence(self):
        with self.client().generate("Tell me", max_tokens=LONG, **STEADY) as stream:
            next(stream)
        live.wait_for(lambda: self.server.running() == 0, "the sequence is freed")
        with self.assertRaises(pregate.CancelledError):
            stream.result()

    def test_cancel_from_another_thread(self):
        with self.folder.serve() as server:
            stream = self.client(server).generate("Tell me", max_tokens=LONG, **STEADY)
            next(stream)
            server.signal(signal.SIGSTOP)  # nothing more comes: the reader waits
            threading.Timer(0.2, stream.cancel).start()
            with self.assertRaises(pregate.CancelledError):
                stream.result()

    def kill_in_mid_stream(self, server, stream):
        """Kills the server once text has come, and starts it again at the same place."""
        next(stream)
        server.kill()
        threading.Thread(target=server.start).start()

    def test_a_killed_server_changes_no_text(self):
        expected = self.folder.generate("The quick brown fox", LONG, 1, 99)["text"]
        with self.folder.serve() as server:
            client = self.client(server, timeout_s=120)
            for _ in range(5):  # until it was killed before it had sent all
                stream = client.generate("The quick brown fox", max_tokens=LONG, temperature=1, seed=99, **STEADY)
                self.kill_in_mid_stream(server, stream)
                done = stream.result()
                self.assertEqual(done.text, expected)
                self.assertEqual((len(done.tokens), len(done.routes)), (LONG, LONG))
                if done.resumptions:
                    break
            self.assertGreaterEqual(done.resumptions, 1)
            self.assertLess(server.metric("pregate_generation_tokens_total"), LONG, "it began anew")

    def test_a_killed_server_changes_no_text_with_asyncio(self):
        expected = self.folder.generate("The quick brown fox", LONG, 1, 99)["text"]

        async def run(server):
            async with pregate.AsyncClient(server.address, timeout_s=120) as client:
                for _ in range(5):
                    stream = client.generate("The quick brown fox", max_tokens=LONG, temperature=1, seed=99, **STEADY)
                    await anext(stream)
                    server.kill()
                    begun = asyncio.get_running_loop().run_in_executor(None, server.start)
                    done = await stream.result()
                    await begun
                    self.assertEqual(done.text, expected)
                    if done.resumptions:
                        return
                self.fail("never killed in mid-stream")

        with self.folder.serve() as server:
            asyncio.run(run(server))

    def test_goes_on_at_a_resume_point(self):
        expected = self.folder.generate("Tell me", 40, 1, 7)["text"]
        stream = self.client().generate("Tell me", max_tokens=40, temperature=1, seed=7, **STEADY)
        while len(stream.text) < 8:
            next(stream)
        stream.cancel()
        point = pregate.ResumePoint(**json.loads(json.dumps({name: getattr(stream.resume_point, name) for name in
                                                             pregate.ResumePoint.__dataclass_fields__})))
        rest = self.client().generate("Tell me", max_tokens=40, temperature=1, resume=point, **STEADY).result()
        self.assertEqual(stream.text + rest.text, expected)
        self.assertEqual(len(point.tokens) + len(rest.tokens), 40)
        other = pregate.ResumePoint(point.tokens, point.routes, "another", point.numerics_id, point.seed)
        with self.assertRaises(pregate.ResumeRefusedError):
            self.client().generate("Tell me", max_tokens=40, resume=other).result()

    def test_a_full_queue_is_tried_again_after_the_servers_pause(self):
        scheduler, router, worker = self.folder.cluster("--running-max", 1, "--queue-max", 1,
                                                        "--worker-stall-timeout-s", 3600)
        with scheduler, router, worker:
            client = self.client(scheduler, timeout_s=60)
            first = client.generate("Tell me", max_tokens=LONG, **STEADY)
            next(first)
            worker.signal(signal.SIGSTOP)  # what runs goes on running
            second = client.generate("Tell me", max_tokens=LONG, **STEADY)
            live.wait_for(lambda: scheduler.metric("pregate_num_requests_waiting") == 1, "one waits")
            with self.assertRaises(pregate.OverloadedError) as refused:
                self.client(scheduler, retry_s=0).generate("Me too", max_tokens=4).result()
            self.assertGreater(refused.exception.retry_after_s, 0)

            def make_room():
                first.cancel()
                second.cancel()
                worker.signal(signal.SIGCONT)
            third = client.generate("Me too", max_tokens=20, **STEADY)
            threading.Timer(0.5, make_room).start()
            self.assertEqual(third.result().text, self.folder.generate("Me too", 20)["text"])

    def test_mutual_tls(self):
        expected = self.folder.generate("Hello", 20)["text"]
        certs, strangers = self.folder.certs(), self.folder.certs()
        with self.folder.serve(certs=certs) as server:
            done = self.client(server, certs=certs / "client").generate("Hello", max_tokens=20, **STEADY).result()
            self.assertEqual(done.text, expected)
            with self.assertRaisesRegex(pregate.DeniedError, "role scheduler may not call"):
                self.client(server, certs=certs / "scheduler").generate("Hello", max_tokens=20).result()
            for refused in ({"certs": certs / "monitor"}, {"certs": strangers / "client"}, {}):
                with self.assertRaises(pregate.UnavailableError):
                    self.client(server, retry_s=0.2, **refused).model_info()
        with self.assertRaises(FileNotFoundError):
            pregate.Client("127.0.0.1:1", certs=certs / "nobody")

    def test_asyncio(self):
        expected = self.folder.generate("Once upon a time", 60, 0.8, 5)["text"]

        async def run():
            async with pregate.AsyncClient(self.server.address) as client:
                texts = await asyncio.gather(*(
                    client.generate("Once upon a time", max_tokens=60, temperature=0.8, seed=5, ignore_eos=True).result()
                    for _ in range(4)))
                self.assertEqual({done.text for done in texts}, {expected})
                ids = await client.tokenize("Hello")
                self.assertEqual(await client.detokenize(ids), "Hello")
                self.assertEqual((await client.model_info()).model, "tiny")
                self.assertGreater(len(await client.tokenize_chat([{"role": "user", "content": "Hello"}])), len(ids))
                with self.assertRaisesRegex(pregate.InvalidRequestError, "max_tokens is -3"):
                    await client.chat([{"role": "user", "content": "x"}], max_tokens=-3).result()
                async with client.generate("Tell me", max_tokens=LONG, **STEADY) as stream:
                    await anext(stream)
                with self.assertRaises(pregate.CancelledError):
                    await stream.result()
                task = asyncio.create_task(client.generate("Tell me", max_tokens=LONG, **STEADY).result())
                await asyncio.sleep(0.05)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task

        asyncio.run(run())
        live.wait_for(lambda: self.server.running() == 0, "the sequences are freed")


class ExamplesTest(live.Served, unittest.TestCase):
    """The programs of clients/python/examples."""

    LAYERS = live.DEEP

    EXAMPLES = live.ROOT / "clients/python/examples"

    def test_chat(self):
        done = subprocess.run([sys.executable, self.EXAMPLES / "chat.py", self.server.address], input="Hello\nAgain\n\n",
                              capture_output=True, text=True, timeout=live.TIMEOUT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.startswith("tiny\n"))
        self.assertGreaterEqual(done.stdout.count("\n"), 3)

    def test_many(self):
        prompts = self.folder.path / "prompts"
        prompts.write_text("".join(f"Tell me {n}\n" for n in range(12)))
        done = subprocess.run([sys.executable, self.EXAMPLES / "many.py", self.server.address, prompts, "4", "5"],
                              capture_output=True, text=True, timeout=live.TIMEOUT_S)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(sorted(line["prompt"] for line in lines), list(range(12)), done.stderr)
        self.assertTrue(all(1 <= len(line["tokens"]) <= 5 for line in lines))

    def test_wrong_usage_says_so(self):
        for name in ("chat.py", "many.py"):
            done = subprocess.run([sys.executable, self.EXAMPLES / name], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("usage:", done.stderr)


class TypesTest(unittest.TestCase):
    """As someone sees the package who checks a program of his own."""

    def mypy(self, *args):
        stubs = pathlib.Path(pregate.__file__).parents[1]
        return subprocess.run(
            [live.PYTHON, "-m", "mypy", "--strict", "--python-executable", sys.executable,
             "--allow-untyped-calls", "--no-warn-return-any",  # gRPC's and protobuf's own stubs
             "--cache-dir", live.ROOT / "build/python/mypy", *args], cwd=stubs, capture_output=True, text=True)

    def test_package_and_examples_hold_what_their_types_say(self):
        done = self.mypy("-p", "pregate", "--exclude", "v1/")
        self.assertEqual(done.returncode, 0, done.stdout)
        for example in ExamplesTest.EXAMPLES.glob("*.py"):
            done = self.mypy(example)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_a_mistake_in_a_call_is_found(self):
        with tempfile.NamedTemporaryFile("w", suffix=".py") as program:
            program.write("import pregate\npregate.Client('a').generate('x', max_token=3)\n")
            program.flush()
            done = self.mypy(program.name)
        self.assertIn("max_token", done.stdout)


if __name__ == "__main__":
    unittest.main()
