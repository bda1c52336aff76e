#!/bin/bash
# dfdaemon 1.5.10 from the crate dragonfly-client (Rust; needs cmake, libclang and protoc with its include files).
#
# Built for tests, not for speed: Rust at optimisation level 1, C++ (rocksdb) at 0, no LTO, the most codegen units.
# That changes nothing that a test looks at.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
version=1.5.10

export CARGO_HOME="$WORK/cargo"
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256
export CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_INCREMENTAL=false
export CXXFLAGS=-O0 # the last -O counts
export PROTOC_INCLUDE=/usr/include
cargo install dragonfly-client --version "$version" --locked --bin dfdaemon --root "$OUT" --target-dir "$WORK/target" --no-track
