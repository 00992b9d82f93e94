"""MAIL, RCPT and HELO, row by row: what is answered, and what of it an upstream is told (design: sections 4, 5 and 9)."""

import re

import pytest

from splitmx_test.daemon import Daemon
from splitmx_test.messages import assert_relayed, message
from splitmx_test.upstream import EXTENSIONS, ScriptedUpstream, reply

GOOD = "user@example.com"
MAIL_OK, RCPT_OK = "250 2.1.0", "250 2.1.5"
SYNTAX, UNKNOWN, TOO_BIG = "501 5.5.4", "555 5.5.4", "552 5.3.4"
BAD_SENDER, BAD_RCPT, NOT_HERE, NOT_ASCII = "501 5.1.7", "501 5.1.3", "550 5.7.1", "553 5.6.7"
LIMIT = 50 * 1024 * 1024


@pytest.fixture(scope="module")
def town():
    with ScriptedUpstream("local.test", extensions=(*EXTENSIONS, "DSN", "AUTH PLAIN", "SMTPUTF8", "CHUNKING")) as local:
        with Daemon(relays={"local": {"next-hop": local.next_hop}}, workers=1, timeouts={"pool-idle": "0s"},
                    routes={"example.com": "local", "xn--bcher-kva.test": "local", "postmaster@mx.splitmx.test": "local",
                            "user@[192.0.2.1]": "local", "user@[IPv6:2001:db8::1]": "local"}) as daemon:
            yield daemon, local


@pytest.fixture
def ask(town):
    """ask(line...): the replies to these commands, and the envelopes that the upstream was told until then, with GOOD behind them."""
    daemon, local = town
    local.forget()

    def ask(*lines, then=()):
        with daemon.client() as client:
            replies = [client.cmd(line) for line in lines]
            for line in then:
                assert client.cmd(line).code == 250, line
            assert client.cmd("NOOP") == 250, "the session goes on"
        return replies[-1], [line for line in local.commands() if line[:5].upper() in (b"MAIL ", b"RCPT ")]

    return ask


def octets(text):
    """As a client may send it: characters as UTF-8, `\\udcXX` as the octet XX."""
    return text.encode("utf-8", "surrogateescape")


def name_of(row):
    text = repr(row)[1:-1]
    return text if len(text) < 70 else f"{text[:40]}... {len(text)}"


def rows(table):
    return pytest.mark.parametrize("argument, answer, told", table, ids=[name_of(row[0]) for row in table])


# ---- MAIL ----

