/* LD_PRELOAD: lets one call on a file below a folder fail, be short or be slow; set from within the process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NONE, WRITE, FSYNC, RENAME, OPEN, UNLINK, READ };
enum { FAIL, SHORT, SLOW };

static char folder[PATH_MAX];
static int call, nth, code, mode, seen, hits;

/* From here on the nth call of this kind below `where` fails with `number`, and all that follow where nth is < 0.
   mode SHORT halves what is written, SLOW waits `number` microseconds; both from the nth call on. */
void chaos_set(const char *where, int what, int which, int number, int how) {
    snprintf(folder, sizeof folder, "%s", where);
    nth = which, code = number, mode = how, seen = hits = 0, call = what;
}

/* CHAOS_SLOW=MICROSECONDS:FOLDER makes every write below the folder slow, for processes nobody calls into. */
__attribute__((constructor)) static void from_environment(void) {
    const char *told = getenv("CHAOS_SLOW"), *where = told ? strchr(told, ':') : 0;
    if (where) chaos_set(where + 1, WRITE, 1, atoi(told), SLOW);
}

int chaos_hits(void) { return hits; }

static int below(const char *path) {
    char cwd[PATH_MAX], whole[2 * PATH_MAX];
    if (path[0] == '/') return !strncmp(path, folder, strlen(folder));
    if (!getcwd(cwd, sizeof cwd)) return 0;
    snprintf(whole, sizeof whole, "%s/%s", cwd, path);
    return !strncmp(whole, folder, strlen(folder));
}

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}

static void rest(void) {
    struct timespec t = {code / 1000000, code % 1000000 * 1000L};
    nanosleep(&t, 0);
}

/* Whether this call, known to be below the folder, is the one. */
static int struck(void) {
    seen++;
    if (mode == FAIL ? (nth < 0 ? seen < -nth : seen != nth) : seen < nth) return 0;
    hits++;
    if (mode == SLOW) return rest(), 0;
    if (mode == SHORT) return 1;
    errno = code;
    return 1;
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (call == WRITE && below_fd(fd) && struck()) return mode == SHORT ? real(fd, data, n > 1 ? n / 2 : n) : -1;
    return real(fd, data, n);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (call == WRITE && below_fd(fd) && struck()) return mode == SHORT ? real(fd, parts, 1) : -1;
    return real(fd, parts, count);
}

ssize_t read(int fd, void *data, size_t n) {
    REAL(ssize_t, "read", int, void *, size_t);
    if (call == READ && below_fd(fd) && struck()) return mode == SHORT ? real(fd, data, n > 1 ? n / 2 : n) : -1;
    return real(fd, data, n);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return call == FSYNC && below_fd(fd) && struck() ? -1 : real(fd);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return call == RENAME && below(to) && struck() ? -1 : real(from, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return call == UNLINK && below(path) && struck() ? -1 : real(path);
}

int unlinkat(int at, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    return call == UNLINK && (path[0] == '/' ? below(path) : at != AT_FDCWD && below_fd(at)) && struck()
        ? -1 : real(at, path, flags);
}

#define MODE_OF(flags) \
    va_list more; va_start(more, flags); \
    mode_t bits = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; va_end(more)

int open(const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(int, "open", const char *, int, ...);
    return call == OPEN && below(path) && struck() ? -1 : real(path, flags, bits);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(int, "open64", const char *, int, ...);
    return call == OPEN && below(path) && struck() ? -1 : real(path, flags, bits);
}

int openat(int at, const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(int, "openat", int, const char *, int, ...);
    return call == OPEN && at == AT_FDCWD && below(path) && struck() ? -1 : real(at, path, flags, bits);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(int, "openat64", int, const char *, int, ...);
    return call == OPEN && at == AT_FDCWD && below(path) && struck() ? -1 : real(at, path, flags, bits);
}
