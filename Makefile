# splitmx. `make help` says what there is to make. Nothing here needs a tool before it is installed:
# `make run` and `make test` begin with git and make alone.
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

BUILD  ?= build
PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3
JOBS   ?= $(shell nproc)
V      ?=
ifeq ($(origin CC),default)
CC     := gcc
endif
SAN    ?=
# Level 3 costs nothing that `make cost` can see. A compiler that has only 2 says so (cpp), and takes that.
OPT    ?= -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
# tests/lint/hardening.py looks for all of this in the program. Not -ftrivial-auto-var-init=zero: a message costs 15 % more.
HARDEN ?= -fPIE -fno-strict-aliasing -fstack-protector-strong -fstack-clash-protection $(BRANCHES)
WERROR ?= -Werror -Wno-error=cpp
WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
          -Wwrite-strings -Wformat=2 -Wundef -Wswitch-enum

# Guards of jumps and returns, where the processor has them.
MACHINE  := $(shell $(CC) -dumpmachine)
BRANCHES := $(if $(filter x86_64-%,$(MACHINE)),-fcf-protection)$(if $(filter aarch64-%,$(MACHINE)),-mbranch-protection=standard)

FLAGS   = -std=c17 -D_GNU_SOURCE -I. $(OPT) $(WARN) $(WERROR) $(HARDEN) $(SAN) $(CFLAGS)
LINK    = $(CC) $(SAN) -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--as-needed $(LDFLAGS)
LIBS   := -luv -lssl -lcrypto -llmdb -lyaml -lcares -ljansson -lmicrohttpd -lseccomp -lpthread

# V=1 shows the commands.
say     = $(if $(V),,@echo '  $(1)  $@';)

# ---- sources, a list for each layer; a layer may use itself and those before it ----

config        := civil config diag folder hash hostname keys net_address scalar schema span spares \
                 text yaml yaml_line yaml_problem yaml_scan
routing       := address destination dns dns_cache dns_channel dns_message exchange generation \
                 gmail health hosts import import_convert import_lines import_mailboxes import_map \
                 import_yaml intern key_sort nexthop own pacing quiet recent relay resolver route seal \
                 servers sorter source table table_build table_load table_walk
tls           := context context_server inspect memory pem policy sessions store stream tickets \
                 why
proxy/wire    := body client command field header identity proxy_header received record reply \
                 server xclient
proxy/session := commit latency ledger ledger_format ledger_keep ledger_set leg leg_count leg_open policy pool \
                 prober quota rate recipients relay_stats session session_begin session_command session_told shared \
                 summary timers transaction unsettled upstream upstream_greet upstream_why world
proxy/net     := conn conn_tls conn_write ledger_file ledger_reader ledger_store listener net
proxy/admin   := admin exposition history host metrics page_json query snapshot status_page transactions \
                  transactions_json
page_scripts  := dom words health graph flow relays transactions route page
proxy/daemon  := admin_service burial config_files confine control control_ask daemon descriptors early_signals \
                 folder_list landlock ledger_print ledger_service load log log_ring notify pid_file prepare \
                 privileges question quote readable reload repair sockets state_lock status survey \
                 syscalls thread_check worker
proxy/cli     := ask check daemon_view doctor doctor_call doctor_domain doctor_hops doctor_local \
                 doctor_names doctor_relay doctor_run doctor_table explain explain_json \
                 healthcheck import inquiry ledger_command options reload route run status
tests/sim     := buffer client client_begin copies envelope fate handshake identity main message \
                 net oracle queue_books queue_client queue_host queue_plan queue_server queue_store \
                 queues reach script server service_greet setup shrink sim store upstreams world
bench_shared  := bench_line bench_peer bench_tls
bench_load    := histogram load load_idle load_options load_report load_run load_session \
                 load_text