# What follows MAIL, the answer, and what the upstream is told between MAIL and the end of the line (None: nothing).
LOCAL_308, DOMAIN_243 = "l" * 308, ".".join(["d" * 60] * 4)
SENDERS = [
    (" FROM:<a@client.test>", MAIL_OK, "FROM:<a@client.test>"),
    (" FROM:<>", MAIL_OK, "FROM:<>"),
    # blanks
    (" from:<a@client.test>", MAIL_OK, "FROM:<a@client.test>"), ("  FROM:<a@client.test>", MAIL_OK, "FROM:<a@client.test>"),
    ("\tFROM:<a@client.test>", MAIL_OK, "FROM:<a@client.test>"), (" FROM: <a@client.test>", MAIL_OK, "FROM:<a@client.test>"),
    (" FROM:  \t<a@client.test>", MAIL_OK, "FROM:<a@client.test>"), (" FROM:<a@client.test> \t ", MAIL_OK, "FROM:<a@client.test>"),
    (" FROM :<a@client.test>", SYNTAX, None), (" FROM:< a@client.test>", SYNTAX, None), (" FROM:<a@client.test >", SYNTAX, None),
    (" FROM:<a b@client.test>", SYNTAX, None), (" FROM:< >", SYNTAX, None),
    # brackets
    ("", SYNTAX, None), (" FROM", SYNTAX, None), (" FROM:", SYNTAX, None), (" FROM:a@client.test", SYNTAX, None),
    (" FROM a@client.test", SYNTAX, None), (" FROM <a@client.test>", SYNTAX, None), (" <a@client.test>", SYNTAX, None),
    (" TO:<a@client.test>", SYNTAX, None), (" FROM:<a@client.test", SYNTAX, None), (" FROM:a@client.test>", SYNTAX, None),
    (" FROM:<<a@client.test>>", SYNTAX, None), (" FROM:<a@client.test>>", SYNTAX, None), (" FROM:[a@client.test]", SYNTAX, None),
    (' FROM:"A" <a@client.test>', SYNTAX, None), (" FROM:(A) <a@client.test>", SYNTAX, None),
    # behind them
    (" FROM:<a@client.test>x", SYNTAX, None), (" FROM:<a@client.test>SIZE=1", SYNTAX, None), (" FROM:<a@client.test>;", SYNTAX, None),
    (" FROM:<a@client.test> <b@client.test>", SYNTAX, None), (" FROM:<a@client.test>,<b@client.test>", SYNTAX, None),
    (" FROM:<a@client.test> RCPT TO:<user@example.com>", UNKNOWN, None),
    # addresses
    (" FROM:<@relay.test:a@client.test>", MAIL_OK, "FROM:<a@client.test>"),
    (" FROM:<@relay.test,@[192.0.2.1]:a@client.test>", MAIL_OK, "FROM:<a@client.test>"),
    (" FROM:<@relay.test>", BAD_SENDER, None), (" FROM:<@relay.test:>", BAD_SENDER, None), (" FROM:<@:a@client.test>", BAD_SENDER, None),
    (" FROM:<a%b@client.test>", MAIL_OK, "FROM:<a%b@client.test>"), (" FROM:<b!a@client.test>", MAIL_OK, "FROM:<b!a@client.test>"),
    (' FROM:<"a@b"@client.test>', MAIL_OK, 'FROM:<"a@b"@client.test>'), (' FROM:<"a> b"@client.test>', MAIL_OK, 'FROM:<"a> b"@client.test>'),
    (" FROM:<a@b@client.test>", BAD_SENDER, None), (" FROM:<a>", BAD_SENDER, None), (" FROM:<a@>", BAD_SENDER, None),
    (" FROM:<Postmaster>", MAIL_OK, "FROM:<Postmaster>"), (" FROM:<a@client.test.>", BAD_SENDER, None), (" FROM:<a@.>", BAD_SENDER, None),
    (" FROM:<a@[192.0.2.1]>", MAIL_OK, "FROM:<a@[192.0.2.1]>"), (" FROM:<a@[IPv6:2001:db8::1]>", MAIL_OK, "FROM:<a@[IPv6:2001:db8::1]>"),
    (" FROM:<a@[2001:db8::1]>", BAD_SENDER, None), (" FROM:<a@[300.0.2.1]>", BAD_SENDER, None), (" FROM:<a@[]>", BAD_SENDER, None),
    (" FROM:<a@[x.test]>", BAD_SENDER, None), (" FROM:<a@xn--bcher-kva.test>", MAIL_OK, "FROM:<a@xn--bcher-kva.test>"),
    # not ASCII, and no characters at all
    (" FROM:<a@b\u00fccher.test>", NOT_ASCII, None), (" FROM:<\u212aing@client.test>", NOT_ASCII, None),
    (" FROM:<a\u200b@client.test>", NOT_ASCII, None), (" FROM:<\ufeffa@client.test>", NOT_ASCII, None),
    (" FROM:<\udcff@client.test>", NOT_ASCII, None), (" FROM:<\udc9b31m@client.test>", NOT_ASCII, None), (' FROM:<"\u00e9"@client.test>', NOT_ASCII, None),
    (" FROM:<a\x01@client.test>", SYNTAX, None), (' FROM:<"\x1b[31m"@client.test>', SYNTAX, None), (' FROM:<"\\\x7f"@client.test>', SYNTAX, None),
    (' FROM:<"a\tb"@client.test>', SYNTAX, None), (" FROM:<a\rb@client.test>", "500 5.5.2", None), (" FROM:<a\0b@client.test>", "500 5.5.2", None),
    # lengths
    (f" FROM:<{'l' * 65}@client.test>", MAIL_OK, f"FROM:<{'l' * 65}@client.test>"),
    (f" FROM:<{LOCAL_308}@client.test>", MAIL_OK, f"FROM:<{LOCAL_308}@client.test>"), (f" FROM:<{LOCAL_308}l@client.test>", BAD_SENDER, None),
    (f" FROM:<a@{DOMAIN_243}>", MAIL_OK, f"FROM:<a@{DOMAIN_243}>"), (f" FROM:<a@{DOMAIN_243}.{'e' * 12}>", BAD_SENDER, None),
    (f" FROM:<a@{'d' * 63}.test>", MAIL_OK, f"FROM:<a@{'d' * 63}.test>"), (f" FROM:<a@{'d' * 64}.test>", BAD_SENDER, None),
    (f" FROM:<{'l' * 3000}@client.test>", "500 5.5.2", None),
]

