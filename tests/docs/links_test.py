"""Links and citations lead somewhere: to a file of the repository and, where they name one, to a heading in it.

In pages (*.md), every relative link: [text](FILE#anchor), with anchors as GitHub makes them of headings.
In pages, every path of a source file in a code span: `FOLDER/FILE.h`, `FOLDER/FILE.cc:Function` (the file has that word).
In every text file, every citation of a page: its path from the root, alone, with #anchor, or followed by a comma and the
heading in double quotes, as in CONTRIBUTING.md. The heading stands on one line; the line may break before it.

Exit status 1 names every offending line. Usage: links_test.py [SOURCE_DIR]
"""
import os
import pathlib
import posixpath
import re
import subprocess
import sys
import urllib.parse

SELF = "tests/docs/links_test.py"
NOT_SOURCES = {".git", ".cache", "__pycache__", "build", "certs"}  # of a tree without git

FENCE = re.compile(r"^ {0,3}(```|~~~)")
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^ {0,3}\[[^\]]+\]:\s+<?([^\s>]+)", re.M)
CITATION = re.compile(r"(?<![\w/.-])(docs/[\w/.-]*\w\.md)(?:#([\w-]+)|,(?:\s|//|#|\*)+(?:\"([^\"\n]*)\"|([A-Z][a-z])))?")
SOURCE = re.compile(r"`((?:common|cli|sim|refactor|proto|tests|scripts|router_service|expert_service|scheduler_service)"
                    r"/[\w./-]*\w\.(?:h|cc|cu|cuh|py|sh|proto))(?::(\w+(?:::\w+)*))?`")
HISTORY = ("docs/adr/", "CHANGELOG.md")  # say what was
# Pages that no reader of the repository has, and sections by number, which the form above replaces.
GONE = re.compile(r"\bDESIGN\b|\bPAPER\.md section\b")


def git(root, *arguments):
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def list_files(root):
    """Paths from the root: what git tracks or would add; of a tree that git does not know, everything."""
    top = git(root, "rev-parse", "--show-toplevel")
    if top and pathlib.Path(top.strip()).resolve() == root:
        names = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        return {n for n in names.split("\0") if n and os.path.lexists(root / n)}
    files = set()
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in NOT_SOURCES]
        links = [f for f in folders if os.path.islink(os.path.join(folder, f))]
        files.update(pathlib.Path(folder, n).relative_to(root).as_posix() for n in names + links)
    return files


def read(path):
    """The text of a file; nothing of one that is no text."""
    try:
        return path.read_bytes().decode() if path.is_file() else ""
    except UnicodeDecodeError:
        return ""


def without_code(text):
    """Fenced blocks and code spans are emptied; lines stay where they are."""
    lines, fence = [], None
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if mark and fence in (None, mark.group(1)):
            fence = None if fence else mark.group(1)
            line = ""
        lines.append("" if fence else line)
    return re.sub(r"(`+)[^`\n]+\1", "", "\n".join(lines))


def headings(text):
    """As they read, without markup; fenced blocks have none."""
    fenced = False
    for line in text.split("\n"):
        fenced ^= bool(FENCE.match(line))
        heading = HEADING.match(line)
        if heading and not fenced:
            yield re.sub(r"[`*]|<[^>]*>", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1)))


def anchors(text):
    """GitHub's: letters, digits, _ and - of the heading, blanks as -; the second of its name gets -1."""
    seen, out = {}, set()
    for heading in headings(text):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        out.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return out | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


class Tree:
    def __init__(self, root):
        self.root = root
        self.files = list_files(root)
        self.folders = {"."} | {parent.as_posix() for f in self.files for parent in pathlib.PurePosixPath(f).parents}
        self.texts = {f: read(root / f) for f in self.files}
        self.num_links = self.num_citations = self.num_sources = 0

    def problems(self):
        for file in sorted(self.files):
            if file.endswith(".md"):
                yield from self.bad_links(file)
            if file.endswith(".md") and not file.startswith(HISTORY):
                yield from self.bad_sources(file)
            if file != SELF:
                yield from self.bad_citations(file)

    def bad_links(self, page):
        text = without_code(self.texts[page])
        for match in LINK.finditer(text):
            target = match.group(1) or match.group(2)
            if re.match(r"[a-zA-Z][\w+.-]*:|//", target):
                continue
            self.num_links += 1
            path, _, anchor = target.partition("#")
            base = "." if path.startswith("/") else posixpath.dirname(page) or "."
            path = posixpath.normpath(posixpath.join(base, urllib.parse.unquote(path).lstrip("/"))) if path else page
            where = f"{page}:{line_of(text, match.start())}: link to {target}"
            if path not in self.files and path not in self.folders:
                yield f"{where}: no such file"
            elif anchor and path.endswith(".md") and anchor not in anchors(self.texts[path]):
                yield f"{where}: no heading of {path} has this anchor"

    def bad_sources(self, page):
        text = self.texts[page]
        for match in SOURCE.finditer(text):
            path, word = match.groups()
            self.num_sources += 1
            where = f"{page}:{line_of(text, match.start())}: {match.group()}"
            if path not in self.files:
                yield f"{where}: no such file"
            elif word and not re.search(rf"\b{word}\b", self.texts[path]):
                yield f"{where}: the file has no {word}"

    def bad_citations(self, file):
        text = self.texts[file]
        for match in GONE.finditer(text):
            yield f"{file}:{line_of(text, match.start())}: {match.group()}: cite a page of docs/"
        for match in CITATION.finditer(text):
            page, anchor, heading, unquoted = match.groups()
            where = f"{file}:{line_of(text, match.start())}: citation of {page}"
            self.num_citations += 1
            if page not in self.files:
                yield f"{where}: no such file"
            elif anchor and anchor not in anchors(self.texts[page]):
                yield f"{where}: no heading has the anchor {anchor}"
            elif heading is not None and heading not in headings(self.texts[page]):
                yield f"{where}: it has no heading {heading!r}"
            elif unquoted and not file.endswith(".md"):
                yield f"{where}: its heading is to be in double quotes"


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    tree = Tree(root)
    problems = list(tree.problems())
    for problem in problems:
        print(problem)
    print(f"{len(tree.files)} files, {tree.num_links} links, {tree.num_citations} citations, "
          f"{tree.num_sources} sources, {len(problems)} problems")
    return 1 if problems or not tree.num_links or not tree.num_citations else 0


if __name__ == "__main__":
    sys.exit(main())
