/* A disk on which some calls take their time, for as long as the file $SLOW_DISK_FLAG exists:
 * those whose names $SLOW_DISK_CALLS holds, 50 ms each. To be preloaded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static void delay(const char *call) {
    const char *flag = getenv("SLOW_DISK_FLAG"), *calls = getenv("SLOW_DISK_CALLS");
    if (flag && calls && strstr(calls, call) && access(flag, F_OK) == 0)
        usleep(50000);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    static ssize_t (*original)(int, const void *, size_t, off_t);
    if (!original) original = dlsym(RTLD_NEXT, "pwrite");
    delay("write");
    return original(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    static ssize_t (*original)(int, const void *, size_t, off64_t);
    if (!original) original = dlsym(RTLD_NEXT, "pwrite64");
    delay("write");
    return original(fd, data, size, at);
}

int fsync(int fd) {
    static int (*original)(int);
    if (!original) original = dlsym(RTLD_NEXT, "fsync");
    delay("sync");
    return original(fd);
}

int fdatasync(int fd) {
    static int (*original)(int);
    if (!original) original = dlsym(RTLD_NEXT, "fdatasync");
    delay("sync");
    return original(fd);
}
