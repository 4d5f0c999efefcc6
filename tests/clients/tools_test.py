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


def add_mark(model, special):
    """In place of the tokenizer's last token, one for <tool_call>: its id."""
    file = model / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    last = max(vocabulary, key=vocabulary.get)
    number = vocabulary.pop(last)
    tokenizer["model"]["merges"] = [m for m in merges if "".join(m if isinstance(m, list) else m.split(" ")) != last]
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "content": "<tool_call>", "id": number, "special": special})
    file.write_text(json.dumps(tokenizer))
    return number


class Server:
    """A server of the folder's model with a family's template in place of its own. `mark`: <tool_call> is one token, a special one or not."""

    def __init__(self, folder, family, mark=None):
        model = folder.path / f"models-{next(live.COUNTER)}" / family
        shutil.copytree(folder.model, model)
        (model / "chat_template.jinja").write_text(template_of(family))
        self.mark = add_mark(model, special=mark == "special") if mark else None
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
    """(text, [(name, arguments)], finish_reason) of a stream, put together as clients do it. Arguments as a call has them whole."""
    text, calls, reason = "", {}, None
    for chunk in chunks:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                name, arguments = calls.get(call.index, ("", ""))
                calls[call.index] = (name + (call.function.name or ""), arguments + (call.function.arguments or ""))
    def whole(arguments):
        return json.dumps(json.loads(arguments), separators=(",", ":"), ensure_ascii=False)
    return text, [(calls[i][0], whole(calls[i][1])) for i in sorted(calls)], reason


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

    def test_arguments_come_as_they_are_generated(self):
        with Server(self.folder, "qwen25") as server:
            stream = server.chat(tool_choice="required", parallel_tool_calls=False, stream=True)
            parts = [part for chunk in stream for choice in chunk.choices for part in choice.delta.tool_calls or []]
            self.assertTrue(parts[0].id and parts[0].function.name)
            self.assertEqual(parts[0].function.arguments, "")
            self.assertEqual({part.index for part in parts}, {0})
            self.assertTrue(all(part.id is None and part.function.name is None and part.function.arguments for part in parts[1:]))
            self.assertGreater(len(parts), 3)
            self.check_arguments(parts[0].function.name, "".join(part.function.arguments for part in parts))
            with server.claude.messages.stream(model="", max_tokens=600, messages=QUESTION, tools=CLAUDES,
                                               tool_choice={"type": "any", "disable_parallel_tool_use": True}) as stream:
                pieces = [event.partial_json for event in stream if event.type == "input_json"]
                [block] = stream.get_final_message().content
            self.assertGreater(len(pieces), 2)
            self.assertEqual(json.loads("".join(pieces)), block.input)
            self.check_arguments(block.name, block.input)

    def test_a_stream_that_is_cut_short_in_a_call_has_what_there_is(self):
        with Server(self.folder, "qwen25") as server:
            fields = dict(model="", messages=QUESTION, max_tokens=150)
            essay = {"type": "object", "properties": {"text": {"type": "string", "minLength": 300}}, "required": ["text"]}
            stream = server.openai.chat.completions.create(
                tools=[{"type": "function", "function": {"name": "write", "parameters": essay}}], tool_choice="required", stream=True,
                **fields)
            chunks = [choice for chunk in stream for choice in chunk.choices]
            self.assertEqual(chunks[-1].finish_reason, "length")
            self.assertTrue(any(choice.delta.tool_calls for choice in chunks))
            with server.claude.messages.stream(tools=[{"name": "write", "input_schema": essay}], tool_choice={"type": "any"}, **fields) as stream:
                events = [event.type for event in stream]
            self.assertIn("input_json", events)
            self.assertEqual(events.count("content_block_start"), events.count("content_block_stop"))

    def test_a_call_of_a_strict_tool_is_valid_where_the_model_may_call(self):
        with Server(self.folder, "qwen25", mark="plain") as server:
            for seed in range(5):
                one = dict(tools=TOOLS, parallel_tool_calls=False, seed=seed, logit_bias={server.mark: 100})  # it calls at once
                _, calls, _ = calls_of(server.chat(**one))
                self.assertEqual(len(calls), 1)
                self.check_arguments(*calls[0])
                self.assertEqual(calls_of_stream(server.chat(stream=True, **one))[1], calls)
            # Of two tools a strict one is held to its schema, and a model calls as often as it likes.
            mixed = [TOOLS[1], LOOSE[0]]
            text, calls, reason = calls_of(server.chat(tools=mixed, logit_bias={server.mark: 100}, max_tokens=1300))
            self.assertGreater(len(calls), 1)
            for name, arguments in calls:
                if name == "get_time":
                    self.check_arguments(name, arguments)
            # Without a call the text is as free as ever.
            _, calls, reason = calls_of(server.chat(tools=TOOLS, logit_bias={server.mark: -100}, max_tokens=50))
            self.assertEqual((calls, reason), ([], "length"))

    def test_strict_is_refused_where_it_cannot_be_kept(self):
        for family, mark, expected in (("mistral", None, 'writes calls as mistral'), ("llama31", None, 'writes calls as llama3_json'),
                                       ("qwen25", "special", "special token")):
            with self.subTest(family), Server(self.folder, family, mark) as server:
                with self.assertRaises((openai.BadRequestError, openai.InternalServerError)) as caught:
                    server.chat(tools=TOOLS)
                self.assertIn(expected, str(caught.exception))
                self.assertEqual(calls_of(server.chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False))[2], "tool_calls")

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