# Parameters of MAIL.
PARAMETERS = [
    ("SIZE=1000", MAIL_OK, " SIZE=1000"), ("size=1000", MAIL_OK, " SIZE=1000"), ("SIZE=0", MAIL_OK, ""), (f"SIZE={LIMIT}", MAIL_OK, f" SIZE={LIMIT}"),
    ("SIZE=00000000000000001000", MAIL_OK, " SIZE=1000"), ("SIZE=000000000000000001000", SYNTAX, None),
    (f"SIZE={LIMIT + 1}", TOO_BIG, None), ("SIZE=4294967297000", TOO_BIG, None), ("SIZE=18446744073709551616", TOO_BIG, None),
    ("SIZE=18446744073709552616", TOO_BIG, None), ("SIZE=99999999999999999999", TOO_BIG, None),
    ("SIZE", SYNTAX, None), ("SIZE=", SYNTAX, None), ("SIZE= 1", SYNTAX, None), ("SIZE=-1", SYNTAX, None), ("SIZE=+1", SYNTAX, None),
    ("SIZE=0x10", SYNTAX, None), ("SIZE=1e3", SYNTAX, None), ("SIZE=1K", SYNTAX, None), ("SIZE=1.5", SYNTAX, None), ("SIZE=1,2", SYNTAX, None),
    ("SIZE=\u0661", SYNTAX, None), ("SIZE=1 SIZE=1", SYNTAX, None), ("SIZE=1 BODY=7BIT size=2", SYNTAX, None),
    ("BODY=7BIT", MAIL_OK, ""), ("BODY=8BITMIME", MAIL_OK, " BODY=8BITMIME"), ("body=8BitMime", MAIL_OK, " BODY=8BITMIME"),
    ("SIZE=1000 BODY=8BITMIME", MAIL_OK, " SIZE=1000 BODY=8BITMIME"), ("BODY=8BITMIME\tSIZE=1000", MAIL_OK, " SIZE=1000 BODY=8BITMIME"),
    ("BODY=BINARYMIME", SYNTAX, None), ("BODY=8BIT", SYNTAX, None), ("BODY=", SYNTAX, None), ("BODY", SYNTAX, None),
    ("BODY=7BIT BODY=8BITMIME", SYNTAX, None),
    # what is not offered, though the upstream offers it; none of its values is decoded for anybody
    ("RET=HDRS", UNKNOWN, None), ("RET=FULL", UNKNOWN, None), ("ENVID=QQ314159", UNKNOWN, None), ("ENVID=a+0D+0AQUIT", UNKNOWN, None),
    ("ENVID=+0", UNKNOWN, None), ("ENVID=+0a", UNKNOWN, None), ("AUTH=<>", UNKNOWN, None), ("AUTH=a+40client.test", UNKNOWN, None),
    ("AUTH=a+0D+0ARCPT+20TO:<x@elsewhere.test>", UNKNOWN, None), ("SMTPUTF8", UNKNOWN, None), ("smtputf8", UNKNOWN, None),
    ("SMTPUTF8 BODY=8BITMIME", UNKNOWN, None), ("REQUIRETLS", UNKNOWN, None), ("BY=120;R", UNKNOWN, None), ("MT-PRIORITY=9", UNKNOWN, None),
    ("HOLDFOR=1", UNKNOWN, None), ("NOTIFY=NEVER", UNKNOWN, None), ("X-ANY", UNKNOWN, None), ("SIZES=1", UNKNOWN, None),
    # no parameters
    ("=1", SYNTAX, None), ("-A=1", SYNTAX, None), ("A_B=1", SYNTAX, None), ("A==1", SYNTAX, None), ("A=1=2", SYNTAX, None), (",", SYNTAX, None),
    ("A=", SYNTAX, None), ("A=\x01", SYNTAX, None), ("A=\x7f", SYNTAX, None), ("\u00c4=1", SYNTAX, None), ("A=1\rB", "500 5.5.2", None),
]


