"""What is said of a wrong configuration, table or command line: what, where, and what to do. Nothing here is a mail server's matter."""

import os
import shutil

import pytest

from splitmx_test.daemon import splitmx

FINE = {
    "hostname": "mx.example.com",
    "domains": "[example.com]",
    "routes": "routes.yaml",
    "state-directory": "state",
    "listen": "[{address: '127.0.0.1:2525'}]",
    "relays": "{local: {next-hop: 'smtp:[127.0.0.1]:10025', identity: none}, kingmailer: {next-hop: 'smtp:[kingmailer.org]'}}",
}
ROUTES = "example.com: local\npostmaster@example.com: local\n"


def local(more="", next_hop="smtp:[127.0.0.1]:10025"):
    return f"{{local: {{next-hop: '{next_hop}', identity: none{more}}}}}"


# A key of the configuration, its value (None: whole lines in place of the key), what is said.
CONFIGURATION = [
    ("lisetn", "x", "7:1: unknown key `lisetn`; did you mean `listen`?"),
    ("timeout", "{}", "7:1: unknown key `timeout`; did you mean `timeouts`?"),
    ("frobnicate", "1", "7:1: unknown key `frobnicate`; the file takes hostname, domains,"),
    ("relays", local(", fallbak: gmail"), "unknown key `fallbak`; did you mean `fallback`?"),
    ("listen", "[{adress: '127.0.0.1:2525'}]", "5:11: unknown key `adress`; did you mean `address`?"),
    ("relays", local(", tls: verfy"), "`tls` must be none, may, encrypt or verify, not `verfy`; did you mean `verify`?"),
    ("relays", local(", tls: 'yes'"), "`tls` must be none, may, encrypt or verify, not `yes`"),
    ("relays", "{local: {next-hop: 'smtp:[127.0.0.1]', identity: xclinet}}", "not `xclinet`; did you mean `xclient`?"),
    ("log", "{level: warn}", "7:14: `level` must be error, warning, info or debug, not `warn`; did you mean `warning`?"),
    ("log", "{format: jsno}", "not `jsno`; did you mean `json`?"),
    ("split", "defered", "7:8: `split` must be together or defer, not `defered`; did you mean `defer`?"),
    ("split", "never", "`split` must be together or defer, not `never`\n"),
    ("listen", "[{address: '127.0.0.1:2525', tls: implict}]", "not `implict`; did you mean `implicit`?"),
    ("smtputf8", "ture", "`smtputf8` must be true or false, not `ture`"),
    ("workers", "many", "`workers` must be auto, or a whole number from 1 to 1024, not `many`"),
    ("relays", local(", fallback: gmial"), "no relay is named `gmial`; did you mean `gmail`?"),
    ("relays", local(", unknown-recipient: locl"), "no relay is named `locl`; did you mean `local`?"),
    ("relays", local(", fallback: elsewhere"), "no relay is named `elsewhere`; there are local and gmail"),
    ("relays", local(", fallback: kingmailer.org"), "`fallback` must be the name of one of `relays:`, or gmail, not `kingmailer.org`"),
    ("relays", local(", fallback: local"), "fallbacks from `local` lead back to it; a fallback is another relay"),
    ("relays", "{local: {}}", "6:10: relay `local` needs `next-hop`: where it is, such as smtp:[127.0.0.1]:10025"),
    ("relays", "{local: 'smtp:[127.0.0.1]'}", '`local` must be a mapping such as `{next-hop: "smtp:[127.0.0.1]:10025"}`'),
    ("relays", "[local]", "6:9: `relays` must be a mapping of names"),
    ("relays", "{smtp: {next-hop: 'smtp:[h.example]'}}", "`smtp` cannot be a relay's name; it means something else in routes"),
    ("relays", "\n- local: {next-hop: 'smtp:[127.0.0.1]'}", "7:1: `relays` must be a mapping of names, such as `local: {next-hop: \"smtp:[127.0.0.1]:10025\"}`, not a list (its entries begin with `-`)"),
    ("relays", "{'a b': {next-hop: 'smtp:[h.example]'}}", "`a b` cannot be a relay's name; use letters, digits, `-` and `_`"),
    ("relays", local(next_hop="127.0.0.1:10025"), "is no transport of a relay: expected `smtp:` with one or more next hops, such as `smtp:["),
    ("relays", local(next_hop="smtp:127.0.0.1"), "an address is written in brackets: [127.0.0.1]"),
    ("relays", local(next_hop="lmtp:[127.0.0.1]"), "`lmtp:` is no transport of a relay"),
    ("relays", local(next_hop="smtp:[127.0.0.1]:70000"), "`70000` is no port: expected a number from 1 to 65535"),
    ("relays", local(next_hop="smtp:[127.0.0.1"), "`[` without `]`: expected `[host]` or `[host]:port`"),
    ("relays", local(next_hop="smtp:[127.0.0.1]:2525"), "is one of our own listeners: mail would go round in a loop"),
    ("relays", "{local: {next-hop: smtp:[127.0.0.1]:25}}", "inside braces, text with `:`, `[` or `]` needs quotes"),
    ("relays", local(", max-connections: many"), "`max-connections` must be a whole number from 1 to 100000, not `many`"),
    ("relays", local(", hosts: [{host: a.example}]"), "`hosts` is for the relay `gmail` only"),
    ("relays", local(", tls: verify, ca-file: /nonexistent.pem"), "/nonexistent.pem cannot be opened: No such file"),
    ("timeouts", "{command: 5}", "7:21: `command: 5` has no unit; write 5s for seconds (units ms, s, m, h, d)"),
    ("timeouts", "{command: 5 minutes}", "7:21: `command: 5 minutes`: a time has the units ms, s, m, h, d; write 5m"),
    ("timeouts", "{command: 5M}", "`command: 5M`: a time has the units ms, s, m, h, d; write 5m"),
    ("timeouts", "{command: 5 weeks}", "`command` must be a time from 1ms to 1d, such as 30s"),
    ("timeouts", "{command: 99d}", "`command` must be a time from 1ms to 1d, such as 30s"),
    ("timeouts", "5m", "`timeouts` must be a mapping (`key: value` lines, indented) with keys such as `command`"),
    ("limits", "{message-size: 50MB}", "7:24: `message-size: 50MB`: a size has the units K, M, G; write 50M"),
    ("limits", "{message-size: 50 MiB}", "a size has the units K, M, G; write 50M"),
    ("limits", "{message-size: 50T}", "`message-size` must be a size from 1K to 64G, such as 50M"),
    ("limits", "{recipients: '10'}", "`recipients` must be a whole number from 1 to 100000, without quotes"),
    ("recipient-delimiter", "'++'", '`recipient-delimiter` must be one character such as "+", or "" for none'),
    ("hostname", "'mx example.com'", "1:11: `hostname` must be this host's name, such as mx.example.com"),
    ("domains", "[user@example.com]", "2:11: each entry of `domains` must be a domain such as example.com"),
    ("domains", "['*.example.com']", ".example.com (its subdomains)"),
    ("domains", "[]", "`domains` is an empty list; write at least one entry"),
    ("listen", "[{address: 25}]", '`address` must be an address and a port, such as "[::]:25"'),
    ("listen", "25", '`listen` must be a list of listeners, such as `- address: "[::]:25"`'),
    ("listen", "[{address: '127.0.0.1:2525', tls: may}]", "a listener with TLS needs `tls:` with `certificate` and `private-key`, at the left margin"),
    ("listen", "[{address: '127.0.0.1:2525', proxy-protocol: [10.0.0.0/33]}]", "must be a network such as 10.0.0.0/8"),
    ("listen", "[{address: '127.0.0.1:2525'}, {address: '127.0.0.1:2525'}]", "is already on line 5; an address is listened on once"),
    ("tls", "{certificate: a.pem}", "7:6: `tls` needs `private-key`: a file with the private key in PEM form"),
    ("tls", "{certificate: a.pem, private-key: b.pem, minimum-version: 1.1}", '`minimum-version` must be "1.2" or "1.3", not `1.1`'),
    ("routes", "rotes.yaml", "3:9: routes {folder}/rotes.yaml cannot be read: No such file or directory"),
    ("routes", "[routes.yaml, ./routes.yaml, routes.yaml]", "3:38: routes {folder}/routes.yaml is named twice; it is already on line 3"),
    ("routes", "{example.com: local}", "3:9: `routes` must be a list, each entry a file's path, such as routes.yaml (what is here goes into such a file), not a mapping"),
    ("routes", "hash:/etc/postfix/transport", "routes are text: name the text that the table is made from, or what `postmap -s TYPE:FILE | splitmx import -"),
    ("dns", "{servers: [localhost]}", "must be a name server's address and port, such as \"127.0.0.1:53\", not `localhost`"),
    ("hostname", "&a mx.example.com", "anchors (`&a`) are not accepted; write the value out"),
    (None, "hostname: again.example.com", "7:1: duplicate key `hostname`; it is already on line 1"),
    (None, "\tx: 1", "indent with spaces, not with tabs"),
    (None, "---\na: b", "a second document begins here; only one is read"),
    (None, "just words", "7:1: expected `key: value`, found text without a `:` behind it"),
]

