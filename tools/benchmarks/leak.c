/* Leaks for tools/soak --plant, which must see them: this is loaded before the C library and takes the place of some of its
 * functions.
 *
 * $LEAK_FREE=N: one of N small blocks is never given back.  $LEAK_CLOSE=N: one of N files is never closed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long every(const char *name) {
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

static int is_due(atomic_long *count, long of) { return of > 0 && atomic_fetch_add(count, 1) % of == of - 1; }

void free(void *block) {
    static void (*next)(void *);
    static atomic_long count;
    static long of = -1;
    if (next == NULL)
        next = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    if (of < 0)
        of = every("LEAK_FREE");
    if (block != NULL && of > 0 && malloc_usable_size(block) <= 256 && is_due(&count, of))
        return;
    next(block);
}

int close(int descriptor) {
    static atomic_long count;
    struct stat stat;
    long of = every("LEAK_CLOSE");
    /* Sockets are closed on the ring, where nobody can take the place of anything. */
    if (of > 0 && fstat(descriptor, &stat) == 0 && S_ISREG(stat.st_mode) && is_due(&count, of))
        return 0;
    return syscall(SYS_close, descriptor);
}