@rows(SENDERS + [(f" FROM:<a@client.test> {words}", answer, None if told is None else f"FROM:<a@client.test>{told}")
                 for words, answer, told in PARAMETERS])
def test_mail(ask, argument, answer, told):
    line = b"MAIL" + octets(argument)
    if told is None:
        said, commands = ask(line)
        assert said == answer, said
        assert commands == []
    else:
        said, commands = ask(line, then=[f"RCPT TO:<{GOOD}>"])
        assert said == answer, said
        assert commands == [b"MAIL " + octets(told), f"RCPT TO:<{GOOD}>".encode()]


@pytest.mark.parametrize("parameters, said", [
    ("SIZE=1K", "SIZE takes a number of octets"), ("BODY=BINARYMIME", "BODY takes 7BIT or 8BITMIME"),
    ("SIZE=1 BODY=7BIT body=7BIT", "BODY takes"), ("BODY=7BIT smtputf8=yes", "SMTPUTF8 takes no value"), ("A==1", "Syntax: MAIL FROM:"),
])
def test_the_parameter_that_is_wrong_is_named(split, parameters, said):
    with split.client() as client:
        answer = client.mail(parameters=parameters)
        assert answer == SYNTAX and f"{SYNTAX} {said}" in answer.wire.decode(), answer


# ---- RCPT ----

