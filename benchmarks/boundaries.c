/* Stands between a process and the system calls that change files: counts those below one folder, and at the N-th kills
 * the process before it happens, or half-way through a write, or fails it. Also moves the clock of day. Loaded with
 * LD_PRELOAD; idle until `boundaries_arm` is called. Calls made by every thread and every library count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum how { COUNT, KILL, TEAR, FAIL };

static char root[PATH_MAX];
static size_t root_length;
static atomic_long passed;
static long stop_at;
static enum how how;
static int failure;
static int log_to = -1;
static atomic_llong shift; /* nanoseconds added to the clock of day */

#define REAL(name) ((__typeof__(name) *)real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* Count the calls below `folder` from now on; each is told as a line in `log`, where that is not empty. */
void boundaries_arm(const char *folder, long at, int what, int error, const char *log)
{
    root_length = 0;
    strncpy(root, folder, sizeof root - 1);
    atomic_store(&passed, 0);
    stop_at = at, how = what, failure = error;
    if (log_to >= 0)
        close(log_to);
    log_to = *log ? REAL(open64)(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    root_length = strlen(root);
}

long boundaries_passed(void) { return atomic_load(&passed); }

void boundaries_shift_clock(long long nanoseconds) { atomic_store(&shift, nanoseconds); }

static int below(const char *path)
{
    return root_length && !strncmp(path, root, root_length) && (!path[root_length] || path[root_length] == '/');
}

static int told(const char *call, const char *path, const char *to)
{
    long number = atomic_fetch_add(&passed, 1) + 1;
    if (log_to >= 0) {
        char line[2 * PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\n", number, call, path + root_length, to);
        if (REAL(write)(log_to, line, length) < 0)
            return 0;
    }
    if (number != stop_at)
        return 0;
    if (how == KILL)
        kill(getpid(), SIGKILL), pause();
    if (how == FAIL)
        errno = failure;
    return how;
}

/* What is to be done about a call on a path: COUNT lets it pass. */
static int at_path(const char *call, int folder, const char *path, const char *to)
{
    int before = errno, what = COUNT;
    char whole[2 * PATH_MAX];
    if (!root_length || !path)
        return COUNT;
    if (*path == '/')
        snprintf(whole, sizeof whole, "%s", path);
    else {
        char link[64], where[PATH_MAX];
        ssize_t length;
        if (folder == AT_FDCWD)
            length = getcwd(where, sizeof where) ? (ssize_t)strlen(where) : -1;
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            length = readlink(link, where, sizeof where - 1);
        }
        if (length < 0)
            return COUNT;
        snprintf(whole, sizeof whole, "%.*s/%s", (int)length, where, path);
    }
    errno = before;
    if (below(whole))
        what = told(call, whole, to);
    return what;
}

static int at_file(const char *call, int file)
{
    int before = errno;
    char link[64], path[PATH_MAX];
    if (!root_length || file == log_to)
        return COUNT;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return COUNT;
    path[length] = 0;
    return below(path) ? told(call, path, "") : COUNT;
}

static void die(void) { kill(getpid(), SIGKILL), pause(); }

#define CHANGES(flags) ((flags) & (O_CREAT | O_TRUNC))
#define MODE(mode, flags)                                                                                              \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        MODE(mode, flags)                                                                                              \
        if (CHANGES(flags) && at_path("open", AT_FDCWD, path, "") == FAIL)                                             \
            return -1;                                                                                                 \
        return REAL(name)(path, flags, mode);                                                                          \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int folder, const char *path, int flags, ...)                                                             \
    {                                                                                                                  \
        MODE(mode, flags)                                                                                              \
        if (CHANGES(flags) && at_path("open", folder, path, "") == FAIL)                                               \
            return -1;                                                                                                 \
        return REAL(name)(folder, path, flags, mode);                                                                  \
    }
OPENAT(openat)
OPENAT(openat64)

