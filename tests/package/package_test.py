"""`cmake --install` and the Debian package of a build. usage: package_test.py SOURCE_DIR BUILD_DIR"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE, BUILD = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
del sys.argv[1:3]
PROGRAMS = {"pregate", "pregate-gateway", "pregate-router", "pregate-scheduler", "pregate-worker"}
VERSION = re.search(r"project\(pregate VERSION ([\d.]+)", (SOURCE / "CMakeLists.txt").read_text())[1]
CUDA = "PREGATE_CUDA:BOOL=ON" in (BUILD / "CMakeCache.txt").read_text()
# One of each kind that must be there, from the prefix on.
FILES = ("share/doc/pregate/LICENSE", "share/doc/pregate/README.md", "share/doc/pregate/docs/DEPLOY.md",
         "share/doc/pregate/examples/python/generate.py", "share/pregate/proto/pregate/v1/inference.proto",
         "share/pregate/prometheus/rules/alerts.yml", "share/pregate/grafana/overview.json",
         "share/pregate/models/smollm2-135m-moe5/artifact.safetensors",
         "share/bash-completion/completions/pregate", "include/pregate/v1/inference.grpc.pb.h")


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


class PackageTest(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="pregate-package-")
        self.addCleanup(temp.cleanup)
        self.work = pathlib.Path(temp.name)

    def check_tree(self, prefix):
        """Programs that name their version and need no build folder; each kind of file; nothing of the tests."""
        self.assertLessEqual({p.name for p in (prefix / "bin").iterdir()}, PROGRAMS | {"pregate-refactor"})
        for program in PROGRAMS:
            self.assertIn(VERSION, run(prefix / "bin" / program, "--version"))
            self.assertNotIn(str(BUILD), run("readelf", "--dynamic", prefix / "bin" / program))
        for file in FILES:
            self.assertGreater((prefix / file).stat().st_size, 0)
        for file in ("libpregate_client.a", "cmake/pregate/pregateConfig.cmake"):
            self.assertEqual(len(list(prefix.glob(f"lib*/**/{file}"))), 1, file)
        names = [str(p.relative_to(prefix)) for p in prefix.rglob("*")]
        self.assertFalse([n for n in names if "baseline" in n or "_test" in n or "__pycache__" in n])

    def test_install(self):
        run("cmake", "--install", BUILD, "--prefix", self.work / "opt")
        self.check_tree(self.work / "opt")
        for file in ("LICENSE", "README.md"):
            self.assertEqual((SOURCE / file).read_bytes(), (self.work / "opt/share/doc/pregate" / file).read_bytes())

    @unittest.skipIf(CUDA, "the CUDA libraries belong to no Debian package")
    def test_debian_package(self):
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-G", "DEB", "-B", self.work / "deb")
        package, = (self.work / "deb").glob("*.deb")
        architecture = run("dpkg", "--print-architecture").strip()
        self.assertEqual(package.name, f"pregate_{VERSION}_{architecture}.deb")
        depends = run("dpkg-deb", "--field", package, "Depends")
        for library in ("libc6 (>= ", "libgrpc++1.51", "libssl3 (>= ", "libprotobuf32"):
            self.assertIn(library, depends)
        run("dpkg-deb", "--extract", package, self.work / "tree")
        self.check_tree(self.work / "tree/usr")
        if os.geteuid() != 0:
            self.skipTest("not root: the package is not installed into a root of its own")

        root = self.work / "root"
        enter = [SOURCE / "scripts/fresh_root.sh", "enter", root]
        run(SOURCE / "scripts/fresh_root.sh", "make", root)
        (root / "root" / package.name).write_bytes(package.read_bytes())
        run(*enter, "apt-get", "update", "-qq")
        run(*enter, "apt-get", "install", "-y", "-qq", "--no-install-recommends", f"/root/{package.name}")
        for program in PROGRAMS:
            self.assertIn(VERSION, run(*enter, program, "--version"))
        run(*enter, "pregate", "synth", "--shape", "tiny", "--experts", 3, "--out", "/root/tiny")
        answer = run(*enter, "pregate", "generate", "--model", "/root/tiny", "--prompt", "Once", "--max-tokens", 4, "--ignore-eos")
        self.assertIn("answer 4 tokens", answer)
        run(*enter, "dpkg", "--verify", "pregate")
        run(*enter, "apt-get", "purge", "-y", "-qq", "pregate")
        self.assertFalse((root / "usr/bin/pregate").exists())


if __name__ == "__main__":
    unittest.main()
