"""The page for people in a headless Chromium, against `pregate serve`: what somebody who opens it does and sees.

usage: browser_test.py BIN_DIR [SCREENSHOT.png]
PREGATE_PAGE_MODEL names a model to show instead of a tiny one of random weights, PREGATE_PAGE_PROMPT what it is asked.
"""
import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest
import urllib.request

import live
from browser import Browser

SCREENSHOT = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1].endswith(".png") else pathlib.Path(tempfile.gettempdir()) / "pregate-page.png")
MODEL = os.environ.get("PREGATE_PAGE_MODEL")
PROMPT = os.environ.get("PREGATE_PAGE_PROMPT", "Once upon a time")
TOKENS = 200 if MODEL else 40

TOKENS_SHOWN = "[...document.querySelectorAll('.said.assistant:last-child .token')]"
ANSWERED = "document.getElementById('send').textContent == 'Send' && document.querySelector('.said.assistant:last-child .rate')?.textContent"


def api(server, path, body=None):
    headers = {"Content-Type": "application/json"} if body else {}
    request = urllib.request.Request(f"http://{server.http_address}{path}", json.dumps(body).encode() if body else None, headers)
    return json.load(urllib.request.urlopen(request, timeout=live.TIMEOUT_S))


class BrowserTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = live.Folder()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def opened(self, browser, server):
        browser.open(f"http://{server.http_address}/")
        browser.wait("document.getElementById('dot')?.classList.contains('up')")

    def set(self, browser, **values):
        for name, value in values.items():
            browser.js(f"document.getElementById({json.dumps(name)}).value = {json.dumps(str(value))}")

    def test_tokens_come_coloured_by_their_experts_and_the_cluster_is_shown(self):
        with self.folder.serve("--expert-slots", 3 if MODEL else 2, model=MODEL) as server, Browser() as browser:
            self.opened(browser, server)
            self.set(browser, max=TOKENS, temperature=0)
            browser.type(PROMPT)
            self.assertIn("tokens/s", browser.wait(ANSWERED))
            shown = browser.js(TOKENS_SHOWN + ".map(t => [t.textContent, t.dataset.expert, getComputedStyle(t).backgroundColor])")

            # The same question by the API: same text, same experts.
            body = {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": TOKENS, "pregate": {"return_routes": True}}
            answer = api(server, "/v1/chat/completions", body)
            self.assertEqual("".join(text for text, _, _ in shown).strip(), answer["choices"][0]["message"]["content"].strip())
            experts = [int(e) for _, e, _ in shown if e is not None]
            self.assertGreater(len(experts), 0)
            routes = iter(answer["pregate"]["routes"])  # a token without a text of its own is not shown
            self.assertTrue(all(e in routes for e in experts), (experts, answer["pregate"]["routes"]))
            colours = {expert: colour for _, expert, colour in shown if expert is not None}
            self.assertNotIn("rgba(0, 0, 0, 0)", colours.values())
            self.assertEqual(len(set(colours.values())), len(colours))

            # The cluster, once the page has looked again.
            def steps():
                return str(len(api(server, "/v1/pregate/cluster")["schedulers"][0]["steps"]))
            live.wait_for(lambda: browser.js("document.getElementById('steps').dataset.steps") == steps() != "0", "all steps are shown")
            self.assertIn("1 / 1", browser.js("document.getElementById('tiles').innerText"))
            units = browser.js("Object.assign({}, document.querySelector('canvas.units').dataset)")
            worker = api(server, "/v1/pregate/cluster")["schedulers"][0]["workers"][0]
            self.assertEqual(units["resident"], str("".join(worker["units"]).count("r")))
            self.assertEqual(units["units"], str(len("".join(worker["units"]))))
            self.assertLess(int(units["resident"]), int(units["units"]))
            self.assertIn("decode rows", browser.js("document.getElementById('detail').textContent"))

            if MODEL:  # a picture for people: as it is used, in the midst of an answer
                self.set(browser, max=400, temperature=0.7)
                browser.js("document.getElementById('clear').click(), document.getElementById('prompt').focus()")
                browser.type(PROMPT)
                browser.wait(f"document.querySelectorAll('.token').length > {TOKENS} || {ANSWERED}")
            browser.dark(False)
            browser.screenshot(SCREENSHOT)
            browser.dark(True)
            browser.screenshot(SCREENSHOT.with_stem(SCREENSHOT.stem + "-dark"))
            self.assertEqual(SCREENSHOT.read_bytes()[:4], b"\x89PNG")
            self.assertEqual(browser.complaints, [])

    def test_a_model_without_a_chat_template_goes_on_with_the_text(self):
        plain = self.folder.path / "plain"
        shutil.copytree(self.folder.model, plain)
        config = json.loads((plain / "tokenizer_config.json").read_text())
        del config["chat_template"]
        (plain / "tokenizer_config.json").write_text(json.dumps(config))
        with self.folder.serve(model=plain) as server, Browser() as browser:
            self.opened(browser, server)
            self.set(browser, max=12, temperature=0)
            browser.type(PROMPT)
            self.assertIn("tokens/s", browser.wait(ANSWERED))
            self.assertEqual(browser.js("document.getElementById('mode').value"), "completion")
            expected = api(server, "/v1/completions", {"prompt": PROMPT, "temperature": 0, "max_tokens": 12})["choices"][0]["text"]
            self.assertEqual("".join(browser.js(TOKENS_SHOWN + ".map(t => t.textContent)")), expected)

    def test_it_asks_for_a_token_and_keeps_it_nowhere(self):
        file = self.folder.path / "tokens.json"
        token = json.loads(live.pregate("api-token", "new", "--tenant", "me", "--file", file, "--json"))["token"]
        with self.folder.serve("--api-tokens-file", file) as server, Browser() as browser:
            browser.open(f"http://{server.http_address}/")
            browser.wait("document.getElementById('token')?.classList.contains('open')")
            browser.type("wrong")
            browser.wait("document.getElementById('token').classList.contains('open')")
            browser.type(token)
            browser.wait("document.getElementById('dot').classList.contains('up')")
            self.assertIn("3 experts", browser.js("document.getElementById('model').textContent"))
            self.assertEqual(browser.js("[document.cookie, localStorage.length, sessionStorage.length, document.getElementById('secret').value]"), ["", 0, 0, ""])


if __name__ == "__main__":
    unittest.main()
