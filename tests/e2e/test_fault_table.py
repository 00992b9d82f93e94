"""
Every stage × every kind of fault × one, two and three legs: what the client hears, and who has the message.

The table below is what the design asks for (sections 5, 6 and 9, and the second table of the faults it names), not what the
program was seen to do. It is read so:

- The rows up to RCPT are the answer to the RCPT of the upstream that fails. The others are not affected: they take the
  message, and where there is no other, DATA is 554 5.5.1.
- From DATA on, it is the answer to the transaction: nobody has the message, but at the end of data those that were committed
  before. QUIT comes after it: everybody has it, and the next message as well.
- `own` is the upstream's own answer where that counts (law 3; a 421 is its 451), and from DATA on, of several upstreams, 451 4.3.0
  with its words.
- `451` alone: 451 with any enhanced code, for the design does not say which. `451?`: out of step with its conversation, so the
  leg ends with 451 at RCPT or, at the latest, for the transaction, and is counted as no acceptance.
- `-` makes no sense; LEFT_OUT says why.
"""

import contextlib

import pytest

from splitmx_test.daemon import daemons
from splitmx_test.faults import KINDS, STAGES, WORDS, Case, Stage, asked_for, play_all

TABLE = """
                4xx         5xx         421         reset       FIN         silence     garbage     early reply
connect         -           -           -           451 4.4.1   451 4.4.1   451 4.4.1   -           -
greeting        451 4.4.1   451 4.3.0   451 4.4.1   451 4.4.1   451 4.4.1   451 4.4.1   451 4.4.1   -
EHLO            451         451         451 4.4.1   451 4.4.1   451 4.4.1   451 4.4.1   451         451
STARTTLS        451 4.7.5   451 4.7.5   451         451         451         451         451         451
handshake       -           -           -           451 4.7.5   451 4.7.5   451 4.7.5   451 4.7.5   451 4.7.5
after-TLS EHLO  451         451         451 4.4.1   451 4.4.1   451 4.4.1   451 4.4.1   451         451?
XCLIENT         own         451 4.3.5   own         451         451         451         451         451
MAIL            own         own         own         451 4.4.2   451 4.4.2   451 4.4.1   451         451
RCPT            own         own         own         451 4.4.2   451 4.4.2   451 4.4.1   451         451
DATA            own         own         own         451 4.4.2   451 4.4.2   451 4.4.2   451         451
body first      451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2
body middle     451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2
body last       451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   451 4.4.2   -           451 4.4.2   451 4.4.2
end-of-data     own         own         own         451 4.4.2   451 4.4.2   451 4.4.2   451         451
QUIT            250         250         250         250         250         250         250         250
"""

LEFT_OUT = {
    ("connect", "4xx"): "words that come with the connection are the greeting",
    ("connect", "5xx"): "words that come with the connection are the greeting",
    ("connect", "421"): "words that come with the connection are the greeting",
    ("connect", "garbage"): "words that come with the connection are the greeting",
    ("connect", "early reply"): "words that come with the connection are the greeting",
    ("greeting", "early reply"): "nothing comes before the greeting, so it is never too early",
    ("handshake", "4xx"): "to a handshake any reply is garbage",
    ("handshake", "5xx"): "to a handshake any reply is garbage",
    ("handshake", "421"): "to a handshake any reply is garbage",
    ("body last", "silence"): "who stops reading behind the last byte is silent at the end of data",
}

CELLS = {}
for _line in TABLE.strip("\n").splitlines()[1:]:
    for _number, _kind in enumerate(KINDS):
        CELLS[_line[:16].strip(), _kind] = _line[16 + 12 * _number:][:12].strip()

CASES = [Case(stage, kind, legs, place) for stage in STAGES for kind in KINDS if (stage, kind) not in LEFT_OUT
         for legs in (1, 2, 3) for place in range(legs)]

# Section 6: a connection lost without a reply after MAIL and before 354 is opened again, once.
OPENED_AGAIN = [Case(stage, kind, legs, place, once=True) for stage in ("MAIL", "RCPT", "DATA") for kind in ("reset", "FIN")
                for legs in (1, 2, 3) for place in range(legs)]

BEFORE_DATA = STAGES[:STAGES.index("DATA")]


def test_the_table_is_whole():
    assert list(CELLS) == [(stage, kind) for stage in STAGES for kind in KINDS]
    assert {cell for cell, said in CELLS.items() if said == "-"} == set(LEFT_OUT)


def own_words(case, several):
    code, words = WORDS[case.kind].split(" ", 1)
    if several:
        return "451 4.3.0", words
    return ("451 " if code == "421" else f"{code} ") + words, words


def assert_says(answer, cell, case, several):
    """The answer is what the cell asks for."""
    begins, holds = own_words(case, several) if cell == "own" else (cell.rstrip("?"), "")
    assert answer == (begins if " " in begins else int(begins)) and holds in answer.lines[0], f"{answer} instead of {cell}"


def assert_others_take_it(case, heard):
    """The recipient was refused at RCPT, and only that one."""
    others = [n for n in range(case.legs) if n != case.place]
    assert all(heard.rcpt[n] == 250 for n in others), heard
    assert heard.has == ["message" if n in others else None for n in range(case.legs)]
    if others:
        assert heard.data == 354 and heard.end == 250
    else:
        assert heard.data == "554 5.5.1" and heard.end is None


def assert_nobody_has_it(case, heard):
    assert all(answer == 250 for answer in heard.rcpt), heard
    assert heard.has == [None] * case.legs, heard


def assert_as_the_design_says(case, heard):
    cell = CELLS[case.stage, case.kind]
    if case.once or case.stage == "QUIT":
        assert all(answer == 250 for answer in heard.rcpt) and heard.data == 354 and heard.end == 250
        assert heard.has == ["message"] * case.legs
    elif case.stage in BEFORE_DATA and (cell != "451?" or heard.rcpt[case.place] != 250):
        assert_says(heard.rcpt[case.place], cell, case, several=False)
        assert_others_take_it(case, heard)
    elif case.stage == "end-of-data" and case.kind != "early reply":
        assert heard.data == 354
        assert_says(heard.end, cell, case, case.legs > 1)
        assert heard.has.count("message") == case.place and heard.has.count("end") == 1, "those before, and who failed"
        assert heard.has[heard.faulty] == "end"
    else:
        if case.stage == "DATA":
            assert heard.data != 354 and heard.end is None, "no 354 before every leg has one"
        assert_says(heard.last, cell, case, case.legs > 1)
        assert_nobody_has_it(case, heard)


@pytest.fixture(scope="module")
def played(request, ca):
    """All cases that were asked for, many at a time: {case: function that gives what was Heard}."""
    asked = asked_for(request)
    certificate = ca.issue("fault.test")
    with daemons() as start_daemon:
        stages = {}
        for number, name in enumerate(STAGES):
            cases = [case for case in asked if case.stage == name]
            if cases:
                stages[name] = Stage(name, cases, start_daemon, certificate, number)
        slow_first = sorted(asked, key=lambda case: case.kind != "silence")
        yield play_all({case: (lambda case=case: stages[case.stage].play(case)) for case in slow_first})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fault(played, case):
    assert_as_the_design_says(case, played[case]())


@pytest.mark.parametrize("case", OPENED_AGAIN, ids=str)
def test_a_connection_lost_before_354_is_opened_again(played, case):
    assert_as_the_design_says(case, played[case]())