bench_routes  := routes routes_plan
bench_sink    := data_end sink sink_server
bench         := $(bench_load) $(bench_routes) $(bench_sink) $(bench_shared)
unit_tests    := address bench_line body client command config confine control data_end diag dns \
                 dns_cache dns_message explain exposition header health histogram history host hosts identity import \
                 key_sort keys ledger ledger_format ledger_keep ledger_memory ledger_model \
                 ledger_reader ledger_store load_text log memory net_address nexthop pacing \
                 privileges proxy_header quiet quota rate received recent record relay relay_stats repair \
                 reply resolver route seal server shared sorter source span spares store table \
                 table_walk text tickets timers tls_context tls_inspect tls_stream transactions xclient yaml \
                 yaml_scan
fuzz_targets  := fuzz_address fuzz_body fuzz_command fuzz_config fuzz_dns fuzz_identity \
                 fuzz_ledger_format fuzz_mailboxes fuzz_map fuzz_nexthop fuzz_pem fuzz_proxy_header \
                 fuzz_received fuzz_reply fuzz_routes fuzz_session fuzz_xclient fuzz_yaml_scan
fuzz_files    := scratch
fuzz_play     := play play_caller play_upstream

LAYERS := config routing tls proxy/wire proxy/session proxy/admin proxy/net proxy/daemon proxy/cli

# What a layer may use, the nearest first, which is the order of linking: so the linker too keeps the layers.
uses.config        :=
uses.routing       := config
uses.tls           := config
uses.proxy/wire    := tls routing config
uses.proxy/session := proxy/wire $(uses.proxy/wire)
uses.proxy/net     := proxy/session $(uses.proxy/session)
uses.proxy/admin   := proxy/session $(uses.proxy/session)
uses.proxy/daemon  := proxy/admin proxy/net $(uses.proxy/net)
uses.proxy/cli     := proxy/daemon $(uses.proxy/daemon)

# ---- the program ----

archive  = $(BUILD)/lib$(subst /,_,$(1)).a
objects  = $(foreach n,$($(1)),$(BUILD)/$(1)/$(n).o)
archives = $(foreach l,$(1) $(uses.$(1)),$(call archive,$(l)))

sources := $(foreach l,$(LAYERS),$($(l):%=$(l)/%)) proxy/cli/main

bench_objects = $(foreach n,$(1),$(BUILD)/tests/bench/$(n).o)

all: $(BUILD)/splitmx

$(BUILD)/splitmx: $(BUILD)/proxy/cli/main.o $(call archives,proxy/cli)
	$(call say,link)$(LINK) -o $@ $^ $(LIBS)

define layer
$(call archive,$(1)): $(call objects,$(1))
	@rm -f $$@
	@ar rcs $$@ $$^
endef
$(foreach l,$(LAYERS),$(eval $(call layer,$(l))))

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,cc  )$(CC) $(FLAGS) -MMD -MP -c $< -o $@

# ---- the status page: its parts joined to one HTML file, and that to an array of C ----

page := proxy/admin/page
$(BUILD)/page.html: $(page)/page.html $(page)/page.css $(page_scripts:%=$(page)/%.js) Makefile
	@mkdir -p $(@D)
	@cat $(page_scripts:%=$(page)/%.js) >$(BUILD)/page.js
	$(call say,join)sed -e '/^\/\* page.css \*\/$$/{r $(page)/page.css' -e 'd}' \
	    -e '/^\/\* scripts \*\/$$/{r $(BUILD)/page.js' -e 'd}' $< >$@

$(BUILD)/proxy/admin/status_page_bytes.c: $(BUILD)/page.html
	@mkdir -p $(@D)
	@{ echo '#include <stddef.h>'; echo '#include "proxy/admin/status_page.h"'; echo 'const unsigned char status_page_bytes[] = {'; \
	    od -An -v -t u1 $< | sed 's/[0-9][0-9]*/&,/g'; \
	    echo '};'; echo 'const size_t status_page_bytes_size = sizeof status_page_bytes;'; } >$@

