"""Checks the layers from the #include lines: layers.py ROOT LAYER... (the lowest first).

A file of a layer includes only its own layer and those before it; routing and tls do not know each
other; no header includes itself by a detour; and what has to run in the simulator sees, by any
detour, no header of the world outside.
"""

import pathlib
import re
import sys

APART = {("routing", "tls"), ("tls", "routing")}
# Folders that know nothing of loops, sockets' calls, files and threads (docs/architecture.md).
PURE = ("proxy/wire", "proxy/session", "tests/sim")
OUTSIDE = {"uv.h", "ares.h", "lmdb.h", "yaml.h", "pthread.h", "threads.h", "fcntl.h", "sys/epoll.h", "netdb.h"}
# The ledger is one for all threads of the process; its lock is its own affair.
LOCKED = {"proxy/session/ledger_state.h": "pthread.h"}
# Headers of the world that a test program may need for its own output and options.
OUTSIDE_SESSION = OUTSIDE | {"unistd.h"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(?:"([^"]+)"|<([^>]+)>)', re.M)


def read(root):
    """file → [(line, quoted path or None, system path or None)]"""
    files = {}
    for top in ("config", "routing", "tls", "proxy", "tests"):
        for path in sorted((root / top).rglob("*.[ch]")):
            text = path.read_text(errors="replace")
            files[path.relative_to(root).as_posix()] = [
                (text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in INCLUDE.finditer(text)
            ]
    return files


def layer_of(path, layers):
    folder = path.rsplit("/", 1)[0] if "/" in path else ""
    return folder if folder in layers else None


def check_edges(files, layers):
    rank = {layer: place for place, layer in enumerate(layers)}
    for path, includes in files.items():
        mine = layer_of(path, rank)
        if mine is None and not path.startswith("tests/"):
            yield f"{path}:1: is in no layer: {', '.join(layers)}"
        for line, quoted, _ in includes:
            if quoted is None:
                continue
            if quoted not in files:
                yield f'{path}:{line}: "{quoted}" is not a file of this repository, written from its root'
                continue
            theirs = layer_of(quoted, rank)
            if mine is None:
                continue
            if theirs is None:
                yield f"{path}:{line}: a layer may not include {quoted}"
            elif rank[theirs] > rank[mine] or (mine, theirs) in APART:
                yield f"{path}:{line}: {mine} may not include {theirs} ({quoted})"


def reach(files, start):
    """Everything start includes by any detour: path → the first step towards it."""
    seen, todo = {}, [(start, None)]
    while todo:
        path, first = todo.pop()
        for line, quoted, system in files.get(path, ()):
            step = first or (line, quoted or system)
            for target, known in ((quoted, files), (system, None)):
                if target is not None and target not in seen and LOCKED.get(path) != target:
                    seen[target] = step
                    if known is not None and target in known:
                        todo.append((target, step))
    return seen


def check_reach(files):
    for path in files:
        seen = reach(files, path)
        if path in seen:
            yield f"{path}:{seen[path][0]}: includes itself through {seen[path][1]}"
        folder = path.rsplit("/", 1)[0]
        if folder in PURE:
            bad = OUTSIDE if folder == "tests/sim" else OUTSIDE_SESSION
            for target in sorted(bad & seen.keys()):
                line, step = seen[target]
                yield f"{path}:{line}: {folder} may not see <{target}> (through {step})"


def main(root, layers):
    files = read(pathlib.Path(root))
    problems = [*check_edges(files, layers), *check_reach(files)]
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
