# Gatepost. `make build` needs Go and nothing else; `make run`, `make test`, `make
# check` and `make bench` bring what they need along (scripts/deps).

SHELL := /bin/bash
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

GO          ?= go
PREFIX      ?= /usr/local
DESTDIR     ?=
FUZZTIME    ?= 10s
STATICCHECK := .tools/staticcheck-v0.8.2
BENCHFLAGS  ?=
RUNFLAGS    ?=

.PHONY: all build run test check generate bench fuzz clean install help

all: build

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## bin/gatepost, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/gatepost ./cmd/gatepost

run: build ## build, then show Gatepost at work in a scratch directory and stay up; brings clamd along
	scripts/deps clamd || echo "no clamd: the demonstration leaves the virus out" >&2
	bin/gatepost demo $(RUNFLAGS)

test: ## every test, with real peers; installs Debian packages that are missing
	scripts/deps
	scripts/test

check: $(STATICCHECK) ## formatting, vet, staticcheck, the house rules, generated files, modules
	STATICCHECK=$(STATICCHECK) scripts/check

generate: ## write the generated files again
	$(GO) generate ./...

bench: build ## Gatepost and Postfix side by side, then memory and queue length (BENCHFLAGS=-short for a taste)
	scripts/deps
	$(GO) run ./bench -gatepost bin/gatepost $(BENCHFLAGS)

fuzz: ## each fuzz target of the tree for FUZZTIME (10s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz

clean: ## remove what the build made
	rm -rf bin .scratch
	$(GO) clean -testcache

install: build ## binary, and the files that systemd and logrotate want (packaging/)
	install -D -m 0755 bin/gatepost $(DESTDIR)$(PREFIX)/bin/gatepost
	for u in packaging/systemd/*.service packaging/systemd/*.socket; do install -D -m 0644 "$$u" "$(DESTDIR)/etc/systemd/system/$$(basename "$$u")"; done
	sed -i 's#/usr/local/bin/gatepost#$(PREFIX)/bin/gatepost#g' $(DESTDIR)/etc/systemd/system/gatepost.service
	install -D -m 0644 packaging/sysusers.d/gatepost.conf $(DESTDIR)/usr/lib/sysusers.d/gatepost.conf
	install -D -m 0644 packaging/tmpfiles.d/gatepost.conf $(DESTDIR)/usr/lib/tmpfiles.d/gatepost.conf
	install -D -m 0644 packaging/logrotate.d/gatepost $(DESTDIR)/etc/logrotate.d/gatepost
	[ -e $(DESTDIR)/etc/gatepost/gatepost.toml ] || install -D -m 0640 packaging/gatepost.toml $(DESTDIR)/etc/gatepost/gatepost.toml

$(STATICCHECK):
	mkdir -p .tools/tmp
	GOBIN=$(CURDIR)/.tools/tmp $(GO) install honnef.co/go/tools/cmd/staticcheck@$(patsubst .tools/staticcheck-%,%,$(STATICCHECK))
	mv .tools/tmp/staticcheck $@ && rmdir .tools/tmp
