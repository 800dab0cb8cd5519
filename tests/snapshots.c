/* Reports each operation that changes a file below one folder, before it is done; preloaded by tests/snapshots.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[4096];
static int server = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Report each operation below a folder (no slash at its end) from now on, to a socket of this address. */
void snapshots_begin(const char *of, const char *address) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(folder, sizeof folder, "%s", of);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", address);
    server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(server, (struct sockaddr *)&at, sizeof at)) abort();
}

static int below(const char *path) {
    size_t length = strlen(folder);
    return server >= 0 && strncmp(path, folder, length) == 0 && path[length] == '/';
}

/* The lock, once the server has copied the folder, if a path is below it; release() follows. A write is reported with
   its offset and the first half of its data. */
static int taken(const char *path, off_t offset, const void *data, size_t size) {
    if (!below(path)) return 0;
    pthread_mutex_lock(&lock);
    int64_t header[] = {strlen(path), offset, size};
    char answer;
    if (send(server, header, sizeof header, 0) != sizeof header ||
        send(server, path, header[0], 0) != header[0] ||
        (size && send(server, data, size, 0) != (ssize_t)size) || recv(server, &answer, 1, 0) != 1)
        abort();
    return 1;
}

static void release(int was_taken) {
    if (was_taken) pthread_mutex_unlock(&lock);
}

static int taken_at(int directory, const char *name) {
    char path[4096] = "";
    if (server < 0) return 0;
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
    return taken(path, 0, NULL, 0);
}

/* An operation on an open file; an offset of -1 is where the file stands. */
static int taken_in(int file, off_t offset, const void *data, size_t size) {
    char link[64], path[4096];
    struct stat facts;
    if (server < 0 || fstat(file, &facts) || !S_ISREG(facts.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (offset < 0) offset = fcntl(file, F_GETFL) & O_APPEND ? facts.st_size : lseek(file, 0, SEEK_CUR);
    return taken(path, offset, data, size / 2);
}

/* The operation `name`, after the report that `taking` makes. */
#define GUARDED(type, name, parameters, taking, ...) \
    type name parameters { \
        static type (*real) parameters; \
        if (!real) real = (type (*) parameters)dlsym(RTLD_NEXT, #name); \
        int was_taken = taking; \
        type done = real(__VA_ARGS__); \
        release(was_taken); \
        return done; \
    }
GUARDED(ssize_t, write, (int file, const void *data, size_t size), taken_in(file, -1, data, size), file, data, size)
GUARDED(ssize_t, pwrite, (int file, const void *data, size_t size, off_t offset),
        taken_in(file, offset, data, size), file, data, size, offset)
GUARDED(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t offset),
        taken_in(file, offset, data, size), file, data, size, offset)
GUARDED(ssize_t, writev, (int file, const struct iovec *parts, int count),
        taken_in(file, -1, parts->iov_base, parts->iov_len), file, parts, count)
GUARDED(int, fsync, (int file), taken_in(file, 0, NULL, 0), file)
GUARDED(int, fdatasync, (int file), taken_in(file, 0, NULL, 0), file)
GUARDED(int, ftruncate, (int file, off_t size), taken_in(file, 0, NULL, 0), file, size)
GUARDED(int, ftruncate64, (int file, off64_t size), taken_in(file, 0, NULL, 0), file, size)
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
