"""The checks find what they are for: each is run on a small tree with one thing wrong in it."""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
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


def main():
    bad = []
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
