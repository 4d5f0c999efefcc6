"""Random templates of the subset of Jinja that chat templates use."""

VARIABLES = {"s": " Ab c\n", "t": "a-b,a", "u": "éÉ中😀 ß", "e": "", "n": 3, "m": -7, "f": 2.5, "b": True, "z": None,
             "l": [3, 1, 2], "w": ["b", "A", "a", ""], "d": {"k": 1, "items": [1], "K2": "v"}, "o": {},
             "r": [{"role": "user", "n": 2}, {"role": "tool", "n": 1, "x": {"y": 5}}, {"role": "user"}]}

STRINGS = ["''", "'a'", "' '", "'A b'", "'x\\ny'", "\"q'q\"", "'é'", "','", "'-'", "'12'", "'2.5'", "'role'", "'k'"]
NAMES = [*VARIABLES, "nothing"]
STRING_METHODS = ["strip()", "lstrip()", "rstrip('\\n')", "strip('a ')", "split()", "split(',')", "split('a', 1)", "rsplit('-', 1)",
                  "upper()", "lower()", "title()", "capitalize()", "replace('a', 'zz')", "replace('', '.')", "find('b')", "rfind('a')",
                  "startswith('a')", "endswith((',', 'a'))", "join(w)", "splitlines()", "count('a')", "isdigit()", "isspace()",
                  "partition('-')", "rpartition('b')", "removeprefix('a')", "isupper()", "islower()", "isalpha()", "format(1, n=2)"]
FILTERS = ["trim", "trim('a ')", "upper", "lower", "title", "capitalize", "length", "count", "replace('a', 'b')", "replace('a', 'b', 1)",
           "join", "join('-')", "join(', ', attribute='n')", "default('D')", "default('D', true)", "d(1)", "list", "first", "last",
           "list | first", "items | list", "dictsort", "dictsort(by='value')", "dictsort(reverse=true)", "map('upper') | list",
           "map(attribute='role') | list", "map(attribute='x.y') | list", "map(attribute='n', default=0) | list", "select | list",
           "reject | list", "select('string') | list", "reject('odd') | list", "select('equalto', 1) | list",
           "selectattr('n') | list", "selectattr('role', 'equalto', 'user') | list", "rejectattr('n', 'defined') | list",
           "selectattr('role', 'in', ['tool']) | map(attribute='n') | list", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)",
           "tojson(separators=(',', ':'))", "tojson(indent=1, sort_keys=true)", "string", "int", "int(7)", "float", "float(1.5)", "round",
           "round(1)", "round(method='floor')", "round(1, 'ceil')", "abs", "indent", "indent(2, true)", "indent(1, blank=true)", "sort",
           "sort(reverse=true)", "sort(attribute='n')", "sort(case_sensitive=true)", "unique | list", "reverse | list", "sum",
           "sum(attribute='n')", "min", "max", "reject('none') | list"]
TESTS = ["defined", "undefined", "none", "not none", "string", "mapping", "sequence", "iterable", "number", "integer", "float",
         "boolean", "true", "false", "not defined", "odd", "even", "divisibleby 3", "divisibleby(2)", "equalto 1", "equalto('a')",
         "in [1, 'a', none]", "filter", "test", "in w", "not in l", "eq 3", "ne 3", "gt 1", "lt 2", "ge 3", "upper", "lower",
         "sameas none", "callable"]