$(BUILD)/proxy/admin/status_page_bytes.o: $(BUILD)/proxy/admin/status_page_bytes.c Makefile
	$(call say,cc  )$(CC) $(FLAGS) -MMD -MP -c $< -o $@

$(call archive,proxy/admin): $(BUILD)/proxy/admin/status_page_bytes.o

# ---- unit tests: tests/unit/test_X.c is linked with the layer that holds X and those below, or with tests/bench/X ----

layer_of = $(or $(firstword $(foreach l,$(LAYERS),$(if $(filter $(1),$($(l))),$(l)))),proxy/cli)
UNIT := $(foreach t,$(unit_tests),$(BUILD)/unit/test_$(t))

define unit_program
$(BUILD)/unit/test_$(1): $(BUILD)/tests/unit/test_$(1).o \
    $(call bench_objects,$(filter $(1),$(bench))) $(call archives,$(call layer_of,$(1)))
	@mkdir -p $$(@D)
	$$(call say,link)$$(LINK) -o $$@ $$^ $$(LIBS) -lcmocka
endef
$(foreach t,$(unit_tests),$(eval $(call unit_program,$(t))))

# Its allocations are counted, and fail.
$(BUILD)/unit/test_ledger_memory: LDFLAGS += \
    -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free

unit: $(UNIT)
	@tests/unit/run $^

# ---- the simulator: session code and below over a network, a clock and names of its own ----

SEED ?= 1
N    ?= 100000

$(BUILD)/sim: $(call objects,tests/sim) $(call archives,proxy/session)
	$(call say,link)$(LINK) -o $@ $^ $(LIBS)

sim: $(BUILD)/sim
	$(BUILD)/sim --seed $(SEED) -n $(N)
	$(BUILD)/sim --seed $(SEED) -n $(N) --faults 20
	$(BUILD)/sim --seed $(SEED) -n 1000 --twice
	$(BUILD)/sim --queues --seed $(SEED) -n $(N)
	$(BUILD)/sim --queues --seed $(SEED) -n 3000 --twice

# ---- tools of `make bench`: load generator and sink over tls and config, tables over routing ----

$(BUILD)/bench/load: $(call bench_objects,$(bench_load) $(bench_shared)) $(call archives,tls)
$(BUILD)/bench/sink: $(call bench_objects,$(bench_sink) $(bench_shared)) $(call archives,tls)
$(BUILD)/bench/routes: $(call bench_objects,$(bench_routes)) $(call archives,routing)
$(BUILD)/bench/load $(BUILD)/bench/sink $(BUILD)/bench/routes:
	@mkdir -p $(@D)
	$(call say,link)$(LINK) -o $@ $^ $(LIBS)

# ---- the soak: real processes, killed and started again, between clients and upstreams that fail ----

soak: all
	SPLITMX_BIN=$(abspath $(BUILD))/splitmx PYTHONDONTWRITEBYTECODE=1 \
	    $(PYTHON) tests/soak/soak.py $(SEED) $(if $(filter file,$(origin N)),1000,$(N))

# ---- end to end, against real servers; J files at once, for most of the time they wait ----

J   ?= 5
E2E ?= tests/e2e
e2e: all $(BUILD)/splitmx-unfiltered $(BUILD)/failmalloc.so $(BUILD)/bench/load $(BUILD)/bench/sink \
    $(BUILD)/bench/routes
	SPLITMX_BIN=$(abspath $(BUILD))/splitmx PYTHONDONTWRITEBYTECODE=1 \
	    $(PYTHON) tests/verdict -q -p no:cacheprovider -n $(J) --dist loadfile $(E2E)

# The path of mail under valgrind: one of them, for itself.
memcheck:
	@$(MAKE) --no-print-directory E2E=tests/e2e/test_memcheck.py e2e

