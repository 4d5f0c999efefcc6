"""A flame graph, as one SVG file, of what `perf record --call-graph` has seen: below each function those that it calls, as wide as the
samples in which they were running. Point at a bar for its whole name and share.
usage: flame_graph.py --data perf.data --title TEXT --out FILE.svg [--least 0.2]

Bars narrower than --least percent are left out, so that the file stays small. Needs `perf`.
"""
import argparse
import collections
import html
import pathlib
import re
import subprocess

WIDTH, ROW, CHAR = 1200, 15, 6.2
COLOURS = [  # by library, the first that matches
    (r"\[kernel|\[guest|\.ko|\[vdso|\[unknown", "#d9a441", "kernel"),
    (r"libgrpc|libgpr|libaddress", "#7fa8d8", "gRPC"),
    (r"/bin/pregate", "#8cc084", "pregate, with the templates that it is built with"),
    (r"libc\.so|libstdc|ld-linux|libpthread|libgcc", "#c9c9c9", "libc, libstdc++"),
    (r"", "#d59bc0", "other libraries"),
]


def colour_of(library):
    return "#e4e4e4" if not library else next(colour for pattern, colour, _ in COLOURS if re.search(pattern, library))


def short(symbol):
    """Class and function, without arguments, template arguments and what the compiler added."""
    symbol = re.sub(r"\+0x[0-9a-f]+$", "", symbol)
    symbol = re.sub(r"\.(?:isra|part|constprop|cold|localalias)\S*", "", symbol)
    while True:
        less = re.sub(r"<[^<>]*>", "", symbol.replace("operator<", "operator ").replace("->", " "))
        less = re.sub(r"\([^()]*\)", "", less)
        if less == symbol:
            return "::".join((less.strip().split(" ")[-1] or symbol).split("::")[-2:])[:60]
        symbol = less


def read_stacks(data):
    """{((function, library), ...): samples}, from the thread on."""
    text = subprocess.run(["perf", "script", "-i", data, "--no-inline", "-F", "comm,ip,sym,dso"], check=True, capture_output=True, text=True).stdout
    stacks, thread, frames = collections.Counter(), None, []
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if thread is not None:
                stacks[((thread, ""), *reversed(frames))] += 1
            thread, frames = None, []
        elif thread is None:
            thread = line.strip()
        else:
            symbol, _, library = line.strip().split(" ", 1)[-1].rpartition(" (")
            frames.append((short(symbol) if symbol != "[unknown]" else "?", library.rstrip(")")))
    return stacks


class Bar:
    def __init__(self):
        self.samples, self.parts = 0, {}

    def add(self, frames, samples):
        self.samples += samples
        if frames:
            self.parts.setdefault(frames[0], Bar()).add(frames[1:], samples)


def render(stacks, title, least):
    """The SVG's text."""
    root = Bar()
    for frames, samples in stacks.items():
        root.add(frames, samples)
    bars, depth_max = [], 0

    def lay_out(bar, x, depth):
        nonlocal depth_max
        for (name, library), part in sorted(bar.parts.items()):
            width = WIDTH * part.samples / root.samples
            if 100 * part.samples >= least * root.samples:
                depth_max = max(depth_max, depth)
                label = html.escape(name[:int((width - 4) / CHAR)]) if width > 5 * CHAR else ""
                told = html.escape(f"{name} ({pathlib.Path(library).name}) {100 * part.samples / root.samples:.1f}%")
                bars.append(f'<g><title>{told}</title><rect x="{x:.1f}" y="{depth * ROW + 44}" width="{max(width - 0.4, 0.4):.1f}" height="{ROW - 1}" '
                            f'fill="{colour_of(library)}"/>' + (f'<text x="{x + 2:.1f}" y="{depth * ROW + 55}">{label}</text>' if label else "") + "</g>")
                lay_out(part, x, depth + 1)
            x += width

    lay_out(root, 0, 0)
    legend, x = "", 4
    for _, colour, name in COLOURS:
        legend += f'<rect x="{x}" y="26" width="10" height="10" fill="{colour}"/><text x="{x + 14}" y="35">{html.escape(name)}</text>'
        x += 30 + CHAR * len(name)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {(depth_max + 1) * ROW + 50}" font-family="monospace" font-size="10">'
            f'<rect width="100%" height="100%" fill="#fff"/><text x="4" y="16" font-size="13">{html.escape(title)} ({root.samples} samples)</text>'
            f'{legend}{"".join(bars)}</svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--title", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--least", type=float, default=0.2)
    args = parser.parse_args()
    args.out.write_text(render(read_stacks(args.data), args.title, args.least))


if __name__ == "__main__":
    main()