# A route, what is said.
IN_YAML = [
    ("a@example.com: lcoal", "3:16: no relay is named `lcoal`; did you mean `local`?"),
    ("a@example.com: uucp", "3:16: no relay is named `uucp`; there are local, kingmailer and gmail"),
    ("a@example.com: kingmailer.org", "3:16: no relay is named `kingmailer.org`; a host is written `smtp:[kingmailer.org]`"),
    ("a@example.com: {to: local, fallback: gmal}", "3:38: no relay is named `gmal`; did you mean `gmail`?"),
    ("a@example.com: {to: local, unknown-recipient: kingmail}", "3:47: no relay is named `kingmail`; did you mean `kingmailer`?"),
    ("a@example.com: {to: local, fallback: \"smtp:[x.example]\"}", "3:39: here stands the name of a relay: give the next hop `smtp:[x.example]` one under `relays:`"),
    ("a@example.com: user@gmail.com", "3:16: no address is rewritten here: say which relay takes this mail, and forward to `user@gmail.com` there"),
    ("a@example.com: {to: local, fallbck: gmail}", "3:28: unknown key `fallbck`; did you mean `fallback`?"),
    ("a@example.com: {fallback: gmail}", "3:16: no `to:` here: expected a destination"),
    ("a@example.com: smpt:[h.example]", "3:16: transport `smpt:` is not known here; did you mean `smtp:`?"),
    ("a@example.com: relay:[h.example]", "transport `relay:` is not known here: expected `smtp:`, which says the same"),
    ("a@example.com: h.example:25", "a host is written `smtp:[h.example]:25`"),
    ("a@example.com: reject:no", "transport `reject:` is not known here: expected `smtp:`, `error:`, `retry:` or `discard:`"),
    ("a@example.com: smtp:[h.example", "3:21: `[` without `]`: expected `[host]` or `[host]:port`"),
    ("a@example.com: 'smtp:[h.example]; smtp:[i.example]'", "expected `:port` or nothing after `]`, or a comma and another next hop"),
    ("a@example.com: retry:5.1.1 x", "a status for `retry:` begins with 4. (`error:` refuses with 5.)"),
    ("a@example.com: [h.example]", "not a list; a host in brackets has its transport before it, smtp:[host]"),
    ("a@example.com:", "3:15: nothing is here: expected a destination"),
    ("a@example.com: error: x", '3:16: `error` is written with a colon, and in quotes: "error:…"'),
    ("*: local", '3:2: text that begins with `*` or `&` needs quotes: "*"'),
    ("'*': 'smtp:'", "3:7: `smtp:` needs a next hop under `*`, or mail would go anywhere"),
    ("'@example.com': local", "3:1: a whole domain is written without `@`: `example.com`"),
    ("'/x/': local", "3:1: regular expressions are not read here: expected an address or a domain"),
    ("Example.com: local", "3:1: duplicate pattern `example.com`; it is already at {folder}/routes.yaml:1:1"),
    ("a@example.com smtp:[h.example]", "3:1: expected `key: value`, found text without a `:` behind it"),
]
IN_A_MAP = [
    ("a@example.com lcoal", "1:15: no relay is named `lcoal`; did you mean `local`?"),
    ("a@example.com smpt:[h]", "1:15: transport `smpt:` is not known here; did you mean `smtp:`?"),
    ("a@example.com local:", "transport `local:` is not known here: expected `smtp:`, `relay:`, `error:`, `retry:` or `discard:`"),
    ("a@example.com [h.example]", "1:15: a next hop is written with its transport: `smtp:[…]`"),
    ("a@example.com", "1:1: no destination for `a@example.com`: expected a blank behind it and a transport"),
    ("a@example.com: local", "1:14: a colon behind the pattern, as in YAML: a file of YAML is named *.yaml"),
    ("a@example.com|{SHA}SECRET", "`splitmx import --accounts FILE` makes routes of it"),
    ("a@example.com:{SHA}SECRET:1:1::/:", "`splitmx import --accounts FILE` makes routes of it"),
    ("a@example.com |{SHA}SECRET", "`splitmx import --accounts FILE` makes routes of it"),
    ("a@example.com local # ours", "1:21: a comment stands on a line of its own"),
    ("a@example.com smtp:[h.example] # ours", "1:32: a comment stands on a line of its own"),
    ("/x/ local", "1:1: regular expressions are not read here: expected an address or a domain"),
]
COMMAND_LINES = [
    ("reoute", 'there is no command "reoute": did you mean "route"?'),
    ("chekc -c x", 'did you mean "check"?'),
    ("frob", 'there is no command "frob"\nsplitmx --help lists the commands'),
    ("help", "did you mean --help?"),
    ("version", "did you mean --version?"),
    ("--hlep", "there is no option --hlep: did you mean --help?"),
    ("-c x check", "options stand behind it, as in splitmx check -c FILE"),
    ("start", "`run` serves, in the foreground"),
    ("stop", "SIGTERM ends the daemon"),
    ("restart", '"reload" takes changed files into service'),
    ("check --confg x", "there is no option --confg: did you mean --config?"),
    ("check -x", "there is no option -x\nusage: splitmx check [-c FILE]"),
    ("check -c", "-c needs a value"),
    ("route -x@y", "there is no option -x: an address that begins with a hyphen has -- in front, as in -- -x@y"),
    ("check --config=", "the name of the configuration is empty"),
    ("check splitmx.yaml", "a configuration is named by -c, as in -c splitmx.yaml"),
    ("route", "an ADDRESS is missing\nusage: splitmx route"),
    ("import", "the FILE to be read is missing"),
    ("import --virtal x", "there is no option --virtal: did you mean --virtual?"),
    ("import --accounts --virtual x", "--accounts and --virtual exclude each other"),
    ("import --to smtp x", '--to: `smtp` is written with a colon, and in quotes: "smtp:…"'),
    ("import --to nosuch@x y", "--to: `nosuch@x` cannot be a relay's name; that has letters, digits, `-` and `_`"),
    ("import --to kingmailer.org y", "--to: `kingmailer.org` cannot be a relay's name; that has letters, digits, `-` and `_`, and a host is written smtp:[host]"),
]


