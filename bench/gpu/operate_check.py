"""A cell over mutual TLS whose worker computes on the card: it answers, its metrics come over HTTPS from the process that
holds cuBLAS, and what the CUDA image leaves out (NVRTC) is not loaded.

usage: operate_check.py BIN_DIR      prints one JSON object; exit code 1 when something does not hold
"""
import json
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request


def main():
    bin_dir, folder = pathlib.Path(sys.argv[1]), pathlib.Path(tempfile.mkdtemp())
    processes = {}

    def pregate(*args):
        return subprocess.run([bin_dir / "pregate", *args], check=True, capture_output=True, text=True).stdout

    def start(role, *args):
        ports = folder / f"{role}.json"
        processes[role] = subprocess.Popen(
            [bin_dir / f"pregate-{role}", "--model", folder / "model", "--listen", "127.0.0.1:0", "--metrics-listen",
             "127.0.0.1:0", "--tls-dir", folder / "certs" / role, "--port-file", ports, *args],
            stderr=open(folder / f"{role}.log", "w"))
        for _ in range(600):
            if ports.exists():
                return json.loads(ports.read_text())
            assert processes[role].poll() is None, (folder / f"{role}.log").read_text()
            time.sleep(0.1)
        raise TimeoutError(role)

    try:
        pregate("certs", "init", "--dir", folder / "certs")
        pregate("synth", "--shape", "smollm2-135m", "--experts", "5", "--out", folder / "model")
        tokenizer = folder / "tiny"
        pregate("synth", "--shape", "tiny", "--out", tokenizer)
        for file in tokenizer.glob("tokenizer*"):
            file.rename(folder / "model" / file.name)
        router = start("router")
        worker = start("worker", "--device", "cuda", "--dtype", "bf16", "--expert-slots", "3", "--exchange-alone", "on")
        scheduler = start("scheduler", "--router", router["listen"], "--workers", worker["listen"])
        answer = json.loads(pregate("generate", "--server", scheduler["listen"], "--tls-dir", folder / "certs/client", "--json",
                                    "--wait-s", "60", "--prompt", "Once upon a time", "--max-tokens", "64", "--ignore-eos"))
        trust = ssl.create_default_context(cafile=folder / "certs/monitor/ca.crt")
        trust.load_cert_chain(folder / "certs/monitor/tls.crt", folder / "certs/monitor/tls.key")
        metrics = urllib.request.urlopen(f"https://{worker['metrics']}/metrics", context=trust).read().decode()
        maps = pathlib.Path(f"/proc/{processes['worker'].pid}/maps").read_text()
        result = {
            "tokens": len(answer["ids"]),
            "tokens_per_s": answer["tokens_per_s"],
            "series": {line.split(" ")[0]: float(line.split(" ")[1]) for line in metrics.splitlines()
                       if line.startswith(("pregate_expert_", "pregate_exchange_bytes", "pregate_worker_step_seconds_count"))},
            "cublas_loaded": "libcublasLt" in maps,
            "nvrtc_loaded": "libnvrtc" in maps,
        }
    finally:
        for process in processes.values():
            process.terminate()
    result["exit_codes"] = {role: process.wait(timeout=30) for role, process in processes.items()}
    print(json.dumps(result, indent=1))
    ok = result["tokens"] == 64 and result["cublas_loaded"] and not result["nvrtc_loaded"]
    sys.exit(0 if ok and set(result["exit_codes"].values()) == {0} else 1)


if __name__ == "__main__":
    main()
