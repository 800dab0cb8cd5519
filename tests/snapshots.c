/* Copies one folder before the n-th operation that changes a file below it; preloaded by tests/snapshots.py. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[4096], copies[4096];
static int begun = 0;
static long seen = 0;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Copy the folder before each operation from now on, to `into`/1, `into`/2, …; both without a slash at the end. */
void snapshots_begin(const char *of, const char *into) {
    snprintf(folder, sizeof folder, "%s", of);
    snprintf(copies, sizeof copies, "%s", into);
    begun = 1;
}

static int below(const char *path) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && path[length] == '/';
}

/* Copy the folder as it is now; the caller holds the lock. */
static void copy(void) {
    char into[4200];
    pid_t child;
    int status;
    snprintf(into, sizeof into, "%s/%ld", copies, ++seen);
    char *words[] = {"cp", "--archive", "--sparse=never", folder, into, NULL}, *nothing[] = {NULL};
    if (posix_spawn(&child, "/bin/cp", NULL, NULL, words, nothing) || waitpid(child, &status, 0) != child || status) {
        fprintf(stderr, "%s cannot be copied to %s\n", folder, into);
        abort();
    }
}

/* The lock, with a snapshot taken, if a path is below the folder; release() follows. */
static int taken(const char *path) {
    if (!begun || !below(path)) return 0;
    pthread_mutex_lock(&lock);
    copy();
    return 1;
}

static void release(int was_taken) {
    if (was_taken) pthread_mutex_unlock(&lock);
}

static int taken_at(int directory, const char *name) {
    char path[4096] = "";
    if (!begun) return 0;
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
    return taken(path);
}

/* The path of an open file, or NULL if it is no file below the folder. */
static const char *path_of(int file, char *path, size_t size) {
    char link[64];
    struct stat facts;
    if (!begun || fstat(file, &facts) || !S_ISREG(facts.st_mode)) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return below(path) ? path : NULL;
}

static int taken_in(int file) {
    char path[4096];
    return path_of(file, path, sizeof path) ? taken(path) : 0;
}

/* A write is torn: its first half has reached the copy. An offset of -1 is where the file stands. */
static int taken_torn(int file, const void *data, size_t size, off_t offset) {
    char path[4096], into[9000];
    if (!path_of(file, path, sizeof path)) return 0;
    int was_taken = taken(path);
    if (offset < 0) offset = fcntl(file, F_GETFL) & O_APPEND ? lseek(file, 0, SEEK_END) : lseek(file, 0, SEEK_CUR);
    snprintf(into, sizeof into, "%s/%ld%s", copies, seen, path + strlen(folder));
    int torn = open(into, O_WRONLY);
    if (torn < 0 && strstr(path, " (deleted)")) return was_taken;
    if (torn < 0 || pwrite(torn, data, size / 2, offset) != (ssize_t)(size / 2)) {
        fprintf(stderr, "%s cannot be torn\n", into);
        abort();
    }
    close(torn);
    return was_taken;
}

/* The operation `name`, after the snapshot that `taking` takes. */
#define GUARDED(type, name, parameters, taking, ...) \
    type name parameters { \
        static type (*real) parameters; \
        if (!real) real = (type (*) parameters)dlsym(RTLD_NEXT, #name); \
        int was_taken = taking; \
        type done = real(__VA_ARGS__); \
        release(was_taken); \
        return done; \
    }
GUARDED(ssize_t, write, (int file, const void *data, size_t size), taken_torn(file, data, size, -1), file, data, size)
GUARDED(ssize_t, pwrite, (int file, const void *data, size_t size, off_t offset),
        taken_torn(file, data, size, offset), file, data, size, offset)
GUARDED(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t offset),
        taken_torn(file, data, size, offset), file, data, size, offset)
GUARDED(ssize_t, writev, (int file, const struct iovec *parts, int count),
        taken_torn(file, parts->iov_base, parts->iov_len, -1), file, parts, count)
GUARDED(int, fsync, (int file), taken_in(file), file)
GUARDED(int, fdatasync, (int file), taken_in(file), file)
GUARDED(int, ftruncate, (int file, off_t size), taken_in(file), file, size)
GUARDED(int, ftruncate64, (int file, off64_t size), taken_in(file), file, size)
GUARDED(int, rename, (const char *from, const char *to), taken_at(AT_FDCWD, to), from, to)
GUARDED(int, renameat, (int from_in, const char *from, int to_in, const char *to), taken_at(to_in, to),
        from_in, from, to_in, to)
GUARDED(int, unlink, (const char *path), taken_at(AT_FDCWD, path), path)
GUARDED(int, unlinkat, (int directory, const char *path, int flags), taken_at(directory, path), directory, path, flags)
GUARDED(int, rmdir, (const char *path), taken_at(AT_FDCWD, path), path)
GUARDED(int, mkdir, (const char *path, mode_t mode), taken_at(AT_FDCWD, path), path, mode)

/* A file is created or emptied. */
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        static int (*real)(const char *, int, ...); \
        if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
        __builtin_va_list rest; \
        __builtin_va_start(rest, flags); \
        mode_t mode = __builtin_va_arg(rest, mode_t); \
        __builtin_va_end(rest); \
        int was_taken = flags & (O_CREAT | O_TRUNC) ? taken_at(AT_FDCWD, path) : 0; \
        int file = real(path, flags, mode); \
        release(was_taken); \
        return file; \
    }
OPEN(open)
OPEN(open64)
