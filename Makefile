# hookline - `make run` serves, `make test` tests. CFLAGS, PREFIX and DESTDIR belong to the packager.
PREFIX  ?= /usr/local
CC      ?= gcc
V       ?= release
B       := build/$(V)
VERSION := $(shell cat VERSION)

PKGS    := libevent libevent_pthreads rdkafka hiredis openssl jansson yaml-0.1 libcurl
CFLAGS  ?= -O2 -g
OPT.release = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-clash-protection $(CET)
# control-flow enforcement, where the machine has it
CET := $(if $(filter x86_64-%,$(shell $(CC) -dumpmachine)),-fcf-protection)
OPT.asan    := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT.tsan    := -fsanitize=thread -fno-omit-frame-pointer
OPT.fuzz    := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
WARN    := -Wall -Wextra -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes \
           -Wno-missing-field-initializers $(WERROR)
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE $(WARN) $(OPT.$(V)) -iquote include -DHOOKLINE_VERSION='"$(VERSION)"' \
             -fstack-protector-strong -fPIE -pthread $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(OPT.$(V)) -pie -Wl,-z,relro,-z,now -pthread $(LDFLAGS)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LIBS       := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -ljq -lm

SRC   := $(wildcard src/*/*.c)
OBJ   := $(SRC:%.c=$B/%.o) $B/gen/providers.o $B/gen/page.o
LIBOBJ := $(filter-out $B/src/cli/main.o,$(OBJ))
TESTS := $(patsubst %.c,$B/%,$(wildcard tests/unit/*/test_*.c))
BENCH := $(patsubst %.c,build/release/%,$(wildcard tests/bench/*.c))
FUZZERS := $(patsubst %.c,$B/%,$(wildcard tests/fuzz/fuzz_*.c))

DIFFERENTIAL := $B/tests/differential/verify
SIM := $B/tests/sim/sim
SIMOBJ := $(patsubst %.c,$B/%.o,$(wildcard tests/sim/*.c))
COMPLETIONS := bash-completion/completions zsh/site-functions fish/vendor_completions.d
UNITS := systemd/system sysusers.d tmpfiles.d
EXAMPLES := $(patsubst %.c,$B/%,$(wildcard examples/c/*_consumer.c))

.PHONY: screenshots hardening-check all run demo test unit unit-programs sim differential fuzz fuzzers lint bench long examples docs test-deploy dist install install-systemd \
        clean deps
all: build/hookline
build/hookline: $B/hookline
	@ln -sf $(V)/hookline $@

$B/hookline: $(OBJ)
	$(CC) $(ALL_LDFLAGS) -o $@ $(OBJ) $(LIBS)

$B/%.o: %.c Makefile VERSION
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$B/gen/providers.c: src/source/providers.yaml scripts/embed
	@mkdir -p $(@D)
	scripts/embed providers_yaml $< >$@
$B/gen/page.c: src/admin/page.html scripts/embed
	@mkdir -p $(@D)
	scripts/embed page_html $< >$@
$B/gen/%.o: $B/gen/%.c
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Unit tests link the whole program but main. A test that brings its own io_*() calls gets them before
# the library's, so that it can make the disk fail.
$B/libhookline.a: $(LIBOBJ)
	@rm -f $@; $(AR) rcs $@ $(LIBOBJ)
$B/tests/%: tests/%.c tests/unit/table.h $B/libhookline.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -iquote tests/unit -iquote src -MMD -MP $(ALL_LDFLAGS) -o $@ $< $B/libhookline.a $(LIBS) -lcmocka

# The crash simulator brings its own io_*() calls, and the linker puts its own threads, clock and
# planted faults in place of what one file of the log calls in another.
WRAPPED := pthread_create pthread_join pthread_mutex_lock pthread_cond_wait pthread_cond_timedwait pthread_cond_signal \
           pthread_cond_broadcast poll clock_gettime crypto_random log_line format_put_batch format_get_batch \
           format_put_record format_get_record tail_read cursor_lowest dedup_claim
$(SIMOBJ): ALL_CFLAGS += -iquote src
$(SIM): $(SIMOBJ) $B/libhookline.a
	$(CC) $(ALL_LDFLAGS) $(WRAPPED:%=-Wl,--wrap=%) -o $@ $(SIMOBJ) $B/libhookline.a $(LIBS)

# Fuzzers: clang only, with instrumented objects in a folder of their own.
$B/tests/fuzz/%: ALL_LDFLAGS += -fsanitize=fuzzer

# Consumers in C. Each needs its own library; warnings are errors, and none of hookline is linked.
$B/examples/c/kafka_consumer: EXAMPLE_LIBS := rdkafka
$B/examples/c/redis_consumer: EXAMPLE_LIBS := hiredis
$B/examples/c/http_consumer: EXAMPLE_LIBS := libcurl jansson
$B/examples/%: examples/%.c examples/c/effects.c examples/c/effects.h Makefile
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -Werror $(OPT.$(V)) $(CFLAGS) $(LDFLAGS) -o $@ $< examples/c/effects.c \
	    $$(pkg-config --cflags --libs $(EXAMPLE_LIBS))

deps:
	@scripts/deps build
run: deps
	@$(MAKE) --no-print-directory -j$$(nproc) build/hookline
	@build/hookline serve --dev
demo: deps
	@$(MAKE) --no-print-directory -j$$(nproc) build/hookline
	@scripts/demo
unit-programs: $(TESTS)
unit: unit-programs
	@tests/run unit $(TESTS)
test:
	@scripts/deps test
	@$(MAKE) --no-print-directory -j$$(nproc) V=$(V) $B/hookline $(TESTS) $(SIM) $(EXAMPLES) $(DIFFERENTIAL)
	@HOOKLINE=$B/hookline EXAMPLES=$B/examples/c tests/run all $(TESTS) $(SIM)
sim: $(SIM)
	@$(SIM) $(SIMFLAGS)
differential:
	@scripts/deps test
	@$(MAKE) --no-print-directory V=$(V) $(DIFFERENTIAL)
	@HOOKLINE=$B/hookline tests/run differential
fuzzers: $(FUZZERS)
fuzz:
	@scripts/deps lint
	@$(MAKE) --no-print-directory V=fuzz CC=clang fuzzers
	@tests/fuzz/run $(patsubst %.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
lint:
	@scripts/deps lint
	@scripts/lint
examples: $(EXAMPLES)
docs: $B/tests/gendocs
	$B/tests/gendocs example >deploy/hookline.example.yaml
	$B/tests/gendocs reference >docs/configuration.md
	$B/tests/gendocs providers >docs/providers.md
screenshots: all
	@scripts/deps test
	@scripts/screenshots
hardening-check: all
	@scripts/hardening-check build/hookline
bench:
	@scripts/deps bench
	@$(MAKE) --no-print-directory V=release build/hookline $(BENCH)
	@tests/bench/run
long: all examples $(SIM)
	@$(SIM) --seed $$(date +%s) --images 3000000
	@LONG=1 ROUNDS=50 SCALE=10 HOOKLINE=build/hookline tests/run e2e
	@HOOKLINE=build/hookline tests/run long
test-deploy: all
	@tests/run deploy
dist:
	@scripts/dist build/dist
install: $B/hookline
	install -D $< $(DESTDIR)$(PREFIX)/bin/hookline
	install -D -m 644 hookline.1 $(DESTDIR)$(PREFIX)/share/man/man1/hookline.1
	install -D -m 644 deploy/hookline.example.yaml $(DESTDIR)$(PREFIX)/share/doc/hookline/examples/hookline.yaml
	install -d $(COMPLETIONS:%=$(DESTDIR)$(PREFIX)/share/%)
	$< completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/hookline
	$< completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_hookline
	$< completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/hookline.fish
install-systemd:
	install -d $(UNITS:%=$(DESTDIR)$(PREFIX)/lib/%)
	sed 's#/usr/bin/#$(PREFIX)/bin/#' deploy/systemd/hookline.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/hookline.service
	install -m 644 deploy/systemd/hookline.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/hookline.conf
	install -m 644 deploy/systemd/hookline.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/hookline.conf
clean:
	rm -rf build

-include $(OBJ:.o=.d) $(SIMOBJ:.o=.d) $(TESTS:=.d) $(BENCH:=.d) $(FUZZERS:=.d) $(DIFFERENTIAL).d
