"""Checks what the compiler does not: style.py ROOT.

Banned calls, markers of unfinished work, dead code, lengths of files and functions, white space at
the end of lines. A function over 60 lines is told with --advice and an error over 80.
"""

import pathlib
import re
import sys

BANNED = (
    "strcpy strcat sprintf vsprintf strtok strtok_r atoi atol atoll atof gets strncpy strncat alloca "
    "stpcpy scanf sscanf fscanf tmpnam mktemp tempnam system popen gethostbyname getaddrinfo asctime ctime"
).split()
# A listener's name is looked up while it is prepared, on no loop.
ALLOWED = {("proxy/daemon/sockets.c", "getaddrinfo")}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
MARKER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
DEAD = re.compile(r"^[ \t]*#[ \t]*if[ \t]+0\b", re.M)
# Comments, strings and character constants, which do not call anything.
QUIET = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)

FILE_LINES, FUNCTION_LINES, FUNCTION_ADVICE = 600, 80, 60
TEST_FILE_LINES = 1000
CACHES = re.compile(r"(^|/)(__pycache__|\.pytest_cache)/")
TEXT = {".c", ".h", ".py", ".sh", ".md", ".5", ".8", ".yaml", ".yml", ".cf", ""}


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def functions(code):
    """(first line, number of lines) of each function: clang-format puts its braces in column 1."""
    start = None
    for number, line in enumerate(code.split("\n"), 1):
        if line == "{":
            start = number
        elif line.startswith("}") and start is not None:
            yield start, number - start + 1
            start = None


def check_c(path, text, advice):
    code = QUIET.sub(blank, text)
    for match in CALL.finditer(code):
        if (path, match[1]) in ALLOWED:
            continue
        yield f"{path}:{line_of(code, match.start())}: {match[1]} is not used here"
    for match in DEAD.finditer(code):
        yield f"{path}:{line_of(code, match.start())}: dead code"
    lines, most = text.count("\n"), TEST_FILE_LINES if path.startswith("tests/") else FILE_LINES
    if lines > most:
        yield f"{path}:{lines}: {lines} lines, at most {most}"
    for start, length in functions(code):
        if length > FUNCTION_LINES or (advice and length > FUNCTION_ADVICE):
            yield f"{path}:{start}: a function of {length} lines, aim at {FUNCTION_ADVICE}, at most {FUNCTION_LINES}"


def check_text(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if MARKER.search(line):
            yield f"{path}:{number}: unfinished work does not go into the repository"
        if line != line.rstrip():
            yield f"{path}:{number}: white space at the end of the line"
    if text and not text.endswith("\n"):
        yield f"{path}: no newline at the end"


def check_tree(root, advice=False):
    tops = [root / top for top in ("config", "routing", "tls", "proxy", "tests", "docs", "docker", ".ci")]
    paths = [path for top in tops for path in sorted(top.rglob("*"))]
    paths += [path for path in sorted(root.glob("*")) if path.is_file()]
    for path in paths:
        name = path.relative_to(root).as_posix()
        if not path.is_file() or CACHES.search(name) or name.startswith("tests/fuzz/corpus/"):
            continue  # what Python and pytest leave behind, and bytes that are what they are
        if path.suffix not in TEXT:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if not name.startswith("tests/lint/"):
            yield from check_text(name, text)
        if path.suffix in (".c", ".h"):
            yield from check_c(name, text, advice)


def main(arguments):
    problems = list(check_tree(pathlib.Path(arguments[0]), "--advice" in arguments))
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
