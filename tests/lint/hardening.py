"""What the linked program has against being exploited: hardening.py PROGRAM, as gcc made it with -g.

The linker's part is read from the program itself, the compiler's from what the debugging records say that each file was
compiled with: a flag that one file lacks is a flag that is missing. Prints what is missing.
"""

import pathlib
import re
import subprocess
import sys

# What each file is compiled with, and all that says the same or the opposite: the last one counts.
EVERYWHERE = {
    "-fPIE": r"-f(no-)?(pic|pie|PIC|PIE)",
    "-fstack-protector-strong": r"-f(no-)?stack-protector.*",
    "-fstack-clash-protection": r"-f(no-)?stack-clash-protection",
}
# Guards of jumps and returns, by the machine as readelf names it. (The mark of the whole program, that it can be run with
# these, is the linker's, and depends on the C library's objects too: Debian 12's lack it.)
BRANCHES = {
    "X86-64": {"-fcf-protection=full": r"-fcf-protection.*"},
    "AArch64": {"-mbranch-protection=standard": r"-mbranch-protection.*"},
}


def readelf(program, *options):
    return subprocess.run(["readelf", "-W", *options, program], check=True, capture_output=True, text=True).stdout


def segments(program):
    """(type, address, size, flags such as "R E")"""
    return [(match[1], int(match[2], 16), int(match[3], 16), match[4]) for match in re.finditer(
        r"^ +(\w+) +0x\w+ 0x(\w+) 0x\w+ 0x\w+ 0x(\w+) ([R ][W ][E ]) 0x", readelf(program, "-l"), re.M)]


def sections(program):
    """(name, address, flags), of those that are in memory"""
    return [(match[1], int(match[2], 16), match[3]) for match in re.finditer(
        r"^ +\[ *\d+\] (\S+) +\w+ +(\w+) \w+ \w+ \w+ +(\w*A\w*) ", readelf(program, "-S"), re.M)]


def check_segments(program):
    found = segments(program)
    stack = [flags for kind, _, _, flags in found if kind == "GNU_STACK"]
    if len(stack) != 1 or "E" in stack[0]:
        yield "the stack is executable (-z noexecstack)"
    if not any(kind == "GNU_RELRO" for kind, _, _, _ in found):
        yield "no RELRO: tables of the dynamic linker stay writable (-z relro)"
    for kind, address, size, flags in found:
        if kind == "LOAD" and "W" in flags and "E" in flags:
            yield "a segment is writable and executable"
        elif kind == "LOAD" and "E" in flags:
            data = [name for name, start, kinds in sections(program) if address <= start < address + size and "X" not in kinds]
            if data:
                yield f"executable though it is data (-z separate-code): {' '.join(data)}"


def check_dynamic(program):
    header, dynamic = readelf(program, "-h"), readelf(program, "-d")
    flags = set(" ".join(re.findall(r"\((?:FLAGS|FLAGS_1)\) +(?:Flags: )?(.*)", dynamic)).split())
    if not re.search(r"^ +Type: +DYN ", header, re.M) or "PIE" not in flags:
        yield "its place in memory is fixed (-pie)"
    if "NOW" not in flags:
        yield "functions are bound when first called, so their table stays writable (-z now)"
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        yield "libraries are looked for in a folder of its own (RPATH)"
    if re.search(r"\(TEXTREL\)", dynamic) or "TEXTREL" in flags:
        yield "code is written to while it is loaded (TEXTREL)"


def check_calls(program):
    wanted = set(re.findall(r" UND (\w+)", readelf(program, "--dyn-syms")))
    if "__stack_chk_fail" not in wanted:
        yield "no function guards its frame (-fstack-protector-strong)"
    if not any(re.fullmatch(r"__\w+_chk", name) for name in wanted):
        yield "no call is checked for the size of its buffer (-D_FORTIFY_SOURCE)"


def last(line, family):
    return next((word for word in reversed(line.split()) if re.fullmatch(family, word)), None)


def check_compiler(program):
    machine = re.search(r"^ +Machine: +(.*)", readelf(program, "-h"), re.M)[1].split()[-1]
    files = re.findall(r"DW_AT_producer +: .*?(GNU C\w* .*)", readelf(program, "--debug-dump=info", "--dwarf-depth=1"))
    if not files:
        yield "nothing says what it was compiled with (gcc, -g)"
    for flag, family in {**EVERYWHERE, **BRANCHES.get(machine, {})}.items():
        lacking = sum(last(line, family) != flag for line in files)
        if lacking:
            yield f"compiled without {flag}: {lacking} of {len(files)} files"


def check(program):
    for part in (check_segments, check_dynamic, check_calls, check_compiler):
        yield from part(program)


def main(arguments):
    problems = [f"{arguments[0]}: {problem}" for problem in check(pathlib.Path(arguments[0]))]
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
