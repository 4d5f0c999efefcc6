"""What a result says of the machine it was measured on."""
import os
import pathlib
import platform


def describe():
    """"AMD EPYC, 2 cores"."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
