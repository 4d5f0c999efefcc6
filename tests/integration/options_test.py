"""A value arrives as it was written: by flag, environment and file, in every program; and what is misspelt is named.

usage: options_test.py BIN_DIR
"""
import json
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import unittest

from programs import BIN, COMMANDS, ENVIRONMENT, PROGRAMS, SERVICES, pregate, run

STRINGS = ["model", "model-name", "listen", "metrics-listen", "port-file", "tls-dir", "tls-trust-domain"]  # of serve
AWKWARD = ["", " ", "a b", "-x", "--", "a,b", "[1]", "{x}", "#no comment", '"quoted"', "'", "\\n", "back\\", "=", "a=b",
           "tcp://10.0.0.1:7600", "\t", "1e3", "true", "ünï", "汉字", "🙂", "%%", "$HOME", "`x`", "a\nb", "\x1b[1m", "\x7f"]


def toml(text):
    """A basic string of TOML. JSON's escapes are all TOML's, but for surrogates and DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def variable(option):
    return "PREGATE_" + option.upper().replace("-", "_")


def required_of(command):
    """Flags without which `command` is refused, with values that it takes."""
    flags = []
    for line in re.split(r"\n(?=  --)", run(command, "--help").stdout):
        if "(required)" in re.sub(r"\s+", " ", line):
            choices = re.search(r"\[([a-z0-9|-]+)\] \(required\)", re.sub(r"\s+", " ", line))
            flags.append(f"{line.split()[0]}={choices.group(1).split('|')[0] if choices else 'x'}")
    return flags


class OptionsTest(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.dir = pathlib.Path(temp.name)

    def config(self, *args, env=None, command="serve", **kwargs):
        done = run(command, *args, "--print-config", env=env, **kwargs)
        self.assertEqual(done.returncode, 0, done.stderr)
        return {name: entry.get("value") for name, entry in json.loads(done.stdout).items()}

    def refused(self, *args, command="generate", **kwargs):
        done = run(command, *args, **kwargs)
        self.assertEqual(done.returncode, 2, done.stdout)
        return done.stderr

    def test_any_string_arrives_by_every_way(self):
        seed = random.randrange(2**32)
        print("seed", seed)
        rng = random.Random(seed)

        def random_string():
            size = rng.choice([0, 1, 5, 40])
            points = [rng.choice([rng.randrange(1, 128), rng.randrange(128, 0xD800), rng.randrange(0x10000, 0x110000)])
                      for _ in range(size)]
            return "".join(map(chr, points))

        cases = AWKWARD + [random_string() for _ in range(84)]
        for at in range(0, len(cases) - len(STRINGS), len(STRINGS)):
            values = dict(zip(STRINGS, cases[at:]))
            expected = {**self.config("--model="), **values}
            joined = self.config(*(f"--{name}={value}" for name, value in values.items()))
            self.assertEqual(joined, expected)
            apart = self.config(*(word for name, value in values.items() for word in (f"--{name}", value)))
            self.assertEqual(apart, expected)
            file = self.dir / "config.toml"
            file.write_text("".join(f"{name} = {toml(value)}\n" for name, value in values.items()), encoding="utf-8")
            self.assertEqual(self.config("--config", file), expected)
            values = {name: value for name, value in values.items() if value}  # an empty variable is none
            environment = {variable(name): value for name, value in values.items()}
            self.assertEqual(self.config(*(() if "model" in values else ("--model=",)), env=environment),
                             {**self.config("--model="), **values})

    def test_one_environment_serves_all_programs(self):
        commands = [*PROGRAMS, *COMMANDS]
        flags = {command: required_of(command) for command in commands}
        values = {}  # of a variable: what is right for some program
        for command in commands:
            for name, value in self.config(*flags[command], command=command).items():
                if value:
                    values.setdefault(variable(name), []).append(value)
        values["PREGATE_WORKERS"] = ["127.0.0.1:7620,127.0.0.1:7630"]
        for i in range(max(map(len, values.values()))):
            environment = {name: right[i % len(right)] for name, right in values.items()}
            for command in commands:
                # Where to generate is the one thing that the environment may not say twice: see the alternatives below.
                given = {**environment, "PREGATE_SERVER": ""} if command == "generate" else environment
                with self.subTest(command, i=i):
                    self.config(*flags[command], command=command, env=given)

    def test_variables_of_kubernetes_and_of_nobody_are_not_looked_at(self):
        self.config("--model=m", env={"PREGATE_PORT": "tcp://10.0.0.1:7600", "PREGATE_SERVICE_HOST": "10.0.0.1",
                                      "PREGATE_PORT_7600_TCP_PORT": "7600", "PREGATE_NONSENSE": "x"})

    def test_a_file_is_toml_whatever_its_ends_and_may_be_a_pipe(self):
        text = 'model = "m"\n\nseq-slots = 7\n[x]\n'
        for written in (text[:-4], "\ufeff" + text[:-4], text[:-4].replace("\n", "\r\n"), text[:-5]):
            with self.subTest(written):
                self.assertEqual(self.config("--config", "/dev/stdin", input=written)["seq-slots"], "7")
        file = self.dir / "c.toml"
        for wrong, said in ((text, ":4: x is a section"), ("model = m\n", ":1: not TOML"),
                            ('model = "m"\nmodle = "n"\n', ":2: unknown key modle; did you mean model?"),
                            ('model = "m"\nseq-slots = "7"\n', ":2: seq-slots is a string, must be an integer"),
                            ('model = "m"\nseq-slots = 0\n', ":2: seq-slots: 0 is outside of 1")):
            file.write_text(wrong)
            self.assertIn(f"{file}{said}", self.refused("--config", file, command="serve"))
        self.assertIn(f"--config {self.dir}/none", self.refused("--config", self.dir / "none", command="serve"))

    def test_a_flag_wins_over_its_alternative(self):
        ask = ["--prompt", "a"]
        for environment, args, model, server in (
                ({"PREGATE_MODEL": "m"}, ["--server", "s"], "", "s"),
                ({"PREGATE_SERVER": "s"}, ["--model", "m"], "m", ""),
                ({"PREGATE_SERVER": "s", "PREGATE_TIMEOUT_S": "5", "PREGATE_THREADS": "1"}, [], "", "s")):
            config = self.config(*ask, *args, command="generate", env=environment)
            self.assertEqual((config["model"], config["server"]), (model, server))
        self.assertIn("PREGATE_MODEL and PREGATE_SERVER",
                      self.refused(*ask, env={"PREGATE_SERVER": "s", "PREGATE_MODEL": "m"}))
        self.assertIn("--timeout-s goes with --server", self.refused(*ask, "--model", "m", "--timeout-s", 1))
        config = self.config("--model", "m", "--kv-cache-bytes", "2GiB", command="pregate-worker",
                             env={"PREGATE_KV_BLOCKS": "7"})
        self.assertEqual((config["kv-cache-bytes"], config["kv-blocks"]), ("2GiB", "0"))
        config = self.config("--dense", "d", "--out", "o", "--corpus", "c", command="refactor", env={"PREGATE_APPLY": "a"})
        self.assertEqual((config["corpus"], config["apply"]), ("c", ""))
        self.assertIn("either --corpus or --apply", self.refused("--dense", "d", "--out", "o", command="refactor"))

    def test_what_is_misspelt_gets_a_suggestion(self):
        self.assertIn("did you mean generate?", pregate("genrate", code=2))
        self.assertIn("did you mean renew?", pregate("certs", "renwe", code=2))
        self.assertIn("did you mean certs?", pregate("cert", code=2))
        self.assertIn("--modle; did you mean --model?", self.refused("--modle", "m"))
        self.assertIn("--prompt=--json", self.refused("--prompt", "--json"))
        for service in SERVICES:
            self.assertIn("did you mean --listen?", self.refused("--lisen", "x", command=service))

    def test_help_and_version(self):
        for command in COMMANDS:
            self.assertEqual(pregate("help", *command.split()), run(command, "--help").stdout)
            self.assertIn("--print-config", run(command, "-h").stdout)
        self.assertEqual(pregate("help"), pregate("--help"))
        said = pregate("--version").split()
        self.assertRegex(said[1], r"^\d+\.\d+\.\d+$")
        for command in [*PROGRAMS, "serve"]:
            self.assertEqual(run(command, "--version").stdout.split()[-len(said) + 1:], said[1:])

    def test_limits_are_printed_with_the_options(self):
        limits = json.loads(run("serve", "--model=m", "--print-config").stdout)["limits"]
        self.assertEqual(limits["ConfigFileBytesMax"]["unit"], "bytes")
        done = run("pregate-gateway", "--print-config")
        self.assertEqual(json.loads(done.stdout)["limits"]["HttpConnectionsMax"]["value"], 8192)

    def bash_completes(self, *words):
        script = f"""
            source <("$1" completion bash); shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pregate "$1"; printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = subprocess.run(["bash", "-c", script, "_", BIN / "pregate", *words], capture_output=True, text=True,
                              env=ENVIRONMENT, check=True)
        return done.stdout.split()

    def test_bash_completes_commands_options_and_choices(self):
        program = str(BIN / "pregate")
        self.assertEqual(self.bash_completes(program, "gen"), ["generate"])
        self.assertEqual(self.bash_completes(program, "certs", "re"), ["renew"])
        self.assertIn("tokenize", self.bash_completes(program, "help", ""))
        self.assertEqual(self.bash_completes(program, "serve", "--kv-"), ["--kv-cache-bytes"])
        self.assertEqual(self.bash_completes(program, "eval", "ppl", "--dt"), ["--dtype"])
        self.assertEqual(self.bash_completes(program, "serve", "--dtype", "b"), ["bf16"])
        self.assertEqual(self.bash_completes(program, "serve", "--dtype", "=", "b"), ["bf16"])
        self.assertEqual(self.bash_completes(str(BIN / "pregate-worker"), "--collective-h"), ["--collective-host"])

    def test_other_shells_read_their_script(self):
        for shell, command in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])):
            script = pregate("completion", shell)
            if shutil.which(command[0]):
                file = self.dir / shell
                file.write_text(script)
                subprocess.run([*command, file], check=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