class Generator:
    """Not every template is one that jinja2 can run."""

    def __init__(self, rng):
        self.rng = rng
        self.names = list(NAMES)

    def pick(self, *choices):
        return self.rng.choice(choices)()

    def name(self):
        return self.rng.choice(self.names)

    def string(self):
        return self.rng.choice(STRINGS + ["s", "t", "u", "e"])

    def number(self):
        return self.rng.choice(["0", "1", "2", "3", "-1", "10", "1.5", "0.1", "1e3", "n", "m", "f", "b", "true", "l | length"])

    def sequence(self):
        return self.rng.choice(["l", "w", "r", "d", "[]", "[1, 'a', none]", "(1, 2)", "range(3)", "range(1, 6, 2)", "d.items()",
                                "d.keys()", "t", "[[1], [2, 3]]", "w | map('trim')", "{'q': 1, 'p': [s]}", "nothing", "u"])

    def expression(self, depth):
        if depth <= 0:
            return self.pick(self.name, self.string, self.number, self.sequence)
        e = lambda: self.expression(depth - self.rng.randint(1, 3))
        forms = [
            lambda: f"({e()})", lambda: f"{self.string()}.{self.rng.choice(STRING_METHODS)}",
            lambda: f"{e()} | {self.rng.choice(FILTERS)}", lambda: f"{self.sequence()} | {self.rng.choice(FILTERS)}",
            lambda: f"{self.string()} | {self.rng.choice(FILTERS)}", lambda: f"{self.number()} | {self.rng.choice(FILTERS)}",
            lambda: f"'{self.rng.choice(['upper', 'odd', 'fromjson'])}' is {self.rng.choice(['filter', 'test'])}",
            lambda: f"({e()} | fromjson if {self.name()} else {e()})",
            lambda: f"({e()}) is {self.rng.choice(TESTS)}", lambda: f"{self.name()} is {self.rng.choice(TESTS)}",
            lambda: f"{e()} {self.rng.choice(['+', '-', '*', '/', '//', '%', '~', '~', '+'])} {e()}",
            lambda: f"{self.number()} {self.rng.choice(['+', '-', '*', '/', '//', '%', '**'])} {self.number()}",
            lambda: f"{self.string()} {self.rng.choice(['+', '~'])} {self.string()}",
            lambda: f"{e()} {self.rng.choice(['==', '!=', '<', '<=', '>', '>=', 'in', 'not in'])} {e()}",
            lambda: f"{self.number()} < {self.number()} <= {self.number()}", lambda: f"{e()} and {e()}", lambda: f"{e()} or {e()}",
            lambda: f"not {e()}", lambda: f"{e()} if {e()} else {e()}", lambda: f"({e()} if {e()})",
            lambda: f"{self.sequence()}[{self.number()}]", lambda: f"{self.string()}[{self.slice()}]",
            lambda: f"{self.sequence()}[{self.slice()}]", lambda: f"d[{self.string()}]", lambda: f"d.get({e()}, {e()})",
            lambda: f"r[{self.rng.randint(-3, 3)}].{self.rng.choice(['role', 'n', 'x', 'x.y', 'get(s)'])}",
            lambda: f"d.{self.rng.choice(['k', 'K2', 'items', 'nope', 'keys() | list', 'values() | list', 'copy()', 'pop'])}",
            lambda: f"[{e()}, {e()}]", lambda: f"{{'a': {e()}, {self.string()}: {e()}}}", lambda: f"({e()}, {e()})",
            lambda: f"'%s|%r' % ({e()}, {self.string()})", lambda: f"'{{}}:{{}}'.format({e()}, {e()})",
            lambda: f"dict(a={e()}, b=1)", lambda: f"namespace(a={e()}).a", lambda: f"-{self.number()}",
        ]
        return self.pick(*forms)

    def slice(self):
        place = lambda: self.rng.choice(["", "", "0", "1", "-1", "2", "-5", "9"])
        return f"{place()}:{place()}" + self.rng.choice(["", "", f":{self.rng.choice(['', '-1', '2', '-2', '1'])}"])

    def space(self):
        return self.rng.choice(["", "", " ", "\n", "  \n ", "\t", "a ", " b\n"])

    def tag(self, text):
        return "{%" + self.rng.choice(["", "", "-", "+"]) + f" {text} " + self.rng.choice(["", "", "-", "+"]) + "%}" + self.space()

    def output(self, depth):
        return "{{" + self.rng.choice(["", "", "-"]) + f" {self.expression(depth)} " + self.rng.choice(["", "", "-"]) + "}}"

    def statement(self, depth):
        body = lambda: self.body(depth - 1)
        kind = self.rng.randrange(9) if depth > 0 else 0
        if kind <= 2:
            return self.output(self.rng.randint(0, 4))
        if kind == 3:
            return (self.tag(f"if {self.expression(2)}") + body() + self.tag(f"elif {self.expression(1)}") + body() + self.tag("else") +
                    body() + self.tag("endif"))
        if kind == 4:
            name = self.rng.choice(["i", "l", "q"])
            self.names += [name, "loop.index", "loop.last", "loop.revindex0", "loop.previtem", "loop.length"]
            condition = f" if {name} is {self.rng.choice(TESTS)}" if self.rng.random() < 0.3 else ""
            jump = self.rng.choice(["", "", self.tag("if loop.index > 1") + self.tag("break") + self.tag("endif"),
                                    self.tag("if loop.first") + self.tag("continue") + self.tag("endif")])
            return (self.tag(f"for {name} in {self.sequence()}{condition}") + jump + body() + self.rng.choice(
                ["", self.tag("else") + self.space()]) + self.tag("endfor"))
        if kind == 5:
            name = self.rng.choice(["v", "q"])  # a macro does not see variables of the caller that are set below it
            self.names.append(name)
            return self.tag(f"set {name} = {self.expression(2)}")
        if kind == 6:
            self.names += ["v", "y"]
            return self.rng.choice([self.tag("set v") + body() + self.tag("endset"),
                                    self.tag("set v | trim | upper") + body() + self.tag("endset"), self.tag("set v, y = 1, t")])
        if kind == 7:
            return (self.tag("set ns = namespace(c=0)") + self.tag(f"for j in {self.sequence()}") + self.tag("set ns.c = ns.c + 1") +
                    self.tag("endfor") + "{{ ns.c }}")
        return (self.tag(f"macro mm(a, p={self.expression(1)})") + body() + "{{ a ~ p }}" + self.tag("endmacro") +
                f"{{{{ mm({self.expression(1)}) ~ mm(p={self.expression(1)}, a=1) }}}}")

    def body(self, depth):
        return "".join(self.space() + self.statement(depth) for _ in range(self.rng.randint(0, 2))) + self.space()

    def template(self):
        if self.rng.random() < 0.6:
            return "{{ " + self.expression(self.rng.randint(1, 5)) + " }}"
        return self.body(2) + self.statement(2) + self.rng.choice(["", "\n", "\n\n", "{# c #}\n", "{#- c -#} x"])
