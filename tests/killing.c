/* Kills its process at the n-th operation that changes a file below one folder; preloaded by tests/killing.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static long deadline = -1, seen = 0;

/* Count the operations below a folder from now on, and kill the process at the n-th; 0 only counts. */
void killing_begin(const char *below, long n) {
    snprintf(folder, sizeof folder, "%s", below);
    seen = 0;
    deadline = n;
}

long killing_seen(void) { return seen; }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* True if this operation on a path is the n-th. */
static int due(const char *path) {
    if (deadline < 0 || strncmp(path, folder, strlen(folder)) != 0) return 0;
    return __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST) == deadline;
}

static int due_at(int directory, const char *name) {
    char path[4096] = "";
    if (deadline < 0) return 0;
    if (name[0] != '/') {
        char link[64];
        if (directory == AT_FDCWD) {
            if (!getcwd(path, sizeof path)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            ssize_t length = readlink(link, path, sizeof path - 1);
            if (length < 0) return 0;
            path[length] = 0;
        }
        strncat(path, "/", sizeof path - strlen(path) - 1);
    }
    strncat(path, name, sizeof path - strlen(path) - 1);
    return due(path);
}

static int due_in(int file) {
    char link[64], path[4096];
    struct stat facts;
    if (deadline < 0 || fstat(file, &facts) || !S_ISREG(facts.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return due(path);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* A write is torn: half of it has reached the file when the process dies. */
ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (due_in(file)) {
        real(file, data, size / 2);
        die();
    }
    return real(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (due_in(file)) {
        real(file, parts, count / 2);
        die();
    }
    return real(file, parts, count);
}

#define PWRITE(name, offset_type) \
    ssize_t name(int file, const void *data, size_t size, offset_type offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, offset_type); \
        if (due_in(file)) { \
            real(file, data, size / 2, offset); \
            die(); \
        } \
        return real(file, data, size, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define ON_FILE(name) \
    int name(int file) { \
        REAL(int, #name, int); \
        if (due_in(file)) die(); \
        return real(file); \
    }
ON_FILE(fsync)
ON_FILE(fdatasync)

#define TRUNCATE(name, offset_type) \
    int name(int file, offset_type size) { \
        REAL(int, #name, int, offset_type); \
        if (due_in(file)) die(); \
        return real(file, size); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (due_at(AT_FDCWD, to)) die();
    return real(from, to);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    if (due_at(to_directory, to)) die();
    return real(from_directory, from, to_directory, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (due_at(AT_FDCWD, path)) die();
    return real(path);
}

int unlinkat(int directory, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    if (due_at(directory, path)) die();
    return real(directory, path, flags);
}

int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    if (due_at(AT_FDCWD, path)) die();
    return real(path);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    if (due_at(AT_FDCWD, path)) die();
    return real(path, mode);
}

/* A file is created or emptied. */
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        __builtin_va_list rest; \
        __builtin_va_start(rest, flags); \
        mode_t mode = __builtin_va_arg(rest, mode_t); \
        __builtin_va_end(rest); \
        REAL(int, #name, const char *, int, ...); \
        if (flags & (O_CREAT | O_TRUNC) && due_at(AT_FDCWD, path)) die(); \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