def test_of_a_configuration_that_is_not_there(tmp_path):
    for command in ("run", "check", "reload", "status"):
        result = splitmx(command, "-c", tmp_path / "none.yaml")
        assert result.status == 78, result
        assert result.err == f"{tmp_path}/none.yaml: cannot be opened: there is no such file; -c FILE names another\n"


def checked(folder, configuration, yaml=ROUTES, transports=None):
    (folder / "splitmx.yaml").write_text(configuration)
    if yaml is not None:
        (folder / "routes.yaml").write_text(yaml)
    if transports is not None:
        (folder / "transports").write_text(transports + "\n")
    result = splitmx("check", "-c", "splitmx.yaml", cwd=folder, user="nobody" if os.geteuid() == 0 else None)
    assert result.status == 78 and "SECRET" not in result.err, result
    return result.err


def lines(**changed):
    """A key with the value None is left out."""
    return "".join(f"{key}: {value}\n" for key, value in {**FINE, **changed}.items() if value is not None)


@pytest.mark.parametrize("key, value, said", CONFIGURATION, ids=lambda v: str(v)[:40])
def test_of_a_configuration(reachable_folder, key, value, said):
    text = lines(**{key: value}) if key else lines() + value + "\n"
    told = checked(reachable_folder, text)
    assert said.replace("{folder}", str(reachable_folder)) in told, told
    assert any(line.startswith("splitmx.yaml:") for line in told.splitlines()), told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_of_the_user_to_become(reachable_folder):
    configuration = reachable_folder / "splitmx.yaml"
    (reachable_folder / "routes.yaml").write_text(ROUTES)
    configuration.write_text(lines(user="'65533'"))
    result = splitmx("check", "-c", "splitmx.yaml", cwd=reachable_folder)
    assert result.status == 78 and "splitmx.yaml:7:7: `user` is a user's name, such as splitmx, and no number" in result.err, result
    configuration.write_text(lines(user="nobody"))
    configuration.chmod(0o600)
    result = splitmx("check", "-c", "splitmx.yaml", cwd=reachable_folder)
    assert result.status == 78 and result.err.startswith(
        f"splitmx.yaml: nobody, the user that splitmx runs as, cannot read {configuration}: chgrp nogroup"), result


