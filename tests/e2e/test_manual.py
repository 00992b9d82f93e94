"""The man pages tell what the program does: each example of splitmx.yaml(5) is taken, splitmx(8) has the commands and options of --help.

That each key is there with its type and default is for tests/unit/test_keys.c.
"""

import os
import re
import shutil

import pytest

from splitmx_test.daemon import REPOSITORY, splitmx

DOCS = REPOSITORY / "docs"
LISTEN = {"address": "'127.0.0.1:2525'"}
TLS = {"certificate": "fullchain.pem", "private-key": "privkey.pem"}
FILE = {"hostname": "mx.example.com", "domains": "[example.com]", "routes": "routes.yaml", "state-directory": "state",
        "dns": "{servers: ['127.0.0.1:53']}"}


def examples():
    """(section, key, default, `key: value`) of each line that ends so."""
    section = key = None
    for line in (DOCS / "splitmx.yaml.5").read_text().splitlines():
        if match := re.match(r"\.Ss (.*)", line):
            section = match[1]
        elif match := re.match(r"\.It Ic (\S+) :", line):
            key = match[1]
        elif line.startswith(".D1 "):
            match = re.fullmatch(r"\.D1 .*; (needed|default: .*); example: Li (.*)", line)
            yield section, key, match[1].removeprefix("default: "), match[2].replace(r"\(dq", '"')


def block(indent, keys, begin=""):
    text = "".join(f"{' ' * indent}{key}: {value}\n" for key, value in keys.items())
    return begin + text[len(begin):]


def configuration(section, key, value):
    """A file that is fine but for what is in it under test."""
    own, listen, tls, relay = dict(FILE), dict(LISTEN), dict(TLS), {"next-hop": "smtp:[192.0.2.1]", "identity": "none"}
    more = ""
    if section == "General":
        own[key] = value
    elif section == "listen":
        listen[key] = value
    elif section == "tls":
        tls[key] = value
    elif section == "relays":
        relay[key] = value
    elif section == "The relay gmail":
        more = f"  gmail:\n    {key}: {value}\n"
    else:
        own[section] = f"{{{key}: {value}}}"
    text = block(0, own) + "tls:\n" + block(2, tls) + "listen:\n" + block(4, listen, "  - ") + "relays:\n  local:\n"
    return text + block(4, relay) + more


@pytest.fixture
def folder(reachable_folder, mx_certificate, ca):
    for name, source in (("fullchain.pem", mx_certificate.chain), ("privkey.pem", mx_certificate.key), ("ca.pem", ca.file)):
        shutil.copy(source, reachable_folder / name)
    (reachable_folder / "privkey.pem").chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(reachable_folder / "privkey.pem", "nobody")
    for name in ("routes.yaml", "other.yaml"):
        (reachable_folder / name).write_text("example.com: local\n" if name == "routes.yaml" else "b.example.com: local\n")
    return reachable_folder


@pytest.mark.parametrize("section, key, default, example", examples(), ids=lambda v: v[:40])
def test_each_example_is_taken_and_says_something_else_than_the_default(folder, section, key, default, example):
    name, value = example.split(": ", 1)
    assert name == key and value.strip('"') != default
    (folder / "splitmx.yaml").write_text(configuration(section, key, value))
    result = splitmx("check", "-c", "splitmx.yaml", cwd=folder, user="nobody" if os.geteuid() == 0 else None)
    assert result.status == 0, f"{result}\n{configuration(section, key, value)}"


def test_the_examples_at_the_end_of_the_pages_are_taken(folder):
    pages = {name: (DOCS / name).read_text().split(".Sh EXAMPLES")[1] for name in ("splitmx.yaml.5", "splitmx-routes.5")}
    whole = re.search(r"\.Bd -literal.*?\n(.*?)\.Ed", pages["splitmx.yaml.5"], re.S)[1]
    routes = re.search(r"\.Bd -literal.*?\n(.*?)\.Ed", pages["splitmx-routes.5"], re.S)[1]
    (folder / "splitmx.yaml").write_text(whole + "state-directory: state\n")
    (folder / "routes.yaml").write_text(routes.replace("\\&", ""))
    result = splitmx("check", "-c", "splitmx.yaml", cwd=folder, user="nobody" if os.geteuid() == 0 else None)
    assert result.status == 0, result


def usage(*command):
    return splitmx(*command, "--help").out


def test_the_commands_are_those_of_the_help_and_each_option_is_told():
    page = (DOCS / "splitmx.8").read_text()
    commands = re.findall(r"^  ([a-z]\w+) ", usage(), re.M)
    synopsis = page.split(".Sh SYNOPSIS")[1].split(".Sh DESCRIPTION")[0]
    described = page.split(".Ss Commands")[1].split(".Ss ")[0]
    assert len(commands) > 5
    assert re.findall(r"^\.Cm (\w+)", synopsis, re.M) == commands
    assert re.findall(r"^\.It Cm (\w+)", described, re.M) == commands
    for command, told in zip(commands, re.split(r"^\.It Cm .*\n", described, flags=re.M)[1:]):
        options = set(re.findall(r"^ {2,6}(?:-\w, )?--([\w-]+)", usage(command), re.M)) - {"help", "config"}
        synoptic = re.split(rf"^\.Cm {command}$", synopsis, flags=re.M)[1].split(".Nm")[0]
        there = {word.lstrip("-") for word in re.findall(r"Fl (?:Fl )?([\w-]+)", synoptic)} - {"c"}
        assert {o if o != "output" else "o" for o in options} == there, command
        for option in there:
            assert re.search(rf"Fl (Fl |-)?{option}\b", told), f"{command}: --{option}"