RECIPIENTS = [
    (" TO:<user@example.com>", RCPT_OK, "user@example.com"), (" TO:<USER@Example.COM>", RCPT_OK, "USER@Example.COM"),
    (" to: <user@example.com> ", RCPT_OK, "user@example.com"), ("\tTO:\t<user@example.com>", RCPT_OK, "user@example.com"),
    ("", SYNTAX, None), (" TO", SYNTAX, None), (" TO:", SYNTAX, None), (" TO:user@example.com", SYNTAX, None), (" user@example.com", SYNTAX, None),
    (" TO:<user@example.com", SYNTAX, None), (" TO:user@example.com>", SYNTAX, None), (" TO:<<user@example.com>>", SYNTAX, None),
    (" TO:< user@example.com>", SYNTAX, None), (" TO:<user@example.com >", SYNTAX, None), (" TO:<us er@example.com>", SYNTAX, None),
    (" FROM:<user@example.com>", SYNTAX, None), (" TO:<user@example.com>x", SYNTAX, None), (" TO:<user@example.com>,<x@elsewhere.test>", SYNTAX, None),
    (" TO:<user@example.com> <x@elsewhere.test>", SYNTAX, None), (" TO:<user@example.com>, <x@elsewhere.test>", SYNTAX, None),
    # nobody
    (" TO:<>", BAD_RCPT, None), (" TO:<user>", BAD_RCPT, None), (" TO:<@example.com>", BAD_RCPT, None), (" TO:<user@>", BAD_RCPT, None),
    (" TO:<@>", BAD_RCPT, None), (" TO:<.>", BAD_RCPT, None),
    # postmaster
    (" TO:<postmaster>", RCPT_OK, "postmaster"), (" TO:<POSTMASTER>", RCPT_OK, "POSTMASTER"), (" TO:<PostMaster>", RCPT_OK, "PostMaster"),
    (" TO:<postmaster@example.com>", RCPT_OK, "postmaster@example.com"), (" TO:<Postmaster@EXAMPLE.com>", RCPT_OK, "Postmaster@EXAMPLE.com"),
    (" TO:<postmaster@mx.splitmx.test>", RCPT_OK, "postmaster@mx.splitmx.test"), (" TO:<user@mx.splitmx.test>", NOT_HERE, None),
    (" TO:<postmaster@elsewhere.test>", NOT_HERE, None), (" TO:<postmasters>", BAD_RCPT, None), (' TO:<"postmaster">', BAD_RCPT, None),
    (" TO:<postmaster@>", BAD_RCPT, None), (" TO:<@relay.test:postmaster>", RCPT_OK, "postmaster"),
    # source routes
    (" TO:<@relay.test:user@example.com>", RCPT_OK, "user@example.com"),
    (" TO:<@relay.test,@[192.0.2.9],@b.test:user@example.com>", RCPT_OK, "user@example.com"),
    (" TO:<@example.com:user@elsewhere.test>", NOT_HERE, None), (" TO:<@relay.test,user@example.com>", BAD_RCPT, None),
    (" TO:<@relay.test user@example.com>", SYNTAX, None), (" TO:<@relay.test:@b.test:user@example.com>", BAD_RCPT, None),
    (" TO:<@:user@example.com>", BAD_RCPT, None), (" TO:<@relay..test:user@example.com>", BAD_RCPT, None),
    (" TO:<relay.test:user@example.com>", BAD_RCPT, None), (" TO:<@relay.test:user%elsewhere.test@example.com>", NOT_HERE, None),
    # other ways to say it
    (" TO:<user%elsewhere.test@example.com>", NOT_HERE, None), (" TO:<user%elsewhere.test>", BAD_RCPT, None),
    (" TO:<elsewhere.test!user@example.com>", NOT_HERE, None), (" TO:<elsewhere.test!user>", BAD_RCPT, None),
    (" TO:<user@elsewhere.test@example.com>", NOT_HERE, None), (" TO:<user@example.com@elsewhere.test>", NOT_HERE, None),
    (" TO:<@user@example.com>", BAD_RCPT, None), (" TO:<user@@example.com>", NOT_HERE, None),
    (' TO:<"user@elsewhere.test"@example.com>', NOT_HERE, None), (' TO:<"user\\@elsewhere.test"@example.com>', NOT_HERE, None),
    (' TO:<"user%elsewhere.test"@example.com>', NOT_HERE, None), (' TO:<"elsewhere.test!user"@example.com>', NOT_HERE, None),
    (' TO:<user"@elsewhere.test"@example.com>', BAD_RCPT, None), (' TO:<"user"@elsewhere.test"@example.com>', SYNTAX, None),
    # quotes
    (' TO:<"user"@example.com>', RCPT_OK, '"user"@example.com'), (' TO:<"\\u\\s\\e\\r"@example.com>', RCPT_OK, '"\\u\\s\\e\\r"@example.com'),
    (' TO:<"a b"@example.com>', RCPT_OK, '"a b"@example.com'), (' TO:<"a>b"@example.com>', RCPT_OK, '"a>b"@example.com'),
    (' TO:<"a\\"b"@example.com>', RCPT_OK, '"a\\"b"@example.com'), (' TO:<"user"x@example.com>', BAD_RCPT, None),
    (' TO:<"a"."b"@example.com>', BAD_RCPT, None), (' TO:<""@example.com>', BAD_RCPT, None), (' TO:<"user@example.com>', SYNTAX, None),
    (' TO:<"user\\"@example.com>', SYNTAX, None), (' TO:<us"er@example.com>', SYNTAX, None), (" TO:<us\\er@example.com>", BAD_RCPT, None),
    # characters
    (" TO:<user(c)@example.com>", BAD_RCPT, None), (" TO:<user@example.com(c)>", BAD_RCPT, None), (" TO:<user,x@example.com>", BAD_RCPT, None),
    (" TO:<user;x@example.com>", BAD_RCPT, None), (" TO:<user:x@example.com>", BAD_RCPT, None), (" TO:<[user]@example.com>", BAD_RCPT, None),
    (" TO:<.user@example.com>", RCPT_OK, ".user@example.com"), (" TO:<us..er.@example.com>", RCPT_OK, "us..er.@example.com"),
    (" TO:<-user@example.com>", RCPT_OK, "-user@example.com"), (" TO:<user=elsewhere.test@example.com>", RCPT_OK, "user=elsewhere.test@example.com"),
    (" TO:<|id@example.com>", RCPT_OK, "|id@example.com"), (" TO:</etc/passwd@example.com>", RCPT_OK, "/etc/passwd@example.com"),
    (" TO:<\x01@example.com>", SYNTAX, None), (' TO:<"\x1b[31m"@example.com>', SYNTAX, None), (" TO:<user@exam\rple.com>", "500 5.5.2", None),
    (" TO:<user@example.com\0.elsewhere.test>", "500 5.5.2", None),
    # domains
    (" TO:<user@com>", NOT_HERE, None), (" TO:<user@sub.example.com>", NOT_HERE, None), (" TO:<user@xexample.com>", NOT_HERE, None),
    (" TO:<user@example.com.elsewhere.test>", NOT_HERE, None), (" TO:<user@example.com.>", BAD_RCPT, None), (" TO:<user@.example.com>", BAD_RCPT, None),
    (" TO:<user@example..com>", BAD_RCPT, None), (" TO:<user@exam_ple.com>", NOT_HERE, None), (" TO:<user@example.com:25>", BAD_RCPT, None),
    (" TO:<user@example.com/x>", BAD_RCPT, None), (" TO:<user@example.com;x>", BAD_RCPT, None), (" TO:<user@example.com%00>", BAD_RCPT, None),
    (" TO:<user@*>", BAD_RCPT, None), (" TO:<user@#3221225985>", BAD_RCPT, None),
    # address literals: only the key that spells one
    (" TO:<user@[192.0.2.1]>", RCPT_OK, "user@[192.0.2.1]"), (" TO:<user@[192.0.2.2]>", NOT_HERE, None), (" TO:<x@[192.0.2.1]>", NOT_HERE, None),
    (" TO:<user@192.0.2.1>", NOT_HERE, None), (" TO:<user@[192.0.2.01]>", BAD_RCPT, None), (" TO:<user@[192.0.513]>", BAD_RCPT, None),
    (" TO:<user@[0xC0000201]>", BAD_RCPT, None), (" TO:<user@[127.0.0.1]>", NOT_HERE, None), (" TO:<user@[IPv6:2001:DB8::1]>", RCPT_OK, "user@[IPv6:2001:DB8::1]"),
    (" TO:<user@[IPv6:2001:db8:0::1]>", NOT_HERE, None), (" TO:<user@[IPv6:::ffff:192.0.2.1]>", NOT_HERE, None), (" TO:<user@[::1]>", BAD_RCPT, None),
    (" TO:<user@[IPv6:192.0.2.1]>", BAD_RCPT, None), (" TO:<user@[example.com]>", BAD_RCPT, None), (" TO:<user@[192.0.2.1>", BAD_RCPT, None),
    (" TO:<user@[192.0.2.1].example.com>", BAD_RCPT, None), (" TO:<user@[IPv6:fe80::1%lo]>", BAD_RCPT, None),
    # what looks like it: folded are A to Z only, and nothing is turned into xn-- or back
    (" TO:<user@xn--bcher-kva.test>", RCPT_OK, "user@xn--bcher-kva.test"), (" TO:<user@XN--BCHER-KVA.test>", RCPT_OK, "user@XN--BCHER-KVA.test"),
    (" TO:<user@b\u00fccher.test>", NOT_ASCII, None), (" TO:<user@xn--exmple-cua.com>", NOT_HERE, None), (" TO:<\u212aing@example.com>", NOT_ASCII, None),
    (" TO:<u\u017fer@example.com>", NOT_ASCII, None), (" TO:<us\u200ber@example.com>", NOT_ASCII, None), (" TO:<user@example\u200d.com>", NOT_ASCII, None),
    (" TO:<user@exam\u00adple.com>", NOT_ASCII, None), (" TO:<user@ex\u0430mple.com>", NOT_ASCII, None), (" TO:<user@example\u3002com>", NOT_ASCII, None),
    (" TO:<user@\uff45xample.com>", NOT_ASCII, None), (" TO:<user\uff20example.com>", NOT_ASCII, None), (" TO:<\u202euser@example.com>", NOT_ASCII, None),
    (" TO:<user@example.com\udcc0\udcae>", NOT_ASCII, None), (" TO:<\udc80@example.com>", NOT_ASCII, None), (" TO:<postmaster\u200b>", NOT_ASCII, None),
    # lengths
    (f" TO:<{'l' * 65}@example.com>", RCPT_OK, f"{'l' * 65}@example.com"), (f" TO:<{LOCAL_308}@example.com>", RCPT_OK, f"{LOCAL_308}@example.com"),
    (f" TO:<{LOCAL_308}l@example.com>", BAD_RCPT, None), (f" TO:<user@{DOMAIN_243}>", NOT_HERE, None),
    (f" TO:<user@{DOMAIN_243}.{'e' * 12}>", BAD_RCPT, None), (f" TO:<user@{'d' * 64}.test>", BAD_RCPT, None),
    (f" TO:<{'@relay.test,' * 100}@relay.test:user@example.com>", RCPT_OK, "user@example.com"), (f" TO:<{'l' * 3000}@example.com>", "500 5.5.2", None),
    # parameters: there are none
    (" TO:<user@example.com> NOTIFY=NEVER", UNKNOWN, None), (" TO:<user@example.com> ORCPT=rfc822;user@example.com", UNKNOWN, None),
    (" TO:<user@example.com> ORCPT=rfc822;a+0D+0AQUIT", UNKNOWN, None), (" TO:<user@example.com> NOTIFY=SUCCESS ORCPT=utf-8;\\x{212A}", UNKNOWN, None),
    (" TO:<user@example.com> SIZE=1", UNKNOWN, None), (" TO:<user@example.com> SMTPUTF8", UNKNOWN, None), (" TO:<user@example.com> X", UNKNOWN, None),
    (" TO:<user@example.com> =", SYNTAX, None), (" TO:<user@example.com> A=\x01", SYNTAX, None), (" TO:<x@elsewhere.test> NOTIFY=NEVER", UNKNOWN, None),
]