def test_of_routes_that_no_key_names(reachable_folder):
    told = checked(reachable_folder, lines(routes=None), yaml=None)
    assert f"splitmx.yaml: routes {reachable_folder}/routes.yaml cannot be read: No such file or directory; no `routes:` names another" in told, told


def test_of_routes_that_are_missing_beside_another_error(reachable_folder):
    told = checked(reachable_folder, lines(routes="gone.yaml", hostname="'mx example.com'"))
    assert f"splitmx.yaml:3:9: routes {reachable_folder}/gone.yaml cannot be read: No such file or directory" in told, told
    assert told.count("gone.yaml") == 1, told


@pytest.mark.parametrize("route, said", IN_YAML, ids=lambda v: v[:40])
def test_of_routes(reachable_folder, route, said):
    told = checked(reachable_folder, lines(), ROUTES + route + "\n")
    assert said.replace("{folder}", str(reachable_folder)) in told and f"{reachable_folder}/routes.yaml:3:" in told, told


@pytest.mark.parametrize("route, said", IN_A_MAP, ids=lambda v: v[:40])
def test_of_a_transport_map(reachable_folder, route, said):
    told = checked(reachable_folder, lines(routes="[routes.yaml, transports]"), transports=route)
    assert said in told and f"{reachable_folder}/transports:1:" in told, told