# Preloaded by tests/e2e/test_memory.py into the program.
$(BUILD)/failmalloc.so: tests/fail/failmalloc.c Makefile
	@mkdir -p $(@D)
	$(call say,cc  )$(CC) -std=c17 -D_GNU_SOURCE -O2 -g $(WARN) $(WERROR) -fno-builtin \
	    -fno-omit-frame-pointer -fPIC -shared $< -o $@

# ---- between hosts: network namespaces with real port 25, names, certificates (skipped where none can be made) ----

hosts: all
	SPLITMX_BIN=$(abspath $(BUILD))/splitmx PYTHONDONTWRITEBYTECODE=1 \
	    $(PYTHON) tests/verdict -q -p no:cacheprovider -rs $(HOSTS_BUT) tests/hosts

ASAN := BUILD=$(BUILD)/asan OPT='-O1 -g' HARDEN=-fno-omit-frame-pointer WERROR= \
        SAN='-fsanitize=address,undefined -fno-sanitize-recover=undefined'
asan:
	$(MAKE) --no-print-directory $(ASAN) all unit
	$(MAKE) --no-print-directory $(ASAN) TESTS=e2e+hosts steps \
	    HOSTS_BUT="--ignore=tests/hosts/test_senders.py --ignore=tests/hosts/test_testssl.py"

# ---- races: unit tests that begin threads, end-to-end tests marked `threads` and a soak, with ThreadSanitizer ----

TSAN := BUILD=$(BUILD)/tsan OPT='-O1 -g' HARDEN=-fno-omit-frame-pointer WERROR= SAN=-fsanitize=thread
thread_tests := health ledger_store log pacing quota rate store table tickets
# Where the kernel scatters more than its runtime has room for; some containers do not let it be told.
steady = $(shell setarch -R true 2>/dev/null && echo setarch -R)
# What libraries do is left out: libuv closes descriptors by a system call of its own, which the runtime does not see, so the
# next thread that has the number would race with the last.
tsan: export TSAN_OPTIONS = ignore_noninstrumented_modules=1
tsan: export SPLITMX_TEST_WORKERS = 3
tsan:
	$(steady) $(MAKE) --no-print-directory $(TSAN) unit_tests='$(thread_tests)' all unit
	$(steady) $(MAKE) --no-print-directory $(TSAN) E2E='-m threads tests/e2e' e2e
	$(steady) $(MAKE) --no-print-directory $(TSAN) N=300 soak

# ---- fuzzing: a minute for each target, or T seconds ----

T ?= 60
FUZZ := BUILD=$(BUILD)/fuzz CC=clang OPT='-O1 -g' HARDEN=-fno-omit-frame-pointer WERROR= \
        SAN='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined'

fuzz_objects = $(foreach n,$(1),$(BUILD)/tests/fuzz/$(n).o)

# What reads files, and what is over the simulator's network.
fuzz_more = $(if $(filter fuzz_config fuzz_mailboxes fuzz_map fuzz_pem fuzz_routes,$(1)),$(call fuzz_objects,$(fuzz_files))) \
            $(if $(filter fuzz_session,$(1)),$(call fuzz_objects,$(fuzz_play)) \
                $(filter-out %/main.o %/shrink.o,$(call objects,tests/sim)))

define fuzz_program
$(BUILD)/$(1): $(call fuzz_objects,$(1)) $(call fuzz_more,$(1)) $(call archives,proxy/session)
	$$(call say,link)$$(LINK) -fsanitize=fuzzer -o $$@ $$^ $$(LIBS)
endef
$(foreach t,$(fuzz_targets),$(eval $(call fuzz_program,$(t))))

fuzz-programs: $(foreach t,$(fuzz_targets),$(BUILD)/$(t))
fuzz:
	@$(MAKE) --no-print-directory $(FUZZ) fuzz-programs
	@tests/fuzz/run $(BUILD)/fuzz $(T) $(fuzz_targets)

# ---- the container: an image `splitmx`; OPTIONS are for docker build ----