@rows(RECIPIENTS)
def test_rcpt(ask, argument, answer, told):
    said, commands = ask("MAIL FROM:<a@client.test>", b"RCPT" + octets(argument), then=[f"RCPT TO:<{GOOD}>"])
    assert said == answer, said
    asked = [] if told is None else [f"RCPT TO:<{told}>".encode()]
    assert commands == [b"MAIL FROM:<a@client.test>", *asked, f"RCPT TO:<{GOOD}>".encode()]


@pytest.mark.parametrize("line", [f"RCPTTO:<{GOOD}>", f"RCPT:<{GOOD}>", f"RCPT\u00a0TO:<{GOOD}>", "MAILFROM:<a@client.test>", " MAIL FROM:<a@client.test>",
                                  "MA\u0130L FROM:<a@client.test>", "SEND FROM:<a@client.test>", "SOML FROM:<a@client.test>", "SAML FROM:<a@client.test>"])
def test_verbs_are_spelled_in_one_way(ask, line):
    assert ask(line)[0] == "502 5.5.2"


# ---- HELO ----

# What follows EHLO, the answer, our Received field, what XCLIENT tells (as it is sent: xtext).
HELLOS = [
    ("client.test", 250, "client.test", "client.test"), ("CLIENT.test", 250, "CLIENT.test", "CLIENT.test"), ("localhost", 250, "localhost", "localhost"),
    ("[192.0.2.1]", 250, "[192.0.2.1]", "[192.0.2.1]"), ("[IPv6:2001:db8::1]", 250, "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    ("192.0.2.1", 250, "192.0.2.1", "192.0.2.1"), ("a_b", 250, "a_b", "a_b"), ("-x..", 250, "-x..", "-x.."), ("*", 250, "*", "+2A"),
    ("a(b)c", 250, "a?b?c", "a+28b+29c"), ('"q"', 250, "?q?", "+22q+22"), ("<x>", 250, "?x?", "+3Cx+3E"), ("a;b,c", 250, "a?b?c", "a+3Bb+2Cc"),
    ("a\\b", 250, "a?b", "a+5Cb"), ("a+0D+0Ab", 250, "a+0D+0Ab", "a+2B0D+2B0Ab"), ("ADDR=127.0.0.1", 250, "ADDR=127.0.0.1", "ADDR+3D127.0.0.1"),
    ("%s%n", 250, "%s%n", "+25s+25n"), ("a@b", 250, "a@b", "a+40b"), ("h" * 255, 250, "h" * 255, "h" * 255), ("+" * 100, 250, "+" * 100, "[UNAVAILABLE]"),
    ("  client.test  ", 250, "client.test", "client.test"),
    ("", SYNTAX, None, None), (" ", SYNTAX, None, None), ("h" * 256, SYNTAX, None, None), ("a b", SYNTAX, None, None), ("a\tb", SYNTAX, None, None),
    ("client.test SIZE=1", SYNTAX, None, None), ("b\u00fccher.test", SYNTAX, None, None), ("a\u200bb", SYNTAX, None, None), ("a\x01", SYNTAX, None, None),
    ("a\x1b[31m", SYNTAX, None, None), ("a\x7f", SYNTAX, None, None), ("\udc9b31m", SYNTAX, None, None), ("a\rb", "500 5.5.2", None, None),
    ("a\0b", "500 5.5.2", None, None),
]


@pytest.fixture(scope="module")
def identified():
    with ScriptedUpstream("local.test", extensions=(*EXTENSIONS, "XCLIENT NAME ADDR HELO")) as local:
        with Daemon(relays={"local": {"next-hop": local.next_hop, "identity": "xclient"}}, workers=1, routes={"example.com": "local"}) as daemon:
            yield daemon, local


@pytest.mark.parametrize("verb", ["EHLO", "HELO"])
@pytest.mark.parametrize("name, answer, traced, told", HELLOS, ids=[name_of(row[0]) for row in HELLOS])
def test_hello(identified, verb, name, answer, traced, told):
    daemon, local = identified
    local.forget()
    local.on("unknown", reply("220 local.test ESMTP"), when=lambda step: step.line.startswith(b"XCLIENT "))
    sent = message()
    with daemon.client(hello=None) as client:
        assert client.cmd(verb.encode() + b" " + octets(name)) == answer
        if answer != 250:
            assert client.mail() == "503 5.5.1"
            return
        assert client.send_mail(sent, GOOD) == 250
    field = assert_relayed(local.only_message().data, sent)
    assert re.fullmatch(re.escape(f"Received: from {traced} (") + r"\S+ \[127\.0\.0\.1\]\) by mx\.splitmx\.test \(splitmx\) with E?SMTP id .*", field), field
    xclient = b" ".join(line for line in local.commands() if line.startswith(b"XCLIENT ")).decode().split(" ")
    assert [word for word in xclient if word.startswith("HELO=")] == [f"HELO={told}"]
    assert f"EHLO {name.strip()}".encode() in local.commands()
