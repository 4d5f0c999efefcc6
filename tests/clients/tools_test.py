"""Tools, with the unmodified `openai` and `anthropic` packages, against `pregate serve` with templates of several families.

usage: tools_test.py BIN_DIR
"""
import json
import pathlib
import shutil
import sys
import unittest

import anthropic
import live
import openai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tokenizer"))
import chat_templates

WEATHER = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"$ref": "#/$defs/days"}},
           "required": ["city", "days"], "additionalProperties": False, "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 9}}}
CLOCK = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": WEATHER, "strict": True}},
         {"type": "function", "function": {"name": "get_time", "parameters": CLOCK, "strict": True}}]
LOOSE = [{"type": "function", "function": {k: v for k, v in tool["function"].items() if k != "strict"}} for tool in TOOLS]
CLAUDES = [{"name": "get_weather", "description": "Weather.", "input_schema": WEATHER}, {"name": "get_time", "input_schema": CLOCK}]
QUESTION = [{"role": "user", "content": "What is the weather in Bern?"}]


def template_of(family):
    template = chat_templates.FAMILIES[family][0]
    text = template if isinstance(template, str) else template.get("tool_use", template["default"])
    # That copy of Qwen 3's has its calls, but lays out no tools.
    return "{%- for tool in tools or [] %}{{- tool | tojson }}{%- endfor %}" + text if family == "qwen3" else text


class Server:
    """A server of the folder's model with a family's template in place of its own."""

    def __init__(self, folder, family):
        model = folder.path / f"models-{next(live.COUNTER)}" / family
        shutil.copytree(folder.model, model)
        (model / "chat_template.jinja").write_text(template_of(family))
        self.server = folder.serve(model=model)
        base = f"http://{self.server.http_address}"
        self.openai = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, timeout=60)
        self.claude = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop()

    def chat(self, messages=QUESTION, tools=LOOSE, **fields):
        return self.openai.chat.completions.create(model="", messages=messages, tools=tools,
                                                   **{"max_tokens": 600, "temperature": 1, "seed": 5, **fields})

    def says(self, regex, **fields):
        """The answer of a model that is held to an expression: whatever it would say, it says this."""
        return self.chat(extra_body={"structured_outputs": {"regex": regex}}, **fields)


def calls_of_stream(chunks):
    """(text, [(name, arguments)], finish_reason) of a stream, put together as clients do it."""
    text, calls, reason = "", {}, None
    for chunk in chunks:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                name, arguments = calls.get(call.index, ("", ""))
                calls[call.index] = (name + (call.function.name or ""), arguments + (call.function.arguments or ""))
    return text, [calls[i] for i in sorted(calls)], reason


def calls_of(answer):
    choice = answer.choices[0]
    return (choice.message.content or "", [(c.function.name, c.function.arguments) for c in choice.message.tool_calls or []],
            choice.finish_reason)


class ToolsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = live.Folder()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def check_arguments(self, name, arguments):
        given = json.loads(arguments) if isinstance(arguments, str) else arguments
        if name == "get_time":
            self.assertIn(given["zone"], ("UTC", "CET"))
        else:
            self.assertEqual(name, "get_weather")
            self.assertEqual(set(given), {"city", "days"})
            self.assertTrue(1 <= given["days"] <= 9 and len(given["city"]) <= 12, given)

    def test_a_required_call_is_always_valid(self):
        with Server(self.folder, "qwen25") as server:
            for seed in range(5):
                whole = server.chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed)
                text, calls, reason = calls_of(whole)
                self.assertEqual((text, len(calls), reason), ("", 1, "tool_calls"))
                self.check_arguments(*calls[0])
                stream = server.chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed, stream=True)
                self.assertEqual(calls_of_stream(stream), (text, calls, reason))
                several = calls_of(server.chat(tools=TOOLS, tool_choice="required", seed=seed, max_tokens=1300))
                if several[2] != "length":
                    self.assertTrue(1 <= len(several[1]) <= 16)
                    for call in several[1]:
                        self.check_arguments(*call)
            for name in ("get_weather", "get_time"):
                choice = {"type": "function", "function": {"name": name}}
                _, calls, _ = calls_of(server.chat(tools=TOOLS, tool_choice=choice))
                self.assertEqual([call[0] for call in calls], [name])
                self.check_arguments(*calls[0])

    def test_calls_are_found_in_each_familys_form(self):
        forms = {"qwen25": r'Hm\.\n<tool_call>\n\{"name": "get_time", "arguments": \{"zone": "CET"\}\}\n</tool_call>',
                 "mistral": r'Hm\. \[TOOL_CALLS\] \[\{"name": "get_time", "arguments": \{"zone": "CET"\}\}\]',
                 "llama31": r'\{"name": "get_time", "parameters": \{"zone": "CET"\}\}'}
        for family, form in forms.items():
            with self.subTest(family), Server(self.folder, family) as server:
                text = "" if family.startswith("llama") else "Hm."
                expected = (text, [("get_time", '{"zone":"CET"}')], "tool_calls")
                self.assertEqual(calls_of(server.says(form)), expected)
                self.assertEqual(calls_of_stream(server.says(form, stream=True)), expected)
                # The answer goes back, with that of the tool: the template takes both.
                first = server.says(form).choices[0].message
                history = [*QUESTION, first.to_dict(), {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "12:00"}]
                if family == "mistral":
                    del history[1]["content"]
                more = server.chat(messages=history, max_tokens=3)
                self.assertGreater(more.usage.prompt_tokens, server.chat(max_tokens=1).usage.prompt_tokens)

    def test_what_is_no_call_stays_text(self):
        with Server(self.folder, "qwen25") as server:
            for text in ('<tool_call>{"name": "rm", "arguments": {}}</tool_call>', '<tool_call>{"name": "get_time"', "Fine."):
                regex = "".join("\\" + c if c in r"\^$.|?*+()[]{}/" else c for c in text)
                for stream in (False, True):
                    answer = server.says(regex, stream=stream)
                    self.assertEqual((calls_of_stream if stream else calls_of)(answer), (text, [], "stop"))

    def test_none_hides_the_tools(self):
        with Server(self.folder, "qwen25") as server:
            hidden = server.chat(tool_choice="none", max_tokens=1).usage.prompt_tokens
            self.assertLess(hidden, server.chat(max_tokens=1).usage.prompt_tokens)
            bare = server.openai.chat.completions.create(model="", messages=QUESTION, max_tokens=1)
            self.assertEqual(hidden, bare.usage.prompt_tokens)

    def test_claude_has_them_too(self):
        with Server(self.folder, "qwen25") as server:
            fields = dict(model="", max_tokens=600, messages=QUESTION, tools=CLAUDES)
            any_tool = {"type": "any", "disable_parallel_tool_use": True}
            whole = server.claude.messages.create(tool_choice=any_tool, **fields)
            self.assertEqual(whole.stop_reason, "tool_use")
            [block] = whole.content
            self.check_arguments(block.name, block.input)
            with server.claude.messages.stream(tool_choice={"type": "tool", "name": "get_time"}, **fields) as stream:
                final = stream.get_final_message()
            self.assertEqual((final.content[0].name, final.stop_reason), ("get_time", "tool_use"))
            self.check_arguments("get_time", final.content[0].input)
            history = [*QUESTION, {"role": "assistant", "content": [b.to_dict() for b in whole.content]},
                       {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "Rain."},
                                                    {"type": "text", "text": "And?"}]}]
            more = server.claude.messages.create(**{**fields, "messages": history, "max_tokens": 3})
            self.assertGreater(more.usage.output_tokens, 0)

    def test_a_model_without_tools_says_so(self):
        for family in ("chatml", "phi3", "phi4-mini", "smollm3", "granite", "xml-tools"):
            with self.subTest(family), Server(self.folder, family) as server:
                for call in (lambda: server.chat(), lambda: server.claude.messages.create(
                        model="", max_tokens=3, messages=QUESTION, tools=CLAUDES)):
                    with self.assertRaises((openai.BadRequestError, anthropic.BadRequestError)) as caught:
                        call()
                    self.assertIn(f'tools are not supported by model "{family}"', caught.exception.body.get(
                        "error", caught.exception.body)["message"])

    def test_others_of_the_same_form(self):
        for family in ("qwen3", "hermes"):
            with self.subTest(family), Server(self.folder, family) as server:
                self.assertEqual(calls_of(server.chat(tool_choice="required", parallel_tool_calls=False))[2], "tool_calls")


if __name__ == "__main__":
    unittest.main()
