"""The layering of the code, held by a test: who may include whom, and that CMake targets mirror folders.

Exit status 1 names every offending line. Usage: layering_test.py SOURCE_DIR
"""
import pathlib
import re
import sys

# A folder may include itself, folders below it, and the folders (or prefixes) named here.
BASE = ["common/base"]
SPEC = BASE + ["common/model/spec"]
TOKENIZER = BASE + ["common/model/tokenizer"]
GRAMMAR = ["common/grammar"]
FORMATS = BASE + ["common/model"]
STEP = BASE + ["common/step"]
DEVICE = SPEC + STEP + ["common/device"]
ROUTER = DEVICE + ["common/model", "common/router"]
COLLECTIVE = ["common/collective"]
TELEMETRY = ["common/config", "common/telemetry"]
EDGE = TELEMETRY + ["common/tls", "common/http", "common/rpc", "proto"]
ALLOWED = {
    "common/base": [],
    "common/step": BASE,
    "common/model/spec": BASE,
    "common/model/tokenizer": BASE,
    "common/model/formats": FORMATS,
    "common/model/tasks": TOKENIZER,
    "common/grammar": TOKENIZER,
    "common/device": DEVICE,
    "common/router": ROUTER,
    "common/collective": BASE + ["common/device"],
    "common/config": BASE,
    "common/telemetry": BASE + ["common/config"],
    "common/tls": BASE + TELEMETRY,
    "common/http": BASE + TELEMETRY + ["common/tls"],
    "common/rpc": STEP + EDGE,
    "router_service/core": STEP,
    "router_service/engine": ROUTER + TELEMETRY + ["router_service/core"],
    "router_service/edge": ROUTER + EDGE + ["router_service"],
    "expert_service/core": STEP,
    "expert_service/engine": ROUTER + COLLECTIVE + TELEMETRY + ["expert_service/core"],
    "expert_service/testing": ROUTER + COLLECTIVE + ["expert_service/core", "expert_service/engine"],
    "expert_service/edge": ROUTER + COLLECTIVE + EDGE + ["expert_service"],
    "scheduler_service/core": STEP,
    "scheduler_service/engine": STEP + TOKENIZER + GRAMMAR + TELEMETRY + ["scheduler_service/core"],
    "scheduler_service/edge": STEP + FORMATS + GRAMMAR + EDGE + ["scheduler_service"],
    "gateway_service/core": STEP,
    "gateway_service/edge": STEP + EDGE + ["gateway_service"],
    "sim": STEP + TOKENIZER + TELEMETRY + ["expert_service/core", "scheduler_service/core",
                                       "scheduler_service/engine"],
    "refactor": FORMATS + ["common/step", "common/device", "common/config", "expert_service/engine"],
    "cli/model": FORMATS,
    "cli/offline": ROUTER + ["common/config", "expert_service/core", "expert_service/engine",
                             "router_service/engine"],
    "cli": ["common", "proto", "router_service", "expert_service", "scheduler_service", "gateway_service",
            "sim", "refactor"],
}
TEST_EXTRA = ["common", "router_service", "expert_service", "scheduler_service", "gateway_service", "sim",
              "cli/model", "cli/offline", "proto"]
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
PROTOBUF = re.compile(r"^(grpcpp|grpc|google/protobuf)/|\.pb\.h$")
PROTOBUF_MAY = re.compile(r"(^|/)(edge|rpc|tls/grpc|cli|tests|bench)/|(^|/)main\.cc$")
CORE_MUST_NOT = re.compile(
    r"^(grpc|google/protobuf|cuda|cublas|nccl|torch|prometheus|spdlog)"
    r"|^(thread|mutex|condition_variable|chrono|iostream|fstream|filesystem|random)$|\.pb\.h$"
    r"|^common/base/(clock|mailbox|files|mapped_file|json)\.h$|^absl/synchronization/|^absl/time/clock\.h$")


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
                             "gateway_service", "sim", "refactor", "cli", "tests", "bench")
               for p in (root / top).rglob("*") if p.suffix in (".h", ".cc", ".cu", ".cuh")]
    problems = [x for p in sorted(sources) for x in check_file(root, p)] + list(check_targets(root))
    for problem in problems:
        print(problem)
    print(f"{len(sources)} files, {len(problems)} problems")
    return 1 if problems or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
