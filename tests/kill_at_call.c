/* Ends the process by SIGKILL before one of its calls that change files below a folder: loaded with LD_PRELOAD.
 *
 * kill_at_call_arm(folder, n) starts counting: the n-th call is the one that is not made. n = 0 only counts; kill_at_call_count() tells. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char watched[PATH_MAX];
static atomic_long count, at = -1;

void kill_at_call_arm(const char *folder, long n) {
    snprintf(watched, sizeof watched, "%s", folder);
    atomic_store(&count, 0);
    atomic_store(&at, n);
}

long kill_at_call_count(void) { return atomic_load(&count); }

static void tick(void) {
    if (atomic_fetch_add(&count, 1) + 1 == atomic_load(&at)) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
}

static void path_call(int dir, const char *path) {
    char whole[PATH_MAX] = "", link[64];
    if (atomic_load(&at) < 0 || path == NULL) return;
    if (path[0] != '/' && dir != AT_FDCWD) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        ssize_t n = readlink(link, whole, sizeof whole - 1);
        if (n < 0) return;
        whole[n] = 0;
    }
    if (strncmp(path[0] == '/' ? path : whole, watched, strlen(watched)) == 0) tick();
}

static void file_call(int file) {
    char link[64], path[PATH_MAX];
    if (atomic_load(&at) < 0) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return;
    path[n] = 0;
    if (strncmp(path, watched, strlen(watched)) == 0) tick();
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, declared, given, before) \
    type name declared { before; return NEXT(name) given; }
#define WRAP_OPEN(name, declared, given, dir) \
    int name declared { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
        if ((flags & O_ACCMODE) != O_RDONLY) path_call(dir, path); \
        return NEXT(name) given; \
    }

WRAP_OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
WRAP_OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
WRAP_OPEN(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), dir)
WRAP_OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), dir)
WRAP(ssize_t, write, (int file, const void *data, size_t size), (file, data, size), file_call(file))
WRAP(ssize_t, pwrite, (int file, const void *data, size_t size, off_t to), (file, data, size, to), file_call(file))
WRAP(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t to), (file, data, size, to), file_call(file))
WRAP(ssize_t, writev, (int file, const struct iovec *data, int n), (file, data, n), file_call(file))
WRAP(int, ftruncate, (int file, off_t size), (file, size), file_call(file))
WRAP(int, ftruncate64, (int file, off64_t size), (file, size), file_call(file))
WRAP(int, fsync, (int file), (file), file_call(file))
WRAP(int, fdatasync, (int file), (file), file_call(file))
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), path_call(AT_FDCWD, path))
WRAP(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), path_call(dir, path))
WRAP(int, rmdir, (const char *path), (path), path_call(AT_FDCWD, path))
WRAP(int, unlink, (const char *path), (path), path_call(AT_FDCWD, path))
WRAP(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), path_call(dir, path))
WRAP(int, rename, (const char *from, const char *to), (from, to), path_call(AT_FDCWD, from))
WRAP(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), path_call(a, from))
WRAP(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags), path_call(a, from))
