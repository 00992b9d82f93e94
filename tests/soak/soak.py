"""
The soak: a real daemon between clients and upstreams that fail, all drawn from a seed: soak.py SEED N.

Ends with 0 when the oracle has found nothing; else prints the history of the first messages concerned, and writes all of
them to soak-SEED.txt beside the program.
"""

import asyncio
import signal
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from splitmx_test.certificates import Authority  # noqa: E402
from splitmx_test.daemon import BINARY, SANITIZER, Daemon  # noqa: E402
from splitmx_test.waiting import free_port  # noqa: E402

from book import Book  # noqa: E402
from oracle import ALLOWED, Oracle  # noqa: E402
from plan import MAILBOXES, TIMEOUTS, events  # noqa: E402
from relays import Relay  # noqa: E402
from senders import Sender  # noqa: E402

SENDERS = 40
SHOWN = 3  # histories
WHOLE = 1800.0  # a run that hangs is ended after so long, seconds
NAMES = ("local", "king", "third", "gmail", "backup", "elsewhere")


class Town:
    """One splitmx, its upstreams, and what is done to them."""

    def __init__(self, book, authority):
        self.book = book
        self.authority = authority
        king = authority.issue("king.test").server_context()
        special = {"local": {"xclient": True}, "king": {"tls": king}, "third": {"receive_buffer": 8192}}
        self.relays = {name: Relay(name, book, **special.get(name, {})) for name in NAMES}
        self.daemon = None
        self.stopping = False
        self.reloads = 0

    async def start(self):
        for relay in self.relays.values():
            relay.port = free_port()
            await relay.up()
        hop = {name: {"next-hop": relay.next_hop} for name, relay in self.relays.items()}
        relays = {
            "local": {**hop["local"], "identity": "xclient", "fallback": "backup", "unknown-recipient": "elsewhere"},
            "king": {**hop["king"], "max-connections": 6},
            "third": {"next-hop": f"smtp:[127.0.0.1]:{free_port()},[127.0.0.1]:{self.relays['third'].port}"},
            "gmail": {"hosts": [{"host": "127.0.0.1", "priority": 1}], "port": self.relays["gmail"].port, "tls": "none"},
            "backup": hop["backup"], "elsewhere": hop["elsewhere"],
        }
        certificate = self.authority.issue("mx.splitmx.test")
        self.daemon = Daemon(start=False, relays=relays, routes=self.routes(), timeouts=TIMEOUTS, domains=["example.com", "one.test", "two.test"],
                             tls=certificate.settings)
        self.tls_port, self.context = free_port(), self.authority.client_context()
        self.daemon.write_config(listen=[{"address": f"127.0.0.1:{self.daemon.port}"}, {"address": f"127.0.0.1:{self.tls_port}", "tls": "implicit"}])
        await self.run_daemon()

    def routes(self):
        targets = {"moved": "local", "discard": "discard:"}
        lines = [f'"{address}": "{targets.get(place, place)}"' for place, addresses in MAILBOXES.items() for address in addresses]
        return "\n".join(lines + [f'"reload{self.reloads if self.daemon else 0}@example.com": king']) + "\n"

    def entrance(self, tls):
        return (self.tls_port, self.context) if tls else (self.daemon.port, None)

    # the daemon's life

    async def run_daemon(self):
        await asyncio.to_thread(self.daemon.start)
        self.book.do("started")

    def take_log(self):
        self.book.log += self.daemon.lines
        for line in self.daemon.lines:
            if SANITIZER.search(line):
                self.book.violate(f"a sanitizer's report: {line}")

    def kill_now(self):
        """From within an event of an upstream's, so that no time goes by."""
        if self.daemon.process is not None and not self.stopping:
            self.stopping = True
            self.book.kills.append(time.monotonic())
            self.book.do("kill -9")
            self.daemon._expect_failure = True
            self.daemon.signal(signal.SIGKILL)

    async def kill(self, armed):
        if armed:  # at the next acceptance, before it is told or just after
            fired = asyncio.Event()
            for relay in self.relays.values():
                setattr(relay, armed, lambda: (self.kill_now(), fired.set()))
            try:
                await asyncio.wait_for(fired.wait(), 10)
            except asyncio.TimeoutError:
                self.kill_now()
            for relay in self.relays.values():
                setattr(relay, armed, lambda: None)
        else:
            self.kill_now()
        await self.ended_and_again(None)

    async def term(self):
        self.book.do("SIGTERM")
        self.stopping = True
        self.daemon.term()
        await self.ended_and_again(0)

    async def ended_and_again(self, status):
        """Drains for a second at most, commits for three, and ten for a client that does not read."""
        try:
            got = await asyncio.to_thread(self.daemon.await_exit, 25)
        except AssertionError:
            self.book.violate("splitmx did not end")
            self.daemon.signal(signal.SIGABRT)
            got = await asyncio.to_thread(self.daemon.await_exit, 25)
        self.book.do(f"ended with status {got}")
        if status is not None and got != status:
            self.book.violate(f"splitmx ended with {got} after SIGTERM: {self.daemon.lines[-20:]}")
        self.take_log()
        self.stopping = False
        await self.run_daemon()

    def reload(self, broken=False):
        self.reloads += 1
        self.book.do(f"SIGHUP{', broken configuration' if broken else ''}")
        self.daemon.write_routes("nonsense: [\n" if broken else self.routes())
        self.daemon.sighup()

    async def watch(self):
        """It may not end but by our hand."""
        while True:
            await asyncio.sleep(0.1)
            if self.daemon.exit_status is not None and not self.stopping and self.daemon.process is not None:
                self.book.do("ended by itself")
                self.book.violate(f"splitmx ended by itself with {self.daemon.exit_status}: {self.daemon.lines[-20:]}")
                self.daemon.process = None
                self.take_log()
                await self.run_daemon()

    async def happen(self, count):
        for at, what, name, seconds in events(self.book.seed, count):
            while self.book.begun < at:
                self.book.progress.clear()
                await self.book.progress.wait()
            relay = self.relays[name]
            if what.startswith("kill"):
                await self.kill({"kill": None, "kill on accept": "on_accept", "kill behind accept": "on_accepted"}[what])
            elif what == "term":
                await self.term()
            elif what == "hup":
                self.reload()
            elif what == "bad hup":
                self.reload(broken=True)
                await asyncio.sleep(0.3)
                self.reload()
            else:
                self.book.do(f"{name} is down")
                relay.down()
                await asyncio.sleep(seconds if what == "down" else 0.05)
                await relay.up()
                self.book.do(f"{name} is up")

    async def stop(self):
        self.stopping = True
        self.daemon.term()
        status = await asyncio.to_thread(self.daemon.await_exit, 25)
        if status != 0:
            self.book.violate(f"splitmx ended with {status}: {self.daemon.lines[-20:]}")
        self.take_log()


