/* Loaded before a server, so that a test can set its clock of the day: what a file says is added to it, in milliseconds. Other
 * clocks go as they do. It is linked with no version of the C library, for a server
 * may bring its own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead_ms;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("CLOCK_AHEAD_FILE");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *shared = mmap(0, sizeof(*ahead_ms), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED) ahead_ms = shared;
}

static void add(int64_t *seconds, int64_t *part, int64_t parts) {
    int64_t ahead = ahead_ms ? *ahead_ms : 0;
    *seconds += ahead / 1000;
    *part += ahead % 1000 * (parts / 1000);
    if (*part < 0) { *part += parts; *seconds -= 1; }
    if (*part >= parts) { *part -= parts; *seconds += 1; }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t seconds = now->tv_sec, part = now->tv_nsec;
        add(&seconds, &part, 1000000000);
        now->tv_sec = seconds;
        now->tv_nsec = part;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

/* Some servers have a module find its functions in the C library first, and never here. */
void *dlopen(const char *path, int flags) {
    void *(*open_library)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    return open_library ? open_library(path, flags & ~RTLD_DEEPBIND) : 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
