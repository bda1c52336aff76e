/*
 * The program of the reader image: reads its image's files one after another, checks their content and says, one
 * JSON line a read, how long each took. It is the container that must never see an error.
 *
 *   reader make DIR COUNT BYTES   write COUNT files (text, so that it compresses a little; each unlike the others)
 *   reader read DIR COUNT PAUSE_MS [ROUNDS]   read them, the last one first, ROUNDS times over (0: for ever)
 *   reader pause                  wait for a signal (a pod's first container)
 *
 * A file is 16 hexadecimal digits, the FNV-1a hash of the rest, and the rest. The last file is read first because
 * nydusd fetches up to 1 MiB from where a cold read begins: forwards, four reads of five would find their data there.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t fnv(const char *data, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double now(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void name_of(char *path, size_t size, const char *dir, unsigned long index)
{
    snprintf(path, size, "%s/%05lu", dir, index);
}

static int make(const char *dir, unsigned long count, size_t bytes)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    char path[4096], sum[17], *data = malloc(bytes);
    for (unsigned long index = 0; index < count; index++) {
        uint64_t state = 0x9e3779b97f4a7c15u * (index + 1);
        for (size_t at = 16; at < bytes; at++)
            data[at] = letters[next(&state) >> 58];
        snprintf(sum, sizeof sum, "%016llx", (unsigned long long)fnv(data + 16, bytes - 16));
        memcpy(data, sum, 16);
        name_of(path, sizeof path, dir, index);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file)) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

/* NULL when the file was read and is what `make` wrote, else what was wrong. */
static const char *read_one(const char *path, char *data, size_t room, size_t *length)
{
    int file = open(path, O_RDONLY);
    if (file < 0)
        return strerror(errno);
    ssize_t got;
    *length = 0;
    while (*length < room && (got = read(file, data + *length, room - *length)) != 0) {
        if (got < 0) {
            const char *why = strerror(errno);
            close(file);
            return why;
        }
        *length += got;
    }
    close(file);
    char sum[17];
    if (*length < 17)
        return "too short";
    snprintf(sum, sizeof sum, "%016llx", (unsigned long long)fnv(data + 16, *length - 16));
    return memcmp(sum, data, 16) ? "wrong content" : NULL;
}

static int read_all(const char *dir, unsigned long count, unsigned long pause_ms, unsigned long rounds)
{
    const size_t room = 16 << 20;
    char path[4096], *data = malloc(room);
    unsigned long errors = 0;
    for (unsigned long round = 0; rounds == 0 || round < rounds; round++) {
        for (unsigned long index = count; index-- > 0;) {
            size_t length = 0;
            name_of(path, sizeof path, dir, index);
            double at = now(CLOCK_REALTIME), began = now(CLOCK_MONOTONIC);
            const char *error = read_one(path, data, room, &length);
            double took = now(CLOCK_MONOTONIC) - began;
            printf("{\"at\": %.6f, \"round\": %lu, \"file\": %lu, \"bytes\": %zu, \"ms\": %.3f, \"error\": ", at, round,
                   index, length, took * 1e3);
            printf(error ? "\"%s\"}\n" : "null}\n", error);
            fflush(stdout);
            errors += error != NULL;
            usleep(pause_ms * 1000);
        }
    }
    return errors ? 3 : 0;
}

static void leave(int number)
{
    (void)number;
    _exit(0);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    if (!strcmp(verb, "make") && argc == 5)
        return make(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    if (!strcmp(verb, "read") && argc >= 5)
        return read_all(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10),
                        argc > 5 ? strtoul(argv[5], NULL, 10) : 1);
    if (!strcmp(verb, "pause"))
        for (;;)
            pause();
    fprintf(stderr, "usage: reader make DIR COUNT BYTES | read DIR COUNT PAUSE_MS [ROUNDS] | pause\n");
    return 2;
}
