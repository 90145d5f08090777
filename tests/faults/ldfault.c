/* LD_PRELOAD: makes write, writev, pwrite, fsync and fdatasync fail for the files under one directory, and moves the
 * wall clock, when told to. The monotonic clocks stay true.
 *
 * LDFAULT_DIR      prefix of the paths that are meant
 * LDFAULT_CONTROL  a file of struct control, which the test maps and changes while the process runs
 *
 * A call that is to fail does nothing and returns -1 with the wanted errno: as the kernel does for EIO and ENOSPC.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2 };

struct control {
    volatile int64_t kinds;      /* WRITE | SYNC: which calls may fail; 0 = none */
    volatile int64_t after;      /* so many of them succeed first */
    volatile int64_t times;      /* so many fail then; negative = all */
    volatile int64_t error;      /* errno */
    volatile int64_t writes;     /* counted while loaded */
    volatile int64_t syncs;
    volatile int64_t failed;
    volatile int64_t ahead_us;   /* of the wall clock */
    volatile int64_t frozen_us;  /* the wall clock stands here; 0 = it runs */
};

static struct control *control;
static const char *directory;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("LDFAULT_CONTROL");
    directory = getenv("LDFAULT_DIR");
    if (!path || !directory) return;
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (mapped != MAP_FAILED) control = mapped;
}

static int meant(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, directory, strlen(directory)) == 0;
}

/* Whether this call is to fail; errno is set then. */
static int fails(int kind, int descriptor) {
    int before = errno;
    if (!control || !meant(descriptor)) {
        errno = before;
        return 0;
    }
    errno = before;
    __sync_fetch_and_add(kind == WRITE ? &control->writes : &control->syncs, 1);
    if (!(control->kinds & kind)) return 0;
    if (control->after > 0 && __sync_fetch_and_sub(&control->after, 1) > 0) return 0;
    if (control->times == 0) return 0;
    if (control->times > 0) __sync_fetch_and_sub(&control->times, 1);
    __sync_fetch_and_add(&control->failed, 1);
    errno = control->error;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void *bytes, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = NEXT(write);
    return fails(WRITE, descriptor) ? -1 : next(descriptor, bytes, count);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    static ssize_t (*next)(int, const struct iovec *, int);
    if (!next) next = NEXT(writev);
    return fails(WRITE, descriptor) ? -1 : next(descriptor, parts, count);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    static ssize_t (*next)(int, const void *, size_t, off_t);
    if (!next) next = NEXT(pwrite);
    return fails(WRITE, descriptor) ? -1 : next(descriptor, bytes, count, offset);
}

int fsync(int descriptor) {
    static int (*next)(int);
    if (!next) next = NEXT(fsync);
    return fails(SYNC, descriptor) ? -1 : next(descriptor);
}

int fdatasync(int descriptor) {
    static int (*next)(int);
    if (!next) next = NEXT(fdatasync);
    return fails(SYNC, descriptor) ? -1 : next(descriptor);
}

static int64_t wall_us(void) {
    struct timespec now;
    if (control && control->frozen_us) return control->frozen_us;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000 + (control ? control->ahead_us : 0);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    int64_t us = wall_us();
    now->tv_sec = us / 1000000;
    now->tv_usec = us % 1000000;
    return 0;
}

time_t time(time_t *now) {
    time_t seconds = wall_us() / 1000000;
    if (now) *now = seconds;
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, clock, now);
    int64_t us = wall_us();
    now->tv_sec = us / 1000000;
    now->tv_nsec = us % 1000000 * 1000;
    return 0;
}
