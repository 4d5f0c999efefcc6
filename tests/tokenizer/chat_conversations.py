"""Conversations that chat templates are tried with: as `pregate tokenize --chat` and apply_chat_template take them."""

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": " Weather of a \"city\", <b>now</b> ", "parameters": {
        "type": "object", "properties": {
            "zone": {"type": "string", "description": "where"}, "days": {"type": "integer", "enum": [1, 2]},
            "Options": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
            "names": {"type": "array", "items": {"type": "string"}, "min-items": 1}},
        "required": ["zone"]}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "Adds", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number", "default": 1.5}}},
    "return": {"type": "number"}}}


def user(content):
    return {"role": "user", "content": content}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def tool(content, call="call12345"):
    return {"role": "tool", "content": content, "tool_call_id": call, "name": "get_weather"}


def call(name="get_weather", arguments=None, id="call12345"):
    arguments = {"zone": "Zürich", "days": 2} if arguments is None else arguments
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = [
    {"messages": [user("hi")]},
    {"messages": [system("Be brief."), user("hi")]},
    {"messages": [user("hi"), assistant("Hello!"), user("How are you?")]},
    {"messages": [system(" both \n"), user("  leading and trailing  \n"), assistant("\n\nan swer\n "), user("\n")]},
    {"messages": [user("hi"), assistant("there")], "add_generation_prompt": False},
    {"messages": [user("")]},
    {"messages": [system(""), user(" ")]},
    {"messages": [user("Grüße 😀 中文 <b>&\"'\\ \u00a0\u2028 e\u0301 \t x")]},
    {"messages": [user("\nhello"), assistant("world\n"), user("\n\n!")]},
    {"messages": [user("12345 don't"), assistant("I'll  see  "), user("   ")]},
    {"messages": [user("w?")], "tools": [WEATHER]},
    {"messages": [system("s"), user("w?")], "tools": [WEATHER, ADD]},
    {"messages": [user("w?"), assistant("", tool_calls=[call()]), tool("{\"t\": 3}")], "tools": [WEATHER]},
    {"messages": [user("w?"), assistant(None, tool_calls=[call()]), tool("3"), assistant("3 degrees"), user("and?")],
     "tools": [WEATHER, ADD]},
    {"messages": [user("w?"), assistant("", tool_calls=[call(), call("add", {"a": 1, "b": [2.0, None, True]}, "call67890")]),
                  tool("3"), tool("4", "call67890")], "tools": [WEATHER, ADD]},
    {"messages": [user("w?"), assistant("", tool_calls=[call(arguments="{\"zone\": \"Bern\"}")]), tool("1")],
     "tools": [WEATHER]},
    {"messages": [user("q"), assistant("<think>\nhmm\n</think>\n\nyes"), user("r")]},
    {"messages": [user("q"), assistant("yes", reasoning_content="\nbecause\n"), user("r")]},
    {"messages": [user("q"), assistant("yes", reasoning_content="b"), user("r"), assistant("no", reasoning_content="c")],
     "add_generation_prompt": False, "enable_thinking": True},
    {"messages": [user("q"), assistant("y", reasoning="an older name")], "add_generation_prompt": False},
    {"messages": [user("q")], "enable_thinking": False},
    {"messages": [system("/no_think Be kind."), user("q")]},
    {"messages": [system("You are X."), user("a"), assistant("b"), user("c"), assistant("d"), user("e")]},
    {"messages": [user("a"), user("b")]},
    {"messages": [user("d")], "documents": [{"title": "T", "text": "one <x>"}, {"title": "U", "text": "two"}]},
    {"messages": [user("x")], "date_string": "01 Jan 2025", "builtin_tools": ["search", "code_interpreter"],
     "controls": {"length": "long"}},
    {"messages": [{"role": "narrator", "content": "once"}]},
]
