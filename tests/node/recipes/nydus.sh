#!/bin/bash
# nydusd and nydus-image 2.2.0 from the crate nydus-rs (Rust).
#
# The published crate does not build as it is with a current compiler:
#   * its lock file pins time 0.3.14, which rustc >= 1.80 rejects: 0.3.36 is the first one that compiles;
#   * `deny(warnings)` turns new lints into errors: lints are capped;
#   * its rust-toolchain file asks for a compiler that is not there: removed.
# With CROSS_ROOT (a root made by cross-root.sh) it is built for arm64, by the compilers in that root and in the same way:
# this machine's compiler has no standard library for another architecture.
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
export RUSTFLAGS="--cap-lints warn" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
build=(cargo build --release --locked --bin nydusd --bin nydus-image)
if [ -z "${CROSS_ROOT:-}" ]; then
    "${build[@]}" --target-dir "$WORK/target"
    install -D -m 0755 -t "$OUT/bin" "$WORK/target/release/nydusd" "$WORK/target/release/nydus-image"
    strip "$OUT/bin/nydusd" "$OUT/bin/nydus-image"
    exit
fi

mkdir -p .cargo
cargo vendor --locked vendor >.cargo/config.toml # an older cargo reads no newer one's index
export MADE=target/aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CARGO_HOME=/src/cargo PATH=/usr/sbin:/usr/bin
unshare --mount --propagation private bash -euc '
    mount --bind "$PWD" "$CROSS_ROOT/src"
    mount -t proc proc "$CROSS_ROOT/proc"
    mount --rbind /dev "$CROSS_ROOT/dev"
    exec chroot "$CROSS_ROOT" bash -euc "
        cd /src
        \"\$@\"
        aarch64-linux-gnu-strip \$MADE/release/nydusd \$MADE/release/nydus-image
    " cross "$@"
' cross "${build[@]}" --offline --target "${MADE#target/}" --target-dir target
install -D -m 0755 -t "$OUT/bin" "$MADE/release/nydusd" "$MADE/release/nydus-image"