@pytest.mark.parametrize("line, said", COMMAND_LINES, ids=lambda v: v[:40])
def test_of_a_command_line(line, said):
    result = splitmx(*line.split())
    assert result.status == 64 and said in result.err and result.out == "", result


# An address to listen on, what is said at the start.
NOT_TO_BE_HAD = [
    ("127.0.0.1:25", "cannot listen on 127.0.0.1:25: Permission denied (a port below 1024: start it as root with `user:`"),
    ("192.0.2.99:2599", "cannot listen on 192.0.2.99:2599: Cannot assign requested address (this host has no such address"),
]


@pytest.mark.parametrize("key", ["listen", "admin"])
@pytest.mark.parametrize("address, said", NOT_TO_BE_HAD)
def test_of_an_address_that_is_not_to_be_had(reachable_folder, address, said, key):
    value, place = ("[{address: '%s'}]", "5:20: ") if key == "listen" else ("{listen: '%s'}", "7:17: ")
    (reachable_folder / "splitmx.yaml").write_text(lines(**{key: value % address}))
    (reachable_folder / "routes.yaml").write_text(ROUTES)
    nobody = "nobody" if os.geteuid() == 0 else None
    if nobody:
        shutil.chown(reachable_folder, nobody)  # the state directory is made in it
    result = splitmx("run", "-c", "splitmx.yaml", cwd=reachable_folder, user=nobody)
    assert result.status == 1 and f"splitmx.yaml:{place}{said}" in result.err, result