#define WRITES(result, name, file, declared, whole, half)                                                              \
    result name declared                                                                                               \
    {                                                                                                                  \
        switch (at_file(#name, file)) {                                                                                \
        case FAIL:                                                                                                     \
            return -1;                                                                                                 \
        case TEAR:                                                                                                     \
            (void)!REAL(name) half;                                                                                    \
            die();                                                                                                     \
        }                                                                                                              \
        return REAL(name) whole;                                                                                       \
    }
WRITES(ssize_t, write, file, (int file, const void *from, size_t size), (file, from, size), (file, from, size / 2))
WRITES(ssize_t, pwrite, file, (int file, const void *from, size_t size, off_t at), (file, from, size, at),
       (file, from, size / 2, at))
WRITES(ssize_t, pwrite64, file, (int file, const void *from, size_t size, off64_t at), (file, from, size, at),
       (file, from, size / 2, at))
WRITES(ssize_t, writev, file, (int file, const struct iovec *from, int count), (file, from, count),
       (file, from, count / 2))
WRITES(ssize_t, sendfile, to, (int to, int from, off_t *at, size_t size), (to, from, at, size), (to, from, at, 40))
WRITES(ssize_t, sendfile64, to, (int to, int from, off64_t *at, size_t size), (to, from, at, size), (to, from, at, 40))
WRITES(ssize_t, copy_file_range, to,
       (int from, off64_t *start, int to, off64_t *at, size_t size, unsigned flags),
       (from, start, to, at, size, flags), (from, start, to, at, 40, flags))

#define ON_FILE(name, declared, given)                                                                                 \
    int name declared { return at_file(#name, file) == FAIL ? -1 : REAL(name) given; }
ON_FILE(fsync, (int file), (file))
ON_FILE(fdatasync, (int file), (file))
ON_FILE(ftruncate, (int file, off_t size), (file, size))
ON_FILE(ftruncate64, (int file, off64_t size), (file, size))
ON_FILE(fchmod, (int file, mode_t mode), (file, mode))
ON_FILE(posix_fallocate, (int file, off_t at, off_t size), (file, at, size))
ON_FILE(fallocate, (int file, int mode, off_t at, off_t size), (file, mode, at, size))

#define ON_PATH(name, folder, path, to, declared, given)                                                               \
    int name declared { return at_path(#name, folder, path, to) == FAIL ? -1 : REAL(name) given; }
ON_PATH(rename, AT_FDCWD, to, from, (const char *from, const char *to), (from, to))
ON_PATH(renameat, there, to, from, (int here, const char *from, int there, const char *to), (here, from, there, to))
ON_PATH(renameat2, there, to, from, (int here, const char *from, int there, const char *to, unsigned flags),
        (here, from, there, to, flags))
ON_PATH(link, AT_FDCWD, to, from, (const char *from, const char *to), (from, to))
ON_PATH(linkat, there, to, from, (int here, const char *from, int there, const char *to, int flags),
        (here, from, there, to, flags))
ON_PATH(symlink, AT_FDCWD, path, "", (const char *from, const char *path), (from, path))
ON_PATH(unlink, AT_FDCWD, path, "", (const char *path), (path))
ON_PATH(unlinkat, folder, path, "", (int folder, const char *path, int flags), (folder, path, flags))
ON_PATH(mkdir, AT_FDCWD, path, "", (const char *path, mode_t mode), (path, mode))
ON_PATH(mkdirat, folder, path, "", (int folder, const char *path, mode_t mode), (folder, path, mode))
ON_PATH(rmdir, AT_FDCWD, path, "", (const char *path), (path))
ON_PATH(chmod, AT_FDCWD, path, "", (const char *path, mode_t mode), (path, mode))
ON_PATH(truncate, AT_FDCWD, path, "", (const char *path, off_t size), (path, size))
ON_PATH(truncate64, AT_FDCWD, path, "", (const char *path, off64_t size), (path, size))

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*inner)(clockid_t, struct timespec *);
    if (!inner)
        inner = (__typeof__(inner))real("clock_gettime");
    int result = inner(clock, now);
    long long moved = atomic_load(&shift);
    if (!result && moved && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        long long whole = now->tv_sec * 1000000000LL + now->tv_nsec + moved;
        now->tv_sec = whole / 1000000000LL;
        now->tv_nsec = whole % 1000000000LL;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (into)
        *into = exact.tv_sec;
    return exact.tv_sec;
}
