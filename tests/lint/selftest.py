"""The checks find what they are for: each is run on a small tree, or program, with one thing wrong in it."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import hardening  # noqa: E402
import layers  # noqa: E402
import style  # noqa: E402

ORDER = ["config", "routing", "tls", "proxy/wire", "proxy/session", "proxy/net"]
CLEAN = {
    "config/a.h": "int a;\n",
    "routing/r.h": '#include "config/a.h"\n',
    "proxy/net/n.h": "#include <uv.h>\n",
    "proxy/session/s.c": '#include "routing/r.h"\n/* strcpy(x) is only words, and so is "\' */\nchar *s = "atoi(1)";\n',
}

LAYERS = {
    "upwards": ({"config/b.c": '#include "routing/r.h"\n'}, "config/b.c:1: config may not include routing"),
    "sideways": ({"tls/t.c": '#include "routing/r.h"\n'}, "tls/t.c:1: tls may not include routing"),
    "from a test": ({"config/b.c": '#include "tests/t.h"\n', "tests/t.h": ""}, "may not include tests/t.h"),
    "a neighbour's path": ({"config/b.c": '#include "a.h"\n'}, "not a file of this repository"),
    "a circle": (
        {"config/b.h": '#include "config/c.h"\n', "config/c.h": '#include "config/b.h"\n'},
        "config/b.h:1: includes itself through config/c.h",
    ),
    "the world in session code": (
        {"routing/w.h": "#include <uv.h>\n", "proxy/session/t.c": '#include "routing/w.h"\n'},
        "proxy/session/t.c:1: proxy/session may not see <uv.h>",
    ),
    "a folder of no layer": ({"proxy/odd/x.c": "\n"}, "proxy/odd/x.c:1: is in no layer"),
}

STYLE = {
    "a banned call": ({"config/b.c": "void f(void)\n{\n    strcpy (a, b);\n}\n"}, "config/b.c:3: strcpy"),
    "a marker": ({"config/b.c": "/* TODO later */\n"}, "config/b.c:1: unfinished"),
    "dead code": ({"config/b.c": "\n# if 0\n#endif\n"}, "config/b.c:2: dead code"),
    "a long file": ({"config/b.c": "\n" * 601}, "601 lines"),
    "a long function": ({"config/b.c": "int f(void)\n{\n" + "    ;\n" * 79 + "}\n"}, "a function of 81 lines"),
    "white space": ({"docs/a.md": "a \n"}, "docs/a.md:1: white space"),
}

# A program with every guard, and what takes one away, by the guard: None leaves the flag out.
GUARDED = """#include <string.h>
int main(int count, char **words)
{
    char name[64];
    memcpy(name, words[0], (size_t)count);
    return name[count % 64];
}
"""
GUARDS = ["-O2", "-g", "-D_FORTIFY_SOURCE=2", "-fPIE", "-fstack-protector-strong", "-fstack-clash-protection", "-pie", "-Wl,-z,relro",
          "-Wl,-z,now", "-Wl,-z,noexecstack", "-Wl,-z,separate-code"]
BRANCHES = {"x86_64": "-fcf-protection=full", "aarch64": "-mbranch-protection=standard"}.get(os.uname().machine)
WITHOUT = {
    "-g": (None, "nothing says what it was compiled with"),
    "-D_FORTIFY_SOURCE=2": (None, "-D_FORTIFY_SOURCE"),
    "-fPIE": ("-fno-pie", "compiled without -fPIE: 1 of 1"),
    "-fstack-protector-strong": ("-fno-stack-protector", "no function guards its frame"),
    "-fstack-clash-protection": ("-fno-stack-clash-protection", "compiled without -fstack-clash-protection"),
    "-pie": ("-no-pie", "-pie"),
    "-Wl,-z,relro": ("-Wl,-z,norelro", "-z relro"),
    "-Wl,-z,now": ("-Wl,-z,lazy", "-z now"),
    "-Wl,-z,noexecstack": ("-Wl,-z,execstack", "-z noexecstack"),
    "-Wl,-z,separate-code": ("-Wl,-z,noseparate-code", "-z separate-code"),
    **({BRANCHES: (None, f"compiled without {BRANCHES}")} if BRANCHES else {}),
}
AGAINST = {  # what is put in
    "a folder of libraries": ("", ["-Wl,-rpath,/tmp"], "RPATH"),
    "a segment for everything": ('__asm__(".section odd,\\"awx\\"\\n.long 0\\n.text");\n', [], "writable and executable"),
    "a weaker guard": ("", ["-fstack-protector"], "compiled without -fstack-protector-strong"),
}


def problems(tree, check):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in tree.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check(root)


def check_layers(root):
    files = layers.read(root)
    return [*layers.check_edges(files, ORDER), *layers.check_reach(files)]


def check_style(root):
    return list(style.check_tree(root))


def check_program(case):
    """(name, what was wanted, what was found)"""
    name, source, flags, wanted = case
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "program"
        subprocess.run(["gcc", "-x", "c", "-", "-o", program, *flags], input=GUARDED + source, text=True, check=True,
                       capture_output=True)
        return name, wanted, list(hardening.check(program))


def check_hardening():
    guards = [*GUARDS, *([BRANCHES] if BRANCHES else [])]
    cases = [("every guard", "", guards, None)]
    for guard, (instead, wanted) in WITHOUT.items():
        cases.append((f"without {guard}", "", [flag for flag in (instead if flag == guard else flag for flag in guards) if flag], wanted))
    for name, (source, more, wanted) in AGAINST.items():
        cases.append((name, source, [*guards, *more], wanted))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, wanted, found in pool.map(check_program, cases):
            if found if wanted is None else not any(wanted in line for line in found):
                yield f"hardening, {name}: wanted {wanted!r}, found {found}"


def main():
    bad = list(check_hardening())
    for check, cases in ((check_layers, LAYERS), (check_style, STYLE)):
        if found := problems(CLEAN, check):
            bad.append(f"a clean tree: {found}")
        for name, (tree, wanted) in cases.items():
            found = problems({**CLEAN, **tree}, check)
            if not any(wanted in line for line in found):
                bad.append(f"{name}: wanted {wanted!r}, found {found}")
    print("".join(f"tests/lint/selftest.py: {line}\n" for line in bad), end="")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
