#!/bin/bash
# nydusd and nydus-image 2.2.0 from the crate nydus-rs (Rust).
#
# The published crate does not build as it is with a current compiler:
#   * its lock file pins time 0.3.14, which rustc >= 1.80 rejects: 0.3.36 is the first one that compiles;
#   * `deny(warnings)` turns new lints into errors: lints are capped;
#   * its rust-toolchain file asks for a compiler that is not there: removed.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
version=2.2.0

mkdir -p "$WORK/fetch/src"
cat >"$WORK/fetch/Cargo.toml" <<TOML
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"
[dependencies]
nydus-rs = "=$version"
TOML
: >"$WORK/fetch/src/lib.rs"
export CARGO_HOME="$WORK/cargo"
cargo fetch --manifest-path "$WORK/fetch/Cargo.toml"
cp -r "$CARGO_HOME"/registry/src/*/nydus-rs-$version "$WORK/src"
cd "$WORK/src"
rm -f rust-toolchain rust-toolchain.toml
cargo update -p time --precise 0.3.36
RUSTFLAGS="--cap-lints warn" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo build --release --locked --bin nydusd --bin nydus-image --target-dir "$WORK/target"
install -D -m 0755 -t "$OUT/bin" "$WORK/target/release/nydusd" "$WORK/target/release/nydus-image"
strip "$OUT/bin/nydusd" "$OUT/bin/nydus-image"
