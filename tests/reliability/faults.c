/* Counts what a process and the children it forks write to disk below some folders, and lets one operation fail.
 *
 * Preloaded (LD_PRELOAD), so that what C++ and Rust libraries write counts as well. Nothing is counted before
 * faults_arm(). Operations: opening for writing, writing, closing what was written, syncing, truncating, renaming,
 * linking, removing, making folders, changing modes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define ROOTS 4

struct shared {
    long count, target, fired;
    int error, lasting;
    char failed[PATH_MAX + 64];
};

static struct shared *state;
static char roots[ROOTS][PATH_MAX];
static int n_roots;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Fail the target-th operation with an errno; with "lasting", also all later ones that need room, as on a full disk. */
void faults_arm(const char *folders, long target, int error, int lasting) {
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    state->target = target;
    state->error = error;
    state->lasting = lasting;
    n_roots = 0;
    char copy[ROOTS * PATH_MAX], *rest = copy, *one;
    snprintf(copy, sizeof copy, "%s", folders);
    while ((one = strsep(&rest, ":")) && n_roots < ROOTS) snprintf(roots[n_roots++], PATH_MAX, "%s", one);
}

long faults_count(void) { return state ? state->count : 0; }
long faults_fired(void) { return state ? state->fired : 0; }
const char *faults_failed(void) { return state ? state->failed : ""; }

static int below_roots(const char *path) {
    for (int i = 0; i < n_roots; i++) {
        size_t n = strlen(roots[i]);
        if (!strncmp(path, roots[i], n) && (path[n] == '/' || !path[n])) return 1;
    }
    return 0;
}

/* The errno that an operation on a path is to fail with, or 0. */
static int due(const char *operation, const char *path, int needs_room) {
    if (!state || !below_roots(path)) return 0;
    long now = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
    if (now != state->target && !(state->lasting && needs_room && state->fired && now > state->target)) return 0;
    if (!state->fired) snprintf(state->failed, sizeof state->failed, "%s %s", operation, path);
    state->fired++;
    /* A full disk does not keep anybody from removing files. */
    return state->error == ENOSPC && !needs_room ? EIO : state->error;
}

static const char *of_descriptor(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
    return path;
}

static const char *absolute(int folder, const char *path, char *whole) {
    if (path[0] == '/') return path;
    char base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return path;
    } else {
        of_descriptor(folder, base);
    }
    if (snprintf(whole, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return path;
    return whole;
}

static int due_at(const char *operation, int folder, const char *path, int needs_room) {
    char whole[PATH_MAX];
    return state && path ? due(operation, absolute(folder, path, whole), needs_room) : 0;
}

static int due_fd(const char *operation, int fd, int needs_room) {
    char path[PATH_MAX];
    return state ? due(operation, of_descriptor(fd, path), needs_room) : 0;
}

#define FAIL_IF(value, result) do { int due_ = (value); if (due_) { errno = due_; return result; } } while (0)

static int for_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); MODE_OF(flags) \
        if (for_writing(flags)) FAIL_IF(due_at("open", AT_FDCWD, path, flags & O_CREAT), -1); \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); MODE_OF(flags) \
        if (for_writing(flags)) FAIL_IF(due_at("open", folder, path, flags & O_CREAT), -1); \
        return real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); \
        if (strpbrk(mode, "wa+")) FAIL_IF(due_at("open", AT_FDCWD, path, 1), NULL); \
        return real(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

/* Half of what a failing write was given is on the disk: a torn file. */
ssize_t write(int fd, const void *content, size_t n) {
    REAL(write);
    int error = due_fd("write", fd, 1);
    if (error) { ssize_t done = real(fd, content, n / 2); (void)done; errno = error; return -1; }
    return real(fd, content, n);
}

#define PWRITE(name, kind) \
    ssize_t name(int fd, const void *content, size_t n, kind at) { \
        REAL(name); FAIL_IF(due_fd("write", fd, 1), -1); return real(fd, content, n, at); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(writev); FAIL_IF(due_fd("write", fd, 1), -1); return real(fd, parts, n);
}

size_t fwrite(const void *content, size_t size, size_t n, FILE *file) {
    REAL(fwrite); FAIL_IF(due_fd("write", fileno(file), 1), 0); return real(content, size, n, file);
}

ssize_t sendfile(int to, int from, off_t *at, size_t n);
ssize_t sendfile64(int to, int from, off64_t *at, size_t n);
ssize_t sendfile(int to, int from, off_t *at, size_t n) {
    REAL(sendfile); FAIL_IF(due_fd("write", to, 1), -1); return real(to, from, at, n);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t n) {
    REAL(sendfile64); FAIL_IF(due_fd("write", to, 1), -1); return real(to, from, at, n);
}
ssize_t copy_file_range(int from, off64_t *there, int to, off64_t *here, size_t n, unsigned flags) {
    REAL(copy_file_range); FAIL_IF(due_fd("write", to, 1), -1); return real(from, there, to, here, n, flags);
}

/* A file system over the network says at the end what it could not write. */
int close(int fd) {
    REAL(close);
    int flags = state ? fcntl(fd, F_GETFL) : -1;
    int error = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY ? due_fd("close", fd, 1) : 0;
    int done = real(fd);
    if (error) { errno = error; return -1; }
    return done;
}

#define ON_DESCRIPTOR(name, operation, room) \
    int name(int fd) { REAL(name); FAIL_IF(due_fd(operation, fd, room), -1); return real(fd); }
ON_DESCRIPTOR(fsync, "fsync", 1)
ON_DESCRIPTOR(fdatasync, "fsync", 1)

int msync(void *start, size_t n, int flags) {
    REAL(msync);
    if (state && n_roots) FAIL_IF(due("msync", roots[0], 1), -1);
    return real(start, n, flags);
}

#define TRUNCATE(name, kind) \
    int name(int fd, kind n) { REAL(name); FAIL_IF(due_fd("truncate", fd, 1), -1); return real(fd, n); }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int posix_fallocate(int fd, off_t at, off_t n) {
    REAL(posix_fallocate);
    int error = due_fd("allocate", fd, 1);
    return error ? error : real(fd, at, n);
}

int rename(const char *from, const char *to) {
    REAL(rename); FAIL_IF(due_at("rename", AT_FDCWD, to, 1), -1); return real(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat); FAIL_IF(due_at("rename", b, to, 1), -1); return real(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(renameat2); FAIL_IF(due_at("exchange", b, to, 0), -1); return real(a, from, b, to, flags);
}
int link(const char *from, const char *to) {
    REAL(link); FAIL_IF(due_at("link", AT_FDCWD, to, 1), -1); return real(from, to);
}
int symlink(const char *from, const char *to) {
    REAL(symlink); FAIL_IF(due_at("link", AT_FDCWD, to, 1), -1); return real(from, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir); FAIL_IF(due_at("mkdir", AT_FDCWD, path, 1), -1); return real(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(mkdirat); FAIL_IF(due_at("mkdir", folder, path, 1), -1); return real(folder, path, mode);
}
int unlink(const char *path) {
    REAL(unlink); FAIL_IF(due_at("remove", AT_FDCWD, path, 0), -1); return real(path);
}
int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat); FAIL_IF(due_at("remove", folder, path, 0), -1); return real(folder, path, flags);
}
int rmdir(const char *path) {
    REAL(rmdir); FAIL_IF(due_at("remove", AT_FDCWD, path, 0), -1); return real(path);
}
int chmod(const char *path, mode_t mode) {
    REAL(chmod); FAIL_IF(due_at("chmod", AT_FDCWD, path, 0), -1); return real(path, mode);
}
