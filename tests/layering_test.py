"""The layering of the code, held by a test: who may include whom, and that CMake targets mirror folders.

Exit status 1 names every offending line. Usage: layering_test.py SOURCE_DIR
"""
import pathlib
import re
import sys

# A folder may include itself and the folders (or prefixes) named here.
BASE = ["common/base"]
MODEL = BASE + ["common/step", "common/model"]
DEVICE = MODEL + ["common/device"]
COLLECTIVE = ["common/collective"]
HOST = ["common/config", "common/tls", "common/telemetry"]
ALLOWED = {
    "common/base": [],
    "common/step": BASE,
    "common/model": BASE + ["common/step"],
    "common/device": DEVICE,
    "common/collective": DEVICE,
    "common/config": BASE,
    "common/tls": BASE + ["common/config"],
    "common/telemetry": BASE + ["common/config", "common/tls"],
    "common/rpc": MODEL + HOST + ["proto"],
    "router_service/core": MODEL,
    "router_service/net": DEVICE,
    "router_service/engine": DEVICE + HOST + ["router_service/core", "router_service/net"],
    "router_service/testing": DEVICE + ["router_service/core", "router_service/net",
                                        "router_service/engine"],
    "router_service/edge": DEVICE + HOST + ["common/rpc", "proto", "router_service"],
    "expert_service/core": MODEL,
    "expert_service/engine": DEVICE + COLLECTIVE + HOST + ["expert_service/core", "router_service/net",
                                                           "router_service/engine"],
    "expert_service/testing": DEVICE + COLLECTIVE + ["expert_service/core", "expert_service/engine",
                                        "router_service/testing"],
    "expert_service/edge": DEVICE + COLLECTIVE + HOST + ["common/rpc", "proto", "expert_service"],
    "scheduler_service/core": MODEL,
    "scheduler_service/engine": MODEL + HOST + ["scheduler_service/core"],
    "scheduler_service/sim": MODEL + HOST + ["expert_service/core", "scheduler_service/core",
                                             "scheduler_service/engine"],
    "scheduler_service/testing": MODEL + ["scheduler_service/core", "scheduler_service/engine",
                                          "scheduler_service/sim"],
    "scheduler_service/edge": MODEL + HOST + ["common/rpc", "proto", "scheduler_service"],
    "refactor": DEVICE + ["common/config"],
    "cli": ["common", "proto", "router_service", "expert_service", "scheduler_service", "refactor"],
}
TEST_EXTRA = ["common", "router_service", "expert_service", "scheduler_service", "proto"]
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
PROTOBUF = re.compile(r"^(grpcpp|grpc|google/protobuf)/|\.pb\.h$")
PROTOBUF_MAY = re.compile(r"(^|/)(edge|rpc|cli|tests|bench)/|(^|/)main\.cc$")
CORE_MUST_NOT = re.compile(
    r"^(grpc|google/protobuf|cuda|cublas|nccl|torch|prometheus|spdlog)"
    r"|^(thread|mutex|condition_variable|chrono|iostream|fstream|filesystem|random)$|\.pb\.h$"
    r"|^common/base/(clock|mailbox)\.h$|^absl/synchronization/|^absl/time/clock\.h$")


def folder_of(path):
    """The longest key of ALLOWED that `path` lies in."""
    matches = [f for f in ALLOWED if path.startswith(f + "/")]
    return max(matches, key=len) if matches else None


def check_file(root, path):
    rel = path.relative_to(root).as_posix()
    folder = folder_of(rel)
    is_test = rel.endswith("_test.cc") or "/testing/" in rel or rel.startswith(("tests/", "bench/"))
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match.group(2)
        where = f"{rel}:{number}: includes {target}"
        if PROTOBUF.search(target) and not PROTOBUF_MAY.search(rel) and not is_test:
            yield f"{where}: protobuf and gRPC only at the edges"
        if "/core/" in rel and not is_test and CORE_MUST_NOT.search(target):
            yield f"{where}: core is pure"
        if target.startswith("torch/") and not rel.startswith("refactor/"):
            yield f"{where}: only refactor/ uses LibTorch"
        if match.group(1) == '"' and folder and "/" in target:
            may = ALLOWED[folder] + [folder] + (TEST_EXTRA if is_test else [])
            ours = target.split("/")[0] in {k.split("/")[0] for k in ALLOWED} | {"proto"}
            if ours and not any(target.startswith(m + "/") for m in may):
                yield f"{where}: {folder} may use only {', '.join(sorted(may))}"
        if rel.startswith("tests/") or folder:
            continue
        if not rel.startswith("bench/") and rel.count("/") and not rel.endswith("main.cc"):
            yield f"{rel}: lies in no folder of the layout"


def check_targets(root):
    """Every library is named after its folder."""
    for cmake in root.rglob("CMakeLists.txt"):
        rel = cmake.parent.relative_to(root).as_posix()
        if rel.startswith(("build", ".")) and rel != ".":
            continue
        for name in re.findall(r"pregate_library\((\w+)", cmake.read_text()):
            folder = rel.replace("/", "_")
            if name != folder and not name.startswith(folder + "_"):
                yield f"{rel}/CMakeLists.txt: library {name} is not named after its folder"


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    sources = [p for top in ("common", "router_service", "expert_service", "scheduler_service",
                             "refactor", "cli", "tests", "bench")
               for p in (root / top).rglob("*") if p.suffix in (".h", ".cc", ".cu", ".cuh")]
    problems = [x for p in sorted(sources) for x in check_file(root, p)] + list(check_targets(root))
    for problem in problems:
        print(problem)
    print(f"{len(sources)} files, {len(problems)} problems")
    return 1 if problems or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
