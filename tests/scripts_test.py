"""Shell scripts: they parse, pass shellcheck, and what a test lacks is a skip with its reason. usage: scripts_test.py SOURCE_DIR"""
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
WITH = ROOT / "tests/with.sh"
SCRIPTS = sorted(p for folder in ("scripts", "deploy", "tests") for p in (ROOT / folder).rglob("*.sh"))


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)


class ScriptsTest(unittest.TestCase):
    def test_they_parse_and_lint(self):
        self.assertGreater(len(SCRIPTS), 8)
        for script in [*SCRIPTS, ROOT / ".ci/run"]:
            self.assertEqual(run("bash", "-n", script).returncode, 0, script)
            if shutil.which("shellcheck"):
                done = run("shellcheck", script)
                self.assertEqual(done.returncode, 0, done.stdout)

    def test_they_are_programs(self):
        for script in SCRIPTS:
            self.assertTrue(script.stat().st_mode & 0o111, script)

    def test_what_is_not_there_skips_and_is_named(self):
        done = run(WITH, "bash", "no-such-program", "--", "false")
        self.assertEqual((done.returncode, done.stdout), (77, "skipped: no program no-such-program (scripts/test.sh installs it)\n"))
        done = run(WITH, "tools:no-such-group", "--", "false")
        self.assertEqual(done.returncode, 77)
        self.assertIn("no-such-group", done.stdout)

    def test_what_is_there_runs_with_its_own_exit_code(self):
        for code in (0, 1, 77):
            self.assertEqual(run(WITH, "bash", "--", "bash", "-c", f"exit {code}").returncode, code)
        self.assertEqual(run(WITH, "--", "true").returncode, 0)

    def test_groups_that_a_suite_needs_exist(self):
        groups = set(re.findall(r"^  \[([a-z-]+)\]=", (ROOT / "scripts/deps.sh").read_text(), re.M))
        needs = re.search(r"declare -A needs=\((.*?)\)", (ROOT / "scripts/test.sh").read_text(), re.S)[1]
        for label, named in re.findall(r'\[(\w+)\]=(\w+|"[^"]*")', needs):
            self.assertLessEqual(set(named.strip('"').split()), groups, label)

    def test_wrong_usage_says_so(self):
        for script in ("test.sh", "quickstart.sh"):
            done = run(ROOT / "scripts" / script, "--frob")
            self.assertEqual(done.returncode, 2)
            self.assertIn("usage: ", done.stderr)
        self.assertEqual(run(ROOT / "scripts/deps.sh", "frob").returncode, 2)


if __name__ == "__main__":
    unittest.main()
