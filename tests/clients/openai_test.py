"""The unmodified `openai` and `anthropic` packages, and bare sockets, against `pregate serve` over HTTP.

usage: openai_test.py BIN_DIR
"""
import concurrent.futures
import hashlib
import http.client
import inspect
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

import anthropic
import live
import openai

LONG = live.LONG
ONE_BY_ONE = {"ignore_eos": True, "pregate": {"no_drafts": True}}


def client(server, key="none", **options):
    return openai.OpenAI(base_url=f"http://{server.http_address}/v1", api_key=key, **{"max_retries": 0, "timeout": 60, **options})


def claude(server, key="none", **options):
    return anthropic.Anthropic(base_url=f"http://{server.http_address}", api_key=key, **{"max_retries": 0, "timeout": 60, **options})


def post(server, path, body, headers=None, method="POST"):
    """(status, headers, body) of a bare request."""
    connection = http.client.HTTPConnection(server.http_address, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def text_of(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


class Cancels(live.Served):
    """What the server of a test does when a client leaves."""

    def num_cancelled(self):
        return self.server.metric("pregate_requests_total", finish_reason="cancelled")

    def await_idle(self):
        live.wait_for(lambda: self.server.running() == 0, "the sequence is freed")

    def await_cancelled(self, before):
        self.await_idle()
        self.assertEqual(self.num_cancelled(), before + 1)
        live.wait_for(lambda: self.server.metric("pregate_gateway_open_streams") == 0, "the stream is counted out")


class OpenAiTest(Cancels, unittest.TestCase):
    LAYERS = live.DEEP

    def setUp(self):
        self.client = client(self.server)

    def complete(self, prompt, tokens, **fields):
        extra = {"ignore_eos": True, **fields.pop("extra_body", {})}
        return self.client.completions.create(model="tiny", prompt=prompt, max_tokens=tokens, extra_body=extra, **fields)

    def test_text_equals_that_of_grpc_at_any_temperature(self):
        for temperature, seed in ((0, 0), (0.8, 5), (1.3, 2**63 + 7)):
            expected = self.folder.generate("Once upon a time", 60, temperature, seed)["text"]
            whole = self.complete("Once upon a time", 60, temperature=temperature, seed=seed)
            self.assertEqual(whole.choices[0].text, expected)
            self.assertEqual(whole.choices[0].finish_reason, "length")
            self.assertEqual(whole.usage.completion_tokens, 60)
            self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + 60)
            chunks = self.complete("Once upon a time", 60, temperature=temperature, seed=seed, stream=True)
            self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), expected)

    def test_prompts_may_be_ids(self):
        whole = self.complete("Once upon", 9, temperature=0, extra_body={"pregate": {"return_routes": True}})
        by_ids = self.complete([1, 2, 3], 9, temperature=0)
        self.assertEqual(by_ids.usage.prompt_tokens, 3)
        self.assertEqual(len(whole.pregate["routes"]), 9)

    def test_several_prompts_are_answered_in_their_order(self):
        prompts = ["Once upon", "The sea", "A"]
        fields = dict(temperature=1, seed=7)
        alone = [choice.text for prompt in prompts for choice in self.complete(prompt, 20, n=2, **fields).choices]
        whole = self.complete(prompts, 20, n=2, **fields)
        self.assertEqual([choice.index for choice in whole.choices], list(range(6)))
        self.assertEqual([choice.text for choice in whole.choices], alone)
        self.assertEqual(whole.usage.completion_tokens, 120)
        self.assertEqual({choice.finish_reason for choice in whole.choices}, {"length"})
        texts, reasons = [""] * 3, [None] * 3
        stream = self.complete(prompts, 20, stream=True, stream_options={"include_usage": True}, echo=True, logprobs=1, **fields)
        for chunk in stream:
            usage = chunk.usage
            for choice in chunk.choices:
                texts[choice.index] += choice.text
                reasons[choice.index] = choice.finish_reason or reasons[choice.index]
        self.assertEqual(texts, [prompt + text for prompt, text in zip(prompts, alone[::2])])
        self.assertEqual((reasons, usage.completion_tokens), (["length"] * 3, 60))
        by_ids = self.complete([[1, 2, 3], [4, 5]], 4, temperature=0)
        self.assertEqual((len(by_ids.choices), by_ids.usage.prompt_tokens), (2, 5))
        many = self.complete(["x"] * 128, 1, temperature=0)
        self.assertEqual(len({choice.text for choice in many.choices}), 1)

    def test_one_prompt_that_fails_ends_all(self):
        for stream in (False, True):
            with self.assertRaises(openai.APIError) as caught:
                list(self.complete(["Once upon", [1] * 100_000, "A"], LONG, stream=stream))
            self.assertIn("context", str(caught.exception))
        self.await_idle()
        with self.assertRaises(openai.BadRequestError) as caught:
            self.complete(["x"] * 129, 1)
        self.assertIn("at most 128", str(caught.exception))

    def test_chat_streams_what_it_answers_whole(self):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
        fields = dict(model="tiny", messages=messages, max_completion_tokens=40, temperature=0.9, seed=3, extra_body={"ignore_eos": True})
        whole = self.client.chat.completions.create(**fields)
        self.assertEqual(whole.choices[0].message.role, "assistant")
        self.assertEqual(whole.object, "chat.completion")
        stream = list(self.client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **fields))
        self.assertEqual(text_of(stream), whole.choices[0].message.content)
        counts = [(u.prompt_tokens, u.completion_tokens, u.total_tokens) for u in (stream[-1].usage, whole.usage)]
        self.assertEqual(*counts)
        # What the first one computed is there for the second, in whole blocks of 16 tokens.
        self.assertEqual(stream[-1].usage.prompt_tokens_details.cached_tokens, (counts[0][0] - 1) // 16 * 16)
        self.assertEqual([c.choices[0].finish_reason for c in stream if c.choices][-1], "length")
        self.assertEqual(stream[0].choices[0].delta.role, "assistant")

    def test_stop_strings_end_it(self):
        full = self.complete("Once upon", 60, temperature=0).choices[0].text
        stop = full[20:24]
        stopped = self.complete("Once upon", 60, temperature=0, stop=[stop])
        self.assertEqual(stopped.choices[0].text, full[:full.index(stop)])
        self.assertEqual(stopped.choices[0].finish_reason, "stop")

    def test_routes_come_with_the_tokens(self):
        fields = dict(temperature=0, extra_body={"pregate": {"return_routes": True}})
        whole = self.complete("Once upon", 20, **fields).pregate
        self.assertEqual(len(whole["ids"]), 20)
        self.assertEqual(len(whole["routes"]), 20)
        chunks = [c.pregate for c in self.complete("Once upon", 20, stream=True, **fields) if getattr(c, "pregate", None)]
        self.assertEqual([r for c in chunks for r in c.get("routes", [])], whole["routes"])
        self.assertEqual(chunks[0]["prompt_routes"], whole["prompt_routes"])

    def test_each_choice_is_a_request_with_its_own_seed(self):
        fields = dict(temperature=1, seed=7)
        whole = self.complete("Once upon", 20, n=3, **fields)
        self.assertEqual([choice.index for choice in whole.choices], [0, 1, 2])
        for i, choice in enumerate(whole.choices):
            seed = (7 + i * 0x9E3779B97F4A7C15) % 2**64
            self.assertEqual(choice.text, self.folder.generate("Once upon", 20, 1, seed)["text"])
        texts = ["", "", ""]
        for chunk in self.complete("Once upon", 20, n=3, stream=True, **fields):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        self.assertEqual(texts, [choice.text for choice in whole.choices])
        self.assertEqual(whole.usage.completion_tokens, 60)
        best = self.complete("Once upon", 20, best_of=3, **fields)
        self.assertEqual(len(best.choices), 1)
        self.assertIn(best.choices[0].text, texts)
        self.assertEqual(best.usage.completion_tokens, 60)

    def test_logprobs(self):
        whole = self.complete("Once upon", 5, temperature=0, logprobs=3, echo=True)
        logprobs = whole.choices[0].logprobs
        self.assertTrue(whole.choices[0].text.startswith("Once upon"))
        self.assertEqual(len(logprobs.tokens), whole.usage.prompt_tokens + 5)
        self.assertIsNone(logprobs.token_logprobs[0])
        self.assertTrue(all(value <= 0 for value in logprobs.token_logprobs[1:]))
        self.assertEqual(logprobs.text_offset[0], 0)
        for top, own in zip(logprobs.top_logprobs[-5:], logprobs.token_logprobs[-5:]):
            self.assertAlmostEqual(max(top.values()), own, places=4)  # greedy takes the likeliest
        chat = self.client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=4, logprobs=True,
                                                   top_logprobs=2, temperature=0, extra_body={"ignore_eos": True})
        content = chat.choices[0].logprobs.content
        self.assertEqual(len(content), 4)
        self.assertEqual(len(content[0].top_logprobs), 2)
        stream = self.client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=4, logprobs=True,
                                                     top_logprobs=2, temperature=0, stream=True, extra_body={"ignore_eos": True})
        streamed = [token for chunk in stream for choice in chunk.choices if choice.logprobs for token in choice.logprobs.content]
        self.assertEqual([t.logprob for t in streamed], [t.logprob for t in content])

    def test_bias_and_penalties_change_what_is_drawn(self):
        greedy = self.complete("Once upon", 12, temperature=0, extra_body={"pregate": {"return_routes": True}})
        first = greedy.pregate["ids"][0]
        banned = self.complete("Once upon", 12, temperature=0, logit_bias={str(first): -100}, extra_body={"pregate": {"return_routes": True}})
        self.assertNotIn(first, banned.pregate["ids"])
        forced = self.complete("Once upon", 12, temperature=0, logit_bias={str(first): 100}, extra_body={"pregate": {"return_routes": True}})
        self.assertEqual(set(forced.pregate["ids"]), {first})
        damped = self.complete("Once upon", 12, temperature=0, frequency_penalty=2, presence_penalty=2)
        self.assertNotEqual(damped.choices[0].text, greedy.choices[0].text)

    def test_the_answer_is_what_the_format_says(self):
        schema = {"type": "object", "required": ["z", "a"], "additionalProperties": False,
                  "properties": {"z": {"type": "integer"}, "a": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 3}}}
        form = {"type": "json_schema", "json_schema": {"name": "made", "strict": True, "schema": schema}}
        ended = 0
        for seed in range(6):
            fields = dict(model="tiny", messages=[{"role": "user", "content": "Make one"}], max_completion_tokens=300, temperature=1,
                          seed=seed, response_format=form)
            whole = self.client.chat.completions.create(**fields)
            text = whole.choices[0].message.content
            self.assertEqual(text_of(self.client.chat.completions.create(stream=True, **fields)), text)
            if whole.choices[0].finish_reason != "stop":
                continue
            ended += 1
            value = json.loads(text)
            self.assertEqual(list(value), ["z", "a"])
            self.assertIsInstance(value["z"], int)
            self.assertLessEqual(set(value["a"]), {"x", "y"})
        self.assertGreater(ended, 0)
        answer = self.client.completions.create(model="tiny", prompt="x", max_tokens=40, temperature=1, seed=3,
                                                extra_body={"structured_outputs": {"regex": "[ab]{3}c?"}})
        self.assertRegex(answer.choices[0].text, r"^[ab]{3}c?$")
        schema["properties"]["z"]["multipleOf"] = 3
        with self.assertRaisesRegex(openai.BadRequestError, "/properties/z/multipleOf"):
            self.client.chat.completions.create(**fields)

    def test_models(self):
        names = [model.id for model in self.client.models.list()]
        self.assertEqual(names, ["tiny"])
        self.assertGreater(self.client.models.retrieve("tiny").max_model_len, 0)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("another")

    def test_mistakes_are_told_in_openais_form(self):
        cases = [(openai.BadRequestError, "temperature", dict(temperature=3)), (openai.BadRequestError, "n", dict(n=33)), (openai.BadRequestError, "suffix", dict(suffix="y")),
                 (openai.BadRequestError, "temprature", dict(extra_body={"temprature": 1})),
                 (openai.BadRequestError, "max_tokens", dict(tokens=-1)), (openai.BadRequestError, "stop", dict(stop=["x" * 300]))]
        for kind, param, fields in cases:
            with self.subTest(param), self.assertRaises(kind) as caught:
                self.complete("x", fields.pop("tokens", 3), **fields)
            self.assertIn(param, caught.exception.body["message"])
            self.assertEqual(caught.exception.type, "invalid_request_error")
            self.assertEqual(caught.exception.param, param)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.complete("x", 10**6)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.completions.create(model="another", prompt="x")
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.APIStatusError) as caught:
            self.client.embeddings.create(model="tiny", input="x")
        self.assertEqual(caught.exception.status_code, 501)

    def test_closing_a_stream_cancels_on_the_server(self):
        before = self.num_cancelled()
        stream = self.complete("Tell me", LONG, stream=True, extra_body=ONE_BY_ONE)
        next(iter(stream))
        self.assertEqual(self.server.running(), 1)
        stream.close()
        self.await_cancelled(before)

    def test_a_client_that_waits_no_longer_cancels_too(self):
        with self.assertRaises(openai.APITimeoutError):
            self.client.with_options(timeout=0.02).completions.create(model="tiny", prompt="x", max_tokens=LONG, extra_body=ONE_BY_ONE)
        self.await_idle()

    def test_deadlines_are_the_servers_too(self):
        with self.assertRaises(openai.APIStatusError) as caught:
            self.complete("x", LONG, extra_body=ONE_BY_ONE, extra_headers={"X-Request-Timeout": "0.01"})
        self.assertEqual(caught.exception.status_code, 504)
        with self.assertRaises(openai.APIError) as caught:
            for _ in self.complete("x", LONG, stream=True, extra_body=ONE_BY_ONE, extra_headers={"X-Request-Timeout": "0.05"}):
                pass
        self.assertIn("eadline", str(caught.exception))
        self.await_idle()

    def test_request_ids_come_back(self):
        answer = self.client.completions.with_raw_response.create(model="tiny", prompt="x", max_tokens=2,
                                                                  extra_headers={"X-Request-Id": "mine-1"})
        self.assertEqual(answer.headers["x-request-id"], "mine-1")
        self.assertEqual(answer.parse().id, "cmpl-mine-1")

    def test_one_connection_serves_many_requests(self):
        connection = http.client.HTTPConnection(self.server.http_address, timeout=60)
        body = json.dumps({"prompt": "x", "max_tokens": 2})
        for i in range(20):
            connection.request("POST", "/v1/completions", body if i % 3 else json.dumps({"prompt": "x", "max_tokens": 2, "stream": True}),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200, answer.read() if answer.status != 200 else "")
            answer.read()
            sock = connection.sock if i == 0 else sock
            self.assertIs(connection.sock, sock, "another connection was made")

    def test_http_itself_is_held_to_its_limits(self):
        server = self.server
        self.assertEqual(post(server, "/v1/completions", b"{")[0], 400)
        self.assertEqual(post(server, "/v1/completions", b"[]")[0], 400)
        self.assertEqual(post(server, "/v1/completions", b'{"prompt": "\xff"}')[0], 400)
        self.assertEqual(post(server, "/v1/completions", b"[" * 100000)[0], 400)
        self.assertEqual(post(server, "/v1/completions", {"prompt": "x"}, {"Content-Type": "text/plain"})[0], 415)
        self.assertEqual(post(server, "/v1/completions", b" " * (9 << 20))[0], 413)
        self.assertEqual(post(server, "/v1/completions", {}, {"X": "y" * 20000})[0], 431)
        self.assertEqual(post(server, "/nothing", {})[0], 404)
        status, headers, body = post(server, "/v1/completions", b"", method="GET")
        self.assertEqual((status, headers["Allow"]), (405, "POST"))
        self.assertIn("POST", json.loads(body)["error"]["message"])
        self.assertEqual(post(server, "/health", b"", method="GET")[0], 200)
        self.assertIn("version", json.loads(post(server, "/version", b"", method="GET")[2]))

    def test_hostile_bytes_leave_it_as_it_was(self):
        for data in (b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                     b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"A" * 70000):
            with socket.create_connection(self.server.http_address.split(":"), timeout=20) as s:
                s.sendall(data)
                try:
                    answer = s.recv(100)
                except ConnectionResetError:
                    continue
                self.assertRegex(answer, rb"^HTTP/1.1 4\d\d ")
        self.assertEqual(self.complete("x", 2).usage.completion_tokens, 2)

    def test_many_streams_at_once_and_one_that_does_not_read(self):
        expected = self.folder.generate("Tell me", 30, 0.7, 1)["text"]
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(tuple(self.server.http_address.split(":")[:1]) + (int(self.server.http_address.split(":")[1]),))
        body = json.dumps({"prompt": "x", "max_tokens": LONG, "stream": True, "pregate": {"return_routes": True}, "ignore_eos": True}).encode()
        deaf.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        def run(_):
            return "".join(c.choices[0].text for c in self.complete("Tell me", 30, temperature=0.7, seed=1, stream=True))
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            texts = list(pool.map(run, range(200)))
        self.assertEqual(set(texts), {expected})
        live.wait_for(lambda: self.server.metric("pregate_gateway_open_streams") == 0, "the deaf one is cut")
        deaf.close()
        self.await_idle()


class RefusalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = live.Folder(live.DEEP)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_a_full_queue_is_429_and_the_package_tries_again(self):
        with self.folder.serve("--running-max", 1, "--queue-max", 1) as server:
            calls = [client(server).completions.create(model="tiny", prompt="x", max_tokens=LONG, stream=True, extra_body=ONE_BY_ONE)]
            next(iter(calls[0]))
            waiting = threading.Thread(target=lambda: client(server).completions.create(
                model="tiny", prompt="x", max_tokens=5), daemon=True)
            waiting.start()
            live.wait_for(lambda: server.metric("pregate_num_requests_waiting") == 1, "one waits")
            with self.assertRaises(openai.RateLimitError) as caught:
                client(server).completions.create(model="tiny", prompt="x")
            self.assertGreater(int(caught.exception.response.headers["retry-after-ms"]), 0)
            calls[0].close()
            answer = client(server, max_retries=20).completions.create(model="tiny", prompt="x", max_tokens=3)
            self.assertEqual(answer.usage.completion_tokens, 3)
            waiting.join(60)

    def test_tokens_are_needed_told_apart_and_reloaded(self):
        file = self.folder.path / "tokens.json"

        def token(tenant, *flags):
            return json.loads(live.pregate("api-token", "new", "--tenant", tenant, "--file", file, "--json", *flags))["token"]
        one, small = token("one"), token("small", "--concurrent-max", 1, "--tokens-per-minute", 30)
        self.assertNotIn(one, file.read_text())
        with self.folder.serve("--api-tokens-file", file) as server:
            def ask(key, tokens=3, **fields):
                return client(server, key).completions.create(model="tiny", prompt="x", max_tokens=tokens, **fields)
            self.assertEqual(ask(one).usage.completion_tokens, 3)
            self.assertEqual(claude(server, one).messages.create(
                model="tiny", max_tokens=3, messages=[{"role": "user", "content": "Hi"}]).usage.output_tokens, 3)
            for wrong in ("none", one + "x", hashlib.sha256(one.encode()).hexdigest()):
                with self.assertRaises(openai.AuthenticationError) as caught:
                    ask(wrong)
                self.assertEqual(caught.exception.code, "invalid_api_key")
                with self.assertRaises(anthropic.AuthenticationError):
                    claude(server, wrong).messages.create(model="tiny", max_tokens=3, messages=[{"role": "user", "content": "Hi"}])
            self.assertEqual(post(server, "/v1/models", b"", method="GET")[0], 401)
            self.assertEqual(post(server, "/health", b"", method="GET")[0], 200)
            held = ask(small, LONG, stream=True, extra_body=ONE_BY_ONE)
            next(iter(held))
            with self.assertRaises(openai.RateLimitError):
                ask(small)
            held.close()
            live.wait_for(lambda: server.running() == 0, "the held one is freed")
            with self.assertRaises(openai.RateLimitError) as caught:  # a minute's tokens are used
                while True:
                    ask(small, 20)
            self.assertIn("30 tokens a minute", str(caught.exception))
            file.write_text("{")
            late = json.loads(live.pregate("api-token", "new", "--tenant", "late", "--json"))
            live.wait_for(lambda: "not taken" in server.log.read_text(), "the broken file is told")
            self.assertEqual(ask(one).usage.completion_tokens, 3)
            file.write_text(json.dumps({"tokens": [late["entry"]]}))
            live.wait_for(lambda: post(server, "/v1/models", b"", {"Authorization": f"Bearer {late['token']}"}, "GET")[0] == 200, "the new one is taken")
            with self.assertRaises(openai.AuthenticationError):
                ask(one)
            for secret in (one, small, late["token"]):
                self.assertNotIn(secret, server.log.read_text())

    def test_it_stays_on_this_machine_unless_told(self):
        def refused(*flags):
            done = subprocess.run([live.BIN / "pregate", "serve", "--model", self.folder.model, "--listen", "127.0.0.1:0",
                                   "--metrics-listen", "127.0.0.1:0", *map(str, flags)], capture_output=True, text=True, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            return done.stderr
        self.assertIn("--http-plaintext", refused("--http-listen", "0.0.0.0:0"))
        self.assertIn("--api-tokens-file", refused("--http-listen", "0.0.0.0:0", "--http-plaintext"))
        self.assertIn("--http-listen", refused("--http-listen", "nonsense"))
        self.assertIn("--api-tokens-file", refused("--api-tokens-file", "/nonexistent"))
        with self.folder.serve("--http-listen", "off") as server:
            self.assertNotIn("http", json.loads(server.ports.read_text()))
        with self.folder.serve("--http-listen", "0.0.0.0:0", "--http-plaintext", "--http-open") as server:
            self.assertIn("0.0.0.0", server.http_address)

    def test_sigterm_lets_streams_end(self):
        with self.folder.serve() as server:
            stream = client(server).completions.create(model="tiny", prompt="x", max_tokens=300, stream=True, extra_body=ONE_BY_ONE)
            chunks = iter(stream)
            next(chunks)
            server.signal(signal.SIGTERM)
            self.assertEqual([c.choices[0].finish_reason for c in chunks][-1], "length")
            self.assertEqual(server.process.wait(60), 0)


class AnthropicTest(Cancels, unittest.TestCase):
    LAYERS = live.DEEP
    FIELDS = dict(model="tiny", max_tokens=40, system="Be brief.", messages=[{"role": "user", "content": "Hi"}])
    GREEDY = {**FIELDS, "extra_body": {"temperature": 0}}  # newer models of theirs take no temperature, so the package has none
    # The likeliest tokens of this model come to no end by themselves.
    ENDLESS = {**FIELDS, "max_tokens": LONG, "extra_body": {"temperature": 0, "pregate": {"no_drafts": True}}}

    def test_stream_is_the_whole_answer(self):
        # Without a seed two answers differ, so the stream is compared with the message that the package puts together.
        with claude(self.server).messages.stream(**self.FIELDS) as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        self.assertEqual(message.content[0].text, text)
        self.assertIn(message.stop_reason, ("max_tokens", "end_turn"))
        self.assertGreater(message.usage.output_tokens, 0)
        whole = claude(self.server).messages.create(**self.GREEDY)
        with claude(self.server).messages.stream(**self.GREEDY) as stream:
            self.assertEqual("".join(stream.text_stream), whole.content[0].text)

    def test_stop_sequences(self):
        text = claude(self.server).messages.create(**self.GREEDY).content[0].text
        if len(text) < 8:
            self.skipTest("the model says too little")
        stopped = claude(self.server).messages.create(stop_sequences=[text[4:8]], **self.GREEDY)
        self.assertEqual((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", text[4:8]))

    def test_mistakes_are_told_in_anthropics_form(self):
        with self.assertRaises(anthropic.BadRequestError) as caught:
            claude(self.server).messages.create(**{**self.FIELDS, "tools": [{"name": "not a name", "input_schema": {}}]})
        self.assertEqual(caught.exception.body["error"]["type"], "invalid_request_error")
        self.assertIn("tools", caught.exception.body["error"]["message"])
        with self.assertRaises(anthropic.NotFoundError):
            claude(self.server).messages.create(**{**self.FIELDS, "model": "another"})

    def test_closing_a_stream_cancels_on_the_server(self):
        before = self.num_cancelled()
        stream = claude(self.server).messages.create(stream=True, **self.ENDLESS)
        next(event for event in stream if event.type == "content_block_delta")
        self.assertEqual(self.server.running(), 1)
        stream.close()
        self.await_cancelled(before)

    def test_a_client_that_waits_no_longer_cancels_too(self):
        with self.assertRaises(anthropic.APITimeoutError):
            claude(self.server, timeout=0.02).messages.create(**self.ENDLESS)
        self.await_idle()

    def test_deadlines_are_the_servers_too(self):
        with self.assertRaises(anthropic.APIStatusError) as caught:
            claude(self.server).messages.create(extra_headers={"X-Request-Timeout": "0.01"}, **self.ENDLESS)
        self.assertEqual(caught.exception.status_code, 504)
        self.await_idle()

    def test_a_full_queue_is_429_and_the_package_tries_again(self):
        with self.folder.serve("--running-max", 1, "--queue-max", 1) as server:
            running = claude(server).messages.create(stream=True, **self.ENDLESS)
            next(event for event in running if event.type == "content_block_delta")
            waiting = threading.Thread(target=lambda: claude(server).messages.create(**{**self.GREEDY, "max_tokens": 5}), daemon=True)
            waiting.start()
            live.wait_for(lambda: server.metric("pregate_num_requests_waiting") == 1, "one waits")
            with self.assertRaises(anthropic.RateLimitError) as caught:
                claude(server).messages.create(**self.FIELDS)
            self.assertEqual(caught.exception.body["error"]["type"], "rate_limit_error")
            self.assertGreater(int(caught.exception.response.headers["retry-after-ms"]), 0)
            running.close()
            answer = claude(server, max_retries=20).messages.create(**{**self.GREEDY, "max_tokens": 3})
            self.assertLessEqual(answer.usage.output_tokens, 3)
            waiting.join(60)


class FieldsTest(unittest.TestCase):
    """docs/API.md, whose tables a unit test holds to the code, has whatever the packages can send."""

    def test_all_are_in_the_tables(self):
        page = (live.ROOT / "docs/API.md").read_text()
        create = {"/v1/chat/completions": openai.OpenAI(api_key="x").chat.completions.create,
                  "/v1/completions": openai.OpenAI(api_key="x").completions.create,
                  "/v1/messages": anthropic.Anthropic(api_key="x").messages.create}
        for path, function in create.items():
            section = page.split(f"### POST {path}\n")[1].split("\n#")[0]
            sent = {name for name in inspect.signature(function).parameters if not name.startswith("extra_") and name != "timeout"}
            self.assertEqual(sent - set(re.findall(r"(?m)^\| `(\w+)` \|", section)), set(), path)


class ClusterTest(unittest.TestCase):
    """A gateway of its own in front of two schedulers, of which one comes and goes."""

    def test_it_spreads_and_goes_on_without_one(self):
        folder = live.Folder(live.DEEP)
        certs = folder.certs()
        with folder.serve("--http-listen", "off", certs=certs) as a, folder.serve("--http-listen", "off", certs=certs) as b:
            with live.Program(folder.path, "gateway", live.BIN / "pregate-gateway", "--schedulers", f"{a.address},{b.address}",
                              certs=certs, role="client", http=True) as gateway:
                live.wait_for(lambda: gateway.metric("pregate_gateway_scheduler_up") == 2, "both are ready")
                streams = [client(gateway).completions.create(model="tiny", prompt="x", max_tokens=LONG, stream=True, extra_body=ONE_BY_ONE)
                           for _ in range(4)]
                for stream in streams:
                    next(iter(stream))
                self.assertEqual((a.running(), b.running()), (2, 2))
                for stream in streams:
                    stream.close()
                a.kill()
                texts = {client(gateway).completions.create(model="tiny", prompt="x", max_tokens=20, temperature=0).choices[0].text
                         for _ in range(4)}
                self.assertEqual(len(texts), 1)
                live.wait_for(lambda: gateway.metric("pregate_gateway_scheduler_up") == 1, "one is down")
                b.kill()
                live.wait_for(lambda: post(gateway, "/health", b"", method="GET")[0] == 503, "none is ready")
                with self.assertRaises(openai.InternalServerError) as caught:
                    client(gateway).completions.create(model="tiny", prompt="x")
                self.assertEqual(caught.exception.status_code, 503)
                gateway.signal(signal.SIGTERM)
                self.assertEqual(gateway.process.wait(60), 0)
        folder.cleanup()

    def test_threads_wait_for_their_turn_where_that_is_asked_for(self):
        folder = live.Folder()
        flags = ("--schedulers", "127.0.0.1:9", "--batch-threads")
        with live.Program(folder.path, "gateway", live.BIN / "pregate-gateway", *flags, http=True) as gateway:
            threads = [int(t.name) for t in pathlib.Path(f"/proc/{gateway.process.pid}/task").iterdir()]
            batch = [t for t in threads if os.sched_getscheduler(t) == os.SCHED_BATCH]
            self.assertIn(gateway.process.pid, batch)
            self.assertGreater(len(batch), len(threads) / 2)  # but those that were begun before
        folder.cleanup()

    def test_one_that_answers_late_is_kept(self):
        folder = live.Folder()
        with folder.serve("--http-listen", "off") as server, live.Program(
                folder.path, "gateway", live.BIN / "pregate-gateway", "--schedulers", server.address, http=True) as gateway:
            live.wait_for(lambda: gateway.metric("pregate_gateway_scheduler_up") == 1, "it is ready")
            server.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            while time.monotonic() < stopped + 2.5:  # four answers, of a second each, have to be missing
                self.assertEqual(post(gateway, "/health", b"", method="GET")[0], 200)
                time.sleep(0.05)
            live.wait_for(lambda: post(gateway, "/health", b"", method="GET")[0] == 503, "it counts as gone")
            server.signal(signal.SIGCONT)
            body = {"prompt": "x", "max_tokens": 2}
            live.wait_for(lambda: post(gateway, "/v1/completions", body)[0] == 200, "it is back")
        folder.cleanup()


if __name__ == "__main__":
    unittest.main()
