"""A C++ project of somebody else against an installed pregate: find_package, build, generate.

usage: installed_test.py BIN_DIR BUILD_DIR GENERATOR [CCACHE]
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import live

BUILD, GENERATOR, *CCACHE = sys.argv[1:]
del sys.argv[1:]
VERSION = re.search(r"project\(pregate VERSION ([\d.]+)", (live.ROOT / "CMakeLists.txt").read_text())[1]


def run(*command, code=0):
    env = {name: value for name, value in os.environ.items() if name != "DESTDIR"}
    done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    assert (done.returncode == 0) == (code == 0), f"{command}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


class InstalledTest(live.Served, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="pregate-installed-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        run("cmake", "--install", BUILD, "--prefix", cls.work / "opt")

    def configure(self, source, *flags, code=0):
        """Where the project was configured, and what CMake said."""
        build = self.work / f"build-{len(list(self.work.iterdir()))}"
        launcher = [f"-DCMAKE_CXX_COMPILER_LAUNCHER={c}" for c in CCACHE]
        return build, run("cmake", "-G", GENERATOR, "-S", source, "-B", build, *launcher, *flags, code=code)

    def test_the_example_builds_and_generates(self):
        build, said = self.configure(live.ROOT / "examples/cpp", f"-DCMAKE_PREFIX_PATH={self.work / 'opt'}")
        self.assertIn(f"pregate {VERSION}: {self.work / 'opt'}", said)
        run("cmake", "--build", build)
        self.assertFalse(list(build.rglob("inference.pb.cc")), "the installed code was not used")
        done = subprocess.run([build / "generate", self.server.address,
                               '{"text": "Once upon a time", "maxTokens": 20, "ignoreEos": true}'],
                              capture_output=True, text=True, timeout=live.TIMEOUT_S)
        self.assertEqual((done.returncode, done.stdout), (0, self.folder.generate("Once upon a time", 20)["text"]), done.stderr)

    def test_versions_and_what_is_exported(self):
        project = self.work / "project"
        project.mkdir()
        for version, code in ((VERSION, 0), ("99", 1)):
            (project / "CMakeLists.txt").write_text(
                "cmake_minimum_required(VERSION 3.20)\nproject(other LANGUAGES CXX)\n"
                f"find_package(pregate {version} CONFIG REQUIRED)\n"
                "if(TARGET pregate::proto)\n  message(FATAL_ERROR \"the programs' own messages are nobody's API\")\nendif()\n"
                "get_target_property(place pregate::client INTERFACE_INCLUDE_DIRECTORIES)\nmessage(STATUS \"place: ${place}\")\n")
            _, said = self.configure(project, f"-DCMAKE_PREFIX_PATH={self.work / 'opt'}", code=code)
            if code == 0:
                self.assertIn(f"place: {self.work / 'opt/include'}", said)
        headers = sorted(p.relative_to(self.work / "opt/include").as_posix() for p in (self.work / "opt/include").rglob("*.h"))
        self.assertEqual(headers, ["pregate/v1/inference.grpc.pb.h", "pregate/v1/inference.pb.h"])


if __name__ == "__main__":
    unittest.main()