DOCKER  ?= docker
OPTIONS ?=
container:
	$(DOCKER) build $(OPTIONS) -t splitmx -f docker/Dockerfile .

# Built and run for real, by an engine of the tests' own.
test-container:
	@tests/container/install.sh || echo 'test-container: not all could be installed'
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m pytest -q -rs -p no:cacheprovider tests/container

# ---- the ledger's rules as a model, checked by spin: whole, and with each rule taken away ----

model:
	@docs/model/check.sh

# ---- what a message costs: instructions and system calls, within bounds kept in the repository ----

cost: all $(BUILD)/splitmx-unfiltered
	tests/cost/run $(BUILD)

# The program for valgrind: all of it but its filter of system calls.
$(BUILD)/splitmx-unfiltered: $(BUILD)/proxy/cli/main.o $(BUILD)/tests/fail/unfiltered.o \
    $(call archives,proxy/cli)
	$(call say,link)$(LINK) -o $@ $^ $(LIBS)

# ---- against others: HAProxy, nginx and Postfix in turn with splitmx, on this machine ----

# CASES and PEERS by comma; SECONDS of a turn, PACED of one of the case `paced`; BASE: another build, measured too. SIZE of the
# messages of `one` and `kept`; SENDER=load: our load generator where smtp-source would do.
ROUNDS ?= 5
SECONDS ?= 3
PACED  ?= 120
CASES  ?=
PEERS  ?=
BASE   ?=
SIZE   ?= 4096
SENDER ?= smtp-source
bench: all $(BUILD)/bench/load $(BUILD)/bench/sink $(BUILD)/bench/routes
	@tests/bench/install.sh
	@$(PYTHON) tests/bench/bench.py --program $(BUILD)/splitmx --tools $(BUILD)/bench \
	    --rounds $(ROUNDS) --seconds $(SECONDS) --paced $(PACED) \
	    --cases '$(CASES)' --peers '$(PEERS)' --size $(SIZE) --sender $(SENDER) \
	    $(if $(BASE),--base $(BASE)) --out $(BUILD)/bench

# What was measured last, into docs/performance.md and its plots.
bench-docs:
	@$(PYTHON) tests/bench/bench.py --docs docs --out $(BUILD)/bench

# ---- lint ----

lint: all $(UNIT) layers listed analyse
	@tests/lint/run $(BUILD) $(LAYERS)