async def storm(book, town, count):
    senders = [Sender(book, f"s{number}", town) for number in range(SENDERS)]
    happenings = asyncio.create_task(town.happen(count))
    watch = asyncio.create_task(town.watch())
    await asyncio.gather(*(sender.run(count) for sender in senders))
    book.progress.set()
    await happenings
    print(f"soak: {book.begun} transactions in {time.monotonic() - book.started:.0f} s; now all upstreams answer well", flush=True)
    book.do("calm")
    for relay in town.relays.values():
        relay.calm = True
    await asyncio.gather(*(sender.finish() for sender in senders))
    await town.stop()
    watch.cancel()


async def run(book, count):
    authority = Authority()
    town = Town(book, authority)
    try:
        await town.start()
        await asyncio.wait_for(storm(book, town, count), WHOLE)
    finally:
        if town.daemon is not None:
            town.daemon.destroy()
        authority.remove()


def tell(book, oracle):
    deeds = Counter(what.split(",")[0].split(" is ")[-1] for _, what in book.deeds)
    outcomes = Counter(code for message in book.messages.values() for _, code in message.settled.values())
    print(f"soak: {len(book.messages)} messages, {sum(len(m.attempts) for m in book.messages.values())} attempts, "
          f"{sum(len(c) for c in oracle.copies.values())} copies for recipients; told 2xx: {outcomes['2xx']}, 5xx: {outcomes['5xx']}")
    print("soak: " + ", ".join(f"{what}: {count}" for what, count in sorted(deeds.items())))
    print(f"soak: in the calm nobody needed more than {max((n for m in book.messages.values() for n in m.tries.values()), default=0)} tries")
    for cause, count in sorted(oracle.duplicates.items()):
        print(f"soak: duplicates, {cause}: {count}{'' if cause in ALLOWED else ' (not allowed)'}")
    if not book.violations:
        return
    concerned = list(dict.fromkeys(message for _, message in book.violations if message is not None))
    for text, message in book.violations[:20]:
        print(f"soak: VIOLATION: {message.key + ': ' if message else ''}{text}")
    histories = [oracle.history(message) for message in concerned]
    print("\n\n".join(histories[:SHOWN]))
    path = BINARY.parent / f"soak-{book.seed}.txt"
    path.write_text("\n".join(f"{m.key if m else ''} {text}" for text, m in book.violations) + "\n\n" + "\n\n".join(histories) + "\n")
    print(f"soak: all histories: {path}")


def main(arguments):
    seed, count = arguments[0], int(arguments[1])
    print(f"soak: SEED={seed} N={count}", flush=True)
    book = Book(seed)
    asyncio.run(run(book, count))
    oracle = Oracle(book)
    oracle.judge()
    tell(book, oracle)
    took = time.monotonic() - book.started
    if book.violations:
        print(f"soak: FAILED, {len(book.violations)} violations, SEED={seed} N={count}, {took:.0f} s")
        return 1
    print(f"soak: {book.begun} transactions, nothing lost, nothing invented, {sum(oracle.duplicates.values())} duplicates that may be (SEED={seed}, {took:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
