/* Faults for a server under test: this is loaded before the C library and takes the place of some of its functions.
 *
 * $FAULTS is a directory; a file in it turns a fault on. Files and directories with "struck" in their path are struck.
 *   eio      reading fails                      eintr    every other read is interrupted
 *   short    a read yields 1000 bytes at most   lookup   resolving the path fails
 *   list     listing fails                      clock    holds the seconds by which the clock is wrong
 *   busy     every other lease is refused
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int is_on(const char *fault) {
    const char *faults = getenv("FAULTS");
    char path[4096];
    int before = errno;
    snprintf(path, sizeof path, "%s/%s", faults ? faults : "", fault);
    int on = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    errno = before;
    return on;
}

static int is_struck(int descriptor) {
    char name[64], path[4096];
    int before = errno;
    snprintf(name, sizeof name, "/proc/thread-self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, name, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, "struck") != NULL;
}

ssize_t read(int descriptor, void *bytes, size_t count) {
    static __thread unsigned turn;
    if (is_struck(descriptor)) {
        if (is_on("eio")) {
            errno = EIO;
            return -1;
        }
        if (is_on("eintr") && turn++ % 2 == 0) {
            errno = EINTR;
            return -1;
        }
        if (is_on("short") && count > 1000)
            count = 1000;
    }
    return syscall(SYS_read, descriptor, bytes, count);
}

int fcntl(int descriptor, int command, ...) {
    static __thread unsigned turn;
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (command == F_SETLEASE && argument == F_RDLCK && is_struck(descriptor) && is_on("busy") && turn++ % 2 == 0) {
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_fcntl, descriptor, command, argument);
}

char *realpath(const char *path, char *resolved) {
    static char *(*own)(const char *, char *);
    if (!own)
        *(void **)&own = dlsym(RTLD_NEXT, "realpath");
    if (strstr(path, "struck") && is_on("lookup")) {
        errno = EIO;
        return NULL;
    }
    return own(path, resolved);
}

int statx(int directory, const char *restrict path, int flags, unsigned mask, struct statx *restrict result) {
    if (strstr(path, "struck") && is_on("lookup")) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_statx, directory, path, flags, mask, result);
}

struct dirent64 *readdir64(DIR *directory) {
    static struct dirent64 *(*own)(DIR *);
    if (!own)
        *(void **)&own = dlsym(RTLD_NEXT, "readdir64");
    if (is_struck(dirfd(directory)) && is_on("list")) {
        errno = EIO;
        return NULL;
    }
    return own(directory);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    const char *faults = getenv("FAULTS");
    if (result != 0 || clock != CLOCK_REALTIME || !faults)
        return result;
    char path[4096], text[32] = "";
    int before = errno;
    snprintf(path, sizeof path, "%s/clock", faults);
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (syscall(SYS_read, file, text, sizeof text - 1) > 0)
            time->tv_sec += atoll(text);
        syscall(SYS_close, file);
    }
    errno = before;
    return result;
}
