"""`pregate chat` against live programs, through pipes and on a terminal. usage: chat_test.py BIN_DIR"""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import unittest

import live


class Terminal:
    """`pregate chat` on a pseudo terminal."""

    def __init__(self, *flags):
        self.main, side = pty.openpty()
        self.process = subprocess.Popen([live.BIN / "pregate", "chat", *map(str, flags)], stdin=side, stdout=side,
                                        stderr=side, start_new_session=True, preexec_fn=lambda: own_terminal(0))
        os.close(side)
        self.seen = ""

    def type(self, text):
        os.write(self.main, text.encode())

    def expect(self, pattern):
        """Waits for the pattern behind what was expected before; returns what came up to its end."""
        end = time.monotonic() + live.TIMEOUT_S
        while not (match := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            assert left > 0 and select.select([self.main], [], [], left)[0], f"no {pattern!r} in {self.seen!r}"
            self.seen += os.read(self.main, 4096).decode(errors="replace")
        before, self.seen = self.seen[:match.end()], self.seen[match.end():]
        return before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.main)


def own_terminal(fd):
    """Makes the terminal the controlling one, so that Ctrl-C becomes a signal."""
    import fcntl
    import termios
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


class ChatTest(live.Served, unittest.TestCase):
    def chat(self, lines, *flags, code=0, server=None):
        done = subprocess.run([live.BIN / "pregate", "chat", "--server", (server or self.server).address, *map(str, flags)],
                              input=lines, capture_output=True, text=True, timeout=live.TIMEOUT_S)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertNotIn("\x1b", done.stdout + done.stderr)
        return done.stdout, done.stderr

    def test_answers_are_those_of_generate_and_remember_the_conversation(self):
        flags = ["--max-tokens", 12, "--temperature", 0.9, "--seed", 7]
        first, summary = self.chat("Hello there\n", *flags)
        alone = live.pregate("generate", "--server", self.server.address, "--chat", "--prompt", "Hello there", *flags)
        self.assertEqual(first.rstrip("\n"), alone.rstrip("\n"))
        self.assertRegex(summary, r"prompt \d+ tokens · answer 12 tokens \(length\) · TTFT [\d.]+ ms · ([\d.]+|-) tokens/s · seed 7")
        twice, notes = self.chat("Hello there\nAnd now?\n/reset\nAnd now?\n", *flags)
        with_history, anew = [int(n) for n in re.findall(r"prompt (\d+) tokens", notes)][1:]
        self.assertGreater(with_history, anew)
        self.assertTrue(twice.startswith(first))
        again, _ = self.chat("And now?\n", *flags)
        self.assertTrue(twice.endswith(again))

    def test_system_and_seed_take_effect(self):
        ask = ["--max-tokens", 12, "--temperature", 1]
        _, plain = self.chat("Hi\n", *ask)
        by_flag, with_flag = self.chat("Hi\n", *ask, "--system", "Be brief", "--seed", 3)
        by_line, with_line = self.chat("/system Be brief\n/seed 3\nHi\n", *ask)
        self.assertEqual(by_flag, by_line)
        prompts = [int(re.search(r"prompt (\d+)", text).group(1)) for text in (plain, with_flag, with_line)]
        self.assertGreater(prompts[1], prompts[0])
        self.assertEqual(prompts[1], prompts[2])
        self.assertIn("seed 3", with_line)

    def test_commands_that_are_not_there_and_help(self):
        out, err = self.chat("/frob\n/help\n\n/seed x\n/quit\nnot read\n")
        self.assertEqual(out, "")
        for part in ("unknown command '/frob'", "/system TEXT", "'x' is not a whole number"):
            self.assertIn(part, err)

    def test_routes(self):
        _, err = self.chat("Hi\n", "--max-tokens", 5, "--show-routes")
        self.assertRegex(err, r"routes \(prompt \| answer\): [012]+\|[012]+")

    def test_a_full_context_is_said_and_reset_helps(self):
        long = "word " * 1500  # more than the model's 2048 tokens
        out, err = self.chat(f"{long}\nHi\n", "--max-tokens", 5)
        self.assertRegex(err, r"the context is full \(\d+ of 2048 tokens\): /reset")
        self.assertIn("answer 5 tokens", err)  # the question that did not fit is not part of the conversation
        some = "word " * 400
        out, err = self.chat(f"{some}\n{some}\n{some}\n{some}\n/reset\nHi\n", "--max-tokens", 5)
        self.assertIn("the context is full", err)
        self.assertTrue(re.search(r"context is full.*\n.*answer 5 tokens", err), err)

    def test_errors_are_the_servers_words_and_a_pipes_exit_code(self):
        gone = self.folder.serve()
        gone.kill()
        _, err = self.chat("", server=gone, code=1)
        self.assertIn("pregate chat: ", err)
        with self.folder.serve() as server:
            client = live.Client([live.BIN / "pregate", "chat", "--server", server.address, "--max-tokens", "4"],
                                 stdin=subprocess.PIPE)
            client.process.stdin.write(b"Hi\n")
            client.process.stdin.flush()
            client.read_some(1)
            live.wait_for(lambda: server.metric("pregate_requests_total", finish_reason="length") == 1, "an answer")
            server.kill()
            client.process.stdin.write(b"Hi again\n")
            client.process.stdin.flush()
            self.assertEqual(client.finish()[0], 1)

    def ask_and_stop(self, terminal, question):
        """Ctrl-C while the answer runs. The tiny model may be at the context's end before that: then it is asked again."""
        for _ in range(30):
            terminal.type(f"{question}\n")
            terminal.expect(f"{question}\r\n(.|\n){{10}}")
            terminal.type("\x03")
            # Where the answer ends just then, Ctrl-C may find nothing to do and say nothing.
            if "(cancelled)" in terminal.expect(r"(\((cancelled|/quit or Ctrl-D ends)\)|starts anew)\r\n> "):
                return
            terminal.type("/reset\n")
            terminal.expect("/reset\r\n(.|\n)*> ")
        self.fail("no answer ran until it was stopped")

    def test_terminal_ctrl_c_keeps_the_conversation_and_ctrl_d_ends_it(self):
        with Terminal("--server", self.server.address) as terminal:
            terminal.expect(r"context 2048 tokens.*\n> ")
            self.ask_and_stop(terminal, "Tell me everything")
            live.wait_for(lambda: self.server.running() == 0, "the sequence is freed")
            terminal.type("\x03")  # nothing to cancel: a hint, and the prompt again
            terminal.expect(r"\(/quit or Ctrl-D ends\)\r\n> ")
            self.ask_and_stop(terminal, "Go on")
            terminal.type("\x04")
            self.assertEqual(terminal.process.wait(timeout=live.TIMEOUT_S), 0)

    def test_terminal_shows_a_dim_summary(self):
        with Terminal("--server", self.server.address, "--max-tokens", 3) as terminal:
            terminal.expect("> ")
            terminal.type("Hi\n")
            terminal.expect("\x1b\\[2mprompt .*answer 3 tokens.*\x1b\\[0m\r\n> ")
            terminal.type("/quit\n")
            self.assertEqual(terminal.process.wait(timeout=live.TIMEOUT_S), 0)

    def test_mutual_tls(self):
        certs, strangers = self.folder.certs(), self.folder.certs()
        with self.folder.serve(certs=certs) as server:
            ask = ["--max-tokens", 5, "--temperature", 1, "--seed", 4]
            plain, _ = self.chat("Hi\n", *ask)
            for role in ("client", "operator"):
                self.assertEqual(self.chat("Hi\n", *ask, "--tls-dir", certs / role, server=server)[0], plain)
            self.chat("Hi\n", "--tls-dir", strangers / "client", server=server, code=1)
            _, err = self.chat("Hi\n", "--tls-dir", certs / "monitor", server=server, code=2)
            self.assertIn("monitor", err)
            _, err = self.chat("Hi\n", server=server, code=1)
            self.assertIn("Socket closed; does the server speak TLS? give --tls-dir", err)
            done = subprocess.run([live.BIN / "pregate", "chat", "--server", server.metrics_address, "--tls-dir", certs / "client"],
                                  input="", capture_output=True, text=True, timeout=live.TIMEOUT_S)
            self.assertEqual(done.returncode, 1)
            self.assertIn("; is this a gRPC port?", done.stderr)

    def test_a_timeout_keeps_what_came(self):
        # The server freezes in mid-answer, so no machine is fast enough to end in time; a deep model leaves time to
        # freeze it. The model repeats itself: with drafts the whole answer would be there at once.
        deep = self.folder.path / "deep"
        live.pregate("synth", "--shape", "tiny", "--layers", 64, "--seed", 1, "--out", deep)
        with self.folder.serve("--drafts", "off", model=deep) as server:
            ask = ["generate", "--prompt", "Tell me", "--ignore-eos"]
            for flags in ([], ["--json"]):
                out, err = self.cut_off(server, [*ask, *flags])
                self.assertRegex(err, r"not complete after --timeout-s 3s; \d+ tokens came")
                self.assertGreater(len(json.loads(out)["text"] if flags else out), 10)
            out, err = self.cut_off(server, ["chat"], "Tell me everything\n")
            self.assertIn("not complete after --timeout-s 3s", err)
            self.assertGreater(len(out), 1)

    def cut_off(self, server, argv, lines=None):
        """What a client with a timeout prints whose server freezes once it has sent some tokens."""
        live.wait_for(lambda: server.running() == 0, "the answer before has ended")
        sent = server.metric("pregate_generation_tokens_total")
        client = subprocess.Popen([live.BIN / "pregate", *argv, "--server", server.address, "--timeout-s", "3"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if lines:
            client.stdin.write(lines)
            client.stdin.flush()
        live.wait_for(lambda: server.metric("pregate_generation_tokens_total") >= sent + 24, "some tokens")
        server.signal(signal.SIGSTOP)
        try:
            out, err = client.communicate(timeout=live.TIMEOUT_S)
        finally:
            server.signal(signal.SIGCONT)
        self.assertEqual(client.returncode, 1, err)
        return out, err


if __name__ == "__main__":
    unittest.main()
