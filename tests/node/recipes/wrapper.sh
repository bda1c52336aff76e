#!/bin/bash
# `nydusd` as the node finds it in PATH: runs nydusd.real with `--rlimit-nofile 0` appended. nydusd sets its own limit
# of open files and exits where CAP_SYS_RESOURCE is missing, as on most test machines. A program and not a script,
# because what we install on is an ELF file.
# With CROSS_ROOT (see cross-root.sh) it is made for arm64.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
cat >"$WORK/nydusd.c" <<'C'
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char **args = calloc(argc + 3, sizeof *args);
    memcpy(args, argv, argc * sizeof *args);
    if (argc > 1 && argv[1][0] != '-') {
        args[argc] = "--rlimit-nofile";
        args[argc + 1] = "0";
    }
    execv("/usr/local/libexec/nydusd.real", args);
    return 127;
}
C
mkdir -p "$OUT/bin"
if [ -z "${CROSS_ROOT:-}" ]; then
    gcc -O2 -static -o "$OUT/bin/nydusd" "$WORK/nydusd.c"
    exit
fi
made=$(mktemp --directory "$CROSS_ROOT/tmp/wrapper.XXXXXX")
chroot "$CROSS_ROOT" aarch64-linux-gnu-gcc -O2 -static -x c -o "${made#"$CROSS_ROOT"}/nydusd" - <"$WORK/nydusd.c"
mv "$made/nydusd" "$OUT/bin/nydusd"
rmdir "$made"