# A source that no list above names would be built by nobody.
unlisted = $(filter-out $(OBJECTS:$(BUILD)/%.o=%.c), \
             $(wildcard $(addsuffix /*.c,$(LAYERS) tests/sim tests/bench tests/unit tests/fuzz)))
listed:
	@$(if $(strip $(unlisted)),echo 'Makefile: not in its list: $(strip $(unlisted))'; exit 1,:)

# What a function and those it calls do to memory along each path: by gcc 12, as in Debian 12, for each version takes other
# things for mistakes; each file again only when it, or a header of it, has changed. Of its warnings those are left out that
# were all wrong here: it loses sight of what is stored in a list or an array. (clang's analyzer finds the same and less, in
# seven times the time.) -O1: at -O0 it does not see through small functions.
ANALYSER := gcc -std=c17 -D_GNU_SOURCE -I. -O1 -fanalyzer -Werror -Wno-analyzer-malloc-leak -Wno-analyzer-null-argument \
            -Wno-analyzer-use-of-uninitialized-value
analyse: $(if $(filter 12,$(shell gcc -dumpversion 2>&1)),$(addprefix $(BUILD)/analysed/,$(addsuffix .ok,$(sources))))
	@$(if $^,:,echo 'lint: no static analysis: that takes gcc 12 (Debian 12)')
$(BUILD)/analysed/%.ok: %.c $(BUILD)/%.o
	@mkdir -p $(@D)
	$(call say,look)$(ANALYSER) -c $< -o /dev/null && touch $@

# clang-format 14, as in Debian 12.
format:
	clang-format -i $(shell find config routing tls proxy tests -name '*.[ch]')

# Each layer links, whole, with what it may use and nothing else.
layers: $(foreach l,$(LAYERS),$(BUILD)/layer/$(l))
define layer_check
$(BUILD)/layer/$(1): $(call archives,$(1))
	@mkdir -p $$(@D)
	@echo 'int main(void) { return 0; }' | $$(LINK) -fPIE -o $$@ -x c - -x none \
	    -Wl,--whole-archive $(call archive,$(1)) -Wl,--no-whole-archive \
	    $(foreach u,$(uses.$(1)),$(call archive,$(u))) $$(LIBS)
endef
$(foreach l,$(LAYERS),$(eval $(call layer_check,$(l))))

# ---- from a bare machine ----

run:
	@tests/install run
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@$(PYTHON) tests/demo/demo.py $(if $(filter-out 0,$(ONCE)),--once) $(BUILD)/splitmx

# The steps in their order; what is joined by a plus runs side by side.
TESTS := test-container+quick soak e2e+hosts asan tsan cost
QUICK := lint unit sim model fuzz
test:
	@tests/install test
	@tests/e2e/install.sh
	@$(MAKE) --no-print-directory -j$(JOBS) T=$(if $(filter file,$(origin T)),5,$(T)) steps
	@echo "test: all passed ($(subst quick,$(QUICK),$(TESTS)))"

steps: all
	+@MAKE='$(MAKE)' tests/steps $(BUILD) $(TESTS)

# What needs the processor, and nothing of what is around it.
quick:
	+@MAKE='$(MAKE)' tests/steps $(BUILD) $(QUICK)

# ---- the rest ----

MAN      := docs/splitmx.8 docs/splitmx.yaml.5 docs/splitmx-routes.5
EXAMPLES := $(addprefix docs/examples/,docker-mailserver gmail-family haproxy kingmailer local-users monitoring postfix-same-host two-mx)
SYSTEMD  := proxy/daemon/systemd

# Where a distribution has them elsewhere, or not at all.
UNITS    ?= $(PREFIX)/lib/systemd/system
SYSUSERS ?= $(PREFIX)/lib/sysusers.d
TMPFILES ?= $(PREFIX)/lib/tmpfiles.d

to = $(DESTDIR)$(PREFIX)

install: all
	install -D -m 755 -t $(to)/bin $(BUILD)/splitmx
	install -D -m 644 -t $(to)/share/man/man5 $(filter %.5,$(MAN))
	install -D -m 644 -t $(to)/share/man/man8 $(filter %.8,$(MAN))
	install -D -m 644 proxy/cli/completion.bash $(to)/share/bash-completion/completions/splitmx
	install -D -m 644 -t $(to)/share/doc/splitmx README.md
	for e in $(EXAMPLES); do install -D -m 644 -t $(to)/share/doc/splitmx/examples/$${e##*/} $$e/* || exit; done
	install -D -m 644 -t $(DESTDIR)$(UNITS) $(SYSTEMD)/splitmx.socket
	sed 's,@bindir@,$(PREFIX)/bin,' $(SYSTEMD)/splitmx.service.in | install -m 644 /dev/stdin $(DESTDIR)$(UNITS)/splitmx.service
	install -D -m 644 $(SYSTEMD)/sysusers.conf $(DESTDIR)$(SYSUSERS)/splitmx.conf
	install -D -m 644 $(SYSTEMD)/tmpfiles.conf $(DESTDIR)$(TMPFILES)/splitmx.conf

# Leaves configuration, state and user.
uninstall:
	rm -f $(to)/bin/splitmx $(to)/share/bash-completion/completions/splitmx \
	    $(patsubst docs/%.5,$(to)/share/man/man5/%.5,$(filter %.5,$(MAN))) \
	    $(patsubst docs/%.8,$(to)/share/man/man8/%.8,$(filter %.8,$(MAN))) \
	    $(DESTDIR)$(UNITS)/splitmx.service $(DESTDIR)$(UNITS)/splitmx.socket \
	    $(DESTDIR)$(SYSUSERS)/splitmx.conf $(DESTDIR)$(TMPFILES)/splitmx.conf
	rm -rf $(to)/share/doc/splitmx

# ---- the Debian package, made of a copy: $(BUILD)/deb/splitmx_VERSION_ARCHITECTURE.deb ----

DEB := Makefile README.md CHANGELOG.md LICENSE config routing tls proxy docs debian
deb:
	@command -v dh >/dev/null || { echo 'make deb: install dpkg-dev, and what the package builds with: apt-get build-dep .'; exit 1; }
	rm -rf $(BUILD)/deb
	mkdir -p $(BUILD)/deb/splitmx
	cp -a $(DEB) $(BUILD)/deb/splitmx
	cd $(BUILD)/deb/splitmx && env -u MAKEFLAGS -u MAKEOVERRIDES dpkg-buildpackage -b -us -uc -J$(JOBS)

clean:
	rm -rf $(BUILD)

help:
	@echo 'make            build $(BUILD)/splitmx'
	@echo 'make run        install what is missing, build, show the split on 127.0.0.1:2525 (ONCE=1: then end)'
	@echo 'make test       install what tests need, run them all: $(TESTS)'
	@echo 'make unit       unit tests of every pure module'
	@echo 'make sim        the simulator: exact worlds, and worlds with queues (SEED=$(SEED) N=$(N): transactions of each)'
	@echo 'make model      the rules of the ledger, exhaustively (spin): docs/model'
	@echo 'make soak       real processes, killed and restarted, upstreams and clients that fail (SEED, N: transactions)'
	@echo 'make e2e        end to end, against real servers'
	@echo 'make hosts      between hosts with addresses and names of their own (network namespaces; root)'
	@echo 'make asan       unit, end-to-end and hosts tests with ASan and UBSan'
	@echo 'make tsan       what runs in several threads with ThreadSanitizer: unit tests, end to end, a soak'
	@echo 'make memcheck   the path of mail under valgrind (part of make e2e)'
	@echo 'make fuzz       each fuzz target for T=$(T) seconds'
	@echo 'make cost       instructions and system calls a message, against their bounds'
	@echo 'make bench      against HAProxy, nginx and Postfix, on this machine (ROUNDS, CASES, PEERS, SECONDS; BASE: another'
	@echo '                build, measured too); bench-docs: into docs/performance.md'
	@echo 'make container  the image splitmx (DOCKER=$(DOCKER), OPTIONS: for docker build)'
	@echo 'make test-container  builds and runs it with an engine of its own, as root (two minutes)'
	@echo 'make lint       warnings, format, static checks, layers, man pages, scripts'
	@echo 'make format     lay the C files out'
	@echo 'make install    to $$(DESTDIR)$$(PREFIX), PREFIX=$(PREFIX): program, man pages, completion, units; uninstall: away again'
	@echo 'make deb        the Debian package, in $(BUILD)/deb'
	@echo '                V=1 shows commands; BUILD, CC, OPT, SAN, CFLAGS, LDFLAGS are yours to set'
	@echo 'make clean      remove $(BUILD)'

OBJECTS := $(foreach l,$(LAYERS) tests/sim,$(call objects,$(l))) $(BUILD)/proxy/cli/main.o \
           $(call bench_objects,$(bench)) $(unit_tests:%=$(BUILD)/tests/unit/test_%.o) \
           $(call fuzz_objects,$(fuzz_targets) $(fuzz_files) $(fuzz_play)) \
           $(BUILD)/tests/fail/unfiltered.o
-include $(OBJECTS:.o=.d)

.SECONDARY:
.PHONY: all run test steps quick unit e2e memcheck tsan hosts sim model soak lint analyse format layers listed fuzz fuzz-programs cost bench bench-docs asan \
        container test-container install uninstall deb clean help
