# Two doors: `make run` starts a server to try, `make test` checks everything. Each installs what it needs first.
.PHONY: run test

run:
	@.ci/prepare build
	@. .ci/compilers && cargo build --locked --release -p rockdove
	@exec "$${CARGO_TARGET_DIR:-target}/release/rockdove" demo demo

test:
	@.ci/prepare build test
	@. .ci/compilers && exec .ci/test
