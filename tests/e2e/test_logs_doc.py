"""docs/logs.md tells of every event that the sources can log, with its keys, and of no other; so does splitmx(8)."""

import re

import pytest

from splitmx_test.daemon import REPOSITORY

SOURCES = {p: p.read_text() for p in sorted((REPOSITORY / "proxy").rglob("*.c"))}
LITERAL = re.compile(r'"([^"\\]*)"')
AFTER_FAILURES = {"endpoint-suspected", "endpoint-down"}
ABOUT_CLIENT = {"session", "client", "name", "helo", "why"}


def calls(name):
    """The arguments of each call of a function, split at the outermost commas; its definition comes along and has no literals."""
    for text in SOURCES.values():
        for match in re.finditer(rf"\b{name}\(", text):
            depth, begin, arguments, quoted = 1, match.end(), [], False
            for at in range(match.end(), len(text)):
                c = text[at]
                if c == '"' and text[at - 1] != "\\":
                    quoted = not quoted
                depth += 0 if quoted else (c in "({") - (c in ")}")
                if depth == 0 or (depth == 1 and c == "," and not quoted):
                    arguments.append(text[begin:at].strip())
                    begin = at + 1
                if depth == 0:
                    break
            yield arguments


def literals(argument):
    return LITERAL.findall(argument)


def events_of_the_sources():
    """Name to its keys, or None where they are put together elsewhere."""
    found = {}
    for arguments in calls("log_event"):
        for event in literals(arguments[2]) if len(arguments) > 2 else ():
            found.setdefault(event, set()).update(key for pair in arguments[3:-1:2] for key in literals(pair))
    for name, at in (("begin", 3), ("summary_elsewhere", 4), ("record_str", 2)):
        for arguments in calls(name):
            if len(arguments) > at and (name != "record_str" or arguments[1] == '"event"'):
                found.update({event: None for event in literals(arguments[at])})
    for name, at in (("summary_session", 2), ("session_dismiss", 4)):
        for arguments in calls(name):
            found.update({event: ABOUT_CLIENT for event in literals(arguments[at])} if len(arguments) > at else {})
    for text in SOURCES.values():
        for event, between in re.findall(r'\blog_begin\([^;]*"([a-z-]+)"\);(.*?)\blog_end\(', text, re.S):
            found[event] = set(re.findall(r'\brecord_\w+\(&record, "([^"]+)"', between))
        found.update({event: None for event in re.findall(r'struct ledger_event\)\{LOG_\w+, "([^"]+)"', text)})
        found.update({event: {"endpoint", "why"} if event in AFTER_FAILURES else {"endpoint"}
                      for event in re.findall(r'return "(endpoint-[a-z]+)";', text)})
    found.pop("endpoint-same")  # nothing has changed, and nobody is told
    return found


def sections_of_the_page():
    """Name to text."""
    parts = re.split(r"^### (\S+)$", (REPOSITORY / "docs" / "logs.md").read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


EVENTS, SECTIONS = events_of_the_sources(), sections_of_the_page()


def test_every_event_is_on_the_page_and_no_other():
    assert len(EVENTS) > 30 and sorted(SECTIONS) == sorted(EVENTS)


@pytest.mark.parametrize("event", sorted(SECTIONS))
def test_its_keys_its_example_and_what_to_do(event):
    section = SECTIONS[event]
    keys = set(re.findall(r"`([^`]+)`", re.search(r"^Keys: (.+)$", section, re.M).group(1)))
    example = re.search(r"^```\n(.+)\n```$", section, re.M).group(1)
    time, level, rest = example.split(" ", 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) and level in ("info", "warning", "error")
    pairs = dict(re.findall(r'([a-z-]+)=("(?:[^"\\]|\\.)*"|\S+)', rest))
    assert pairs.pop("event") == event
    optional = {"name", "tls", "ledger", "relay", "place"}
    assert set(pairs) <= keys and keys - set(pairs) <= optional, (keys, pairs)
    assert EVENTS[event] is None or EVENTS[event] == keys, (EVENTS[event], keys)
    assert re.search(r"^Do: \S", section, re.M)
    assert (level == "info") or section.lstrip().startswith(("Warning", "Error"))


def test_keys_are_words_of_the_sources():
    said = set(re.findall(r'"([a-z-]+)"', "".join(SOURCES.values())))
    for event, section in SECTIONS.items():
        keys = re.findall(r"`([^`]+)`", re.search(r"^Keys: (.+)$", section, re.M).group(1))
        assert set(keys) <= said, event


def test_the_manual_page_names_the_same_events():
    page = (REPOSITORY / "docs" / "splitmx.8").read_text()
    log = page[page.index(".Ss The log"):page.index(".Ss Confinement")]
    items = {name for line in re.findall(r"^\.It Li (.+)$", log, re.M) for name in re.split(r" , ", line)}
    process = {name.strip() for line in re.findall(r"^\.Li (.+)$", log[log.index("About the process"):], re.M)
               for name in re.split(r"[ ,.]+(?:No )?", line) if re.fullmatch(r"[a-z-]+", name)}
    assert items <= set(EVENTS), items - set(EVENTS)
    assert set(EVENTS) <= items | process, set(EVENTS) - items - process
