# What each command does stands beside it; `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help setup test test-python clients-python test-go test-typescript test-rust test-cockroach docs pages fmt lint proto-lint proto-check doc audit alerts deploy-check image demo playground ci soak fuzz model \
  bench bench-figures bench-callers bench-backfill bench-verify bench-cutover bench-batch

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what build and tests need (apt packages, PostgreSQL 18, a Python environment)
	@scripts/setup

test: setup proto-lint ## lint of the protocol and all tests, on real PostgreSQL 15 and 18 servers of their own
	cargo test --locked

test-python: ## the Python client: generated modules, lint, types, tests on real databases
	@scripts/setup
	cargo build --locked
	@clients/python/scripts/test

clients-python: ## write the generated modules of the Python client
	@clients/python/scripts/generate

test-go: setup ## lint and tests of the Go client, on servers and sidecars of its own; Go must be there
	cargo build --locked
	@clients/go/scripts/test

test-typescript: setup ## the TypeScript client: stubs, lint, types, package, tests on real databases; Node must be there
	cargo build --locked
	@clients/typescript/scripts/test

test-rust: setup ## the Rust client: stubs, package, lint, documentation, tests on real databases
	cargo build --locked
	@clients/rust/scripts/test

test-cockroach: setup ## every suite that has a CockroachDB side, on a real one: COCKROACH_URL=postgres://…
	@scripts/test-cockroach

fmt: ## format the code
	cargo fmt --all

lint: setup ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

proto-lint: setup ## style and format of the protocol files, by buf
	@scripts/proto lint

proto-check: setup ## that, and a check for breaking changes against the last commit on main that touched proto/, or AGAINST
	@scripts/proto check $(AGAINST)

doc: setup ## the documentation of the code
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

docs: setup ## write the pages that are generated: commands and calls
	SEGUE_WRITE_DOCS=1 cargo test --locked --lib reference::the_page
	SEGUE_WRITE_DOCS=1 cargo test --locked --test docs the_page

pages: ## run README and quick start as they are written, compare their output; WRITE=1 writes it
	@scripts/setup --pages
	cargo build --locked
	@SEGUE=target/debug/segue .build/python/bin/python scripts/run-pages $(if $(WRITE),--write)

audit: ## licences, bans, sources, and advisories where they can be reached
	@scripts/audit

alerts: ## unit tests of the alert rules; their queries and the dashboards' against a running segue
	@scripts/alerts

deploy-check: ## the Helm chart and the plain manifests, in each mode; and each check, seen to fail
	@scripts/check-deploy

image: ## the container image, built and used without a container engine (as root, on Debian)
	@scripts/image

demo: ## two databases, segue between them, every phase, and a proof at the end (four minutes)
	@scripts/setup --demo
	cargo build --locked --release
	@.build/python/bin/python demo/run $(if $(SPOIL),--sabotage $(SPOIL))

playground: ## the demo's two databases alone, to try segue by hand; Ctrl-C removes them
	@scripts/setup --demo
	@.build/python/bin/python demo/playground

bench-callers: setup ## what callers see of a slow, refusing or full target: paired p50 and p99
	cargo test --locked --test durability callers_do_not -- --nocapture --test-threads=1

soak: setup ## mixed load and random faults for an hour or SOAK_SECONDS; SOAK_SEED or SOAK_PLAN again
	SOAK_SECONDS=$${SOAK_SECONDS:-3600} cargo test --locked --test soak nothing_is_lost -- --nocapture

fuzz: setup ## the fuzz targets at random, side by side, for ten minutes or FUZZ_SECONDS
	BOLERO_RANDOM_TEST_TIME_MS=$$(($${FUZZ_SECONDS:-600} * 1000)) \
	  cargo test --locked --lib fuzz -- --nocapture --test-threads=16

model: setup ## the model's larger configurations: half an hour and some 10 GB
	SEGUE_MODEL=large cargo test --locked --release --test model -- --nocapture

PROFILE ?= release
bench: setup ## what segue costs against direct connections and pgbouncer; BENCH='point --workers 32'
	cargo bench --locked --profile $(PROFILE) --bench throughput -- $(BENCH)

bench-figures: setup ## `make bench`, whose output becomes the figures of docs/explanation/performance.md
	cargo bench --locked --profile release --bench throughput -- $(BENCH) > target/figures.md
	awk '/^<!-- figures: end/ { print ""; while ((getline line < "target/figures.md") > 0) print line; print "" } \
	  /^<!-- figures: end/ { skip = 0 } !skip { print } /^<!-- figures: begin/ { skip = 1 }' \
	  docs/explanation/performance.md > target/performance.md && cp target/performance.md docs/explanation/performance.md

bench-backfill: setup ## rows a second of the backfill beside a bare COPY pipe and pg_dump (some minutes)
	cargo build --locked --release
	@benches/backfill/run $(BENCH)

bench-verify: ## rows/s of verify, and its share of the data over the wire, beside COPY and backfill
	@scripts/setup --demo
	cargo build --locked --release
	@.build/python/bin/python benches/verify/run

bench-batch: setup ## one UPDATE of five million rows while the target is away, folded and made equal
	SEGUE_BATCH_ROWS=$${BATCH_ROWS:-5000000} cargo test --locked --release --test operators \
	  a_batch_of_very_many_rows -- --nocapture

bench-cutover: setup ## 20 cutovers and rollbacks under load: the pause, errors, what was lost
	@cargo bench --locked --profile release --bench cutover -- $(BENCH)

ci: ## what .ci/run does: all of the above but the demo
	@.ci/run
