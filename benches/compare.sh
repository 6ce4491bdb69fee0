#!/bin/sh
# Builds both programs and compares; arguments go to compare.py.
set -eu
cd "$(dirname "$0")/.."
cargo build --release -p rockdove -p rockdove-benches --bins
exec python3 benches/compare.py "${CARGO_TARGET_DIR:-target}/release" "$@"
