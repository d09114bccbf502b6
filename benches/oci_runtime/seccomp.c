// What seccomp filters cost. Usage: seccomp FILTER...    FILTER: a file with struct sock_filter[]
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOADS = 201, CALLS = 2000000, ROUNDS = 7 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double load(struct sock_fprog *program) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
    double begin = now();
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, program)) fail("seccomp");
    return now() - begin;
}

// In a child: what it measures comes back through a pipe.
static double measured(struct sock_fprog *program, int calls) {
    int ends[2];
    double value;
    if (pipe(ends)) fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        value = program->len ? load(program) : 0;
        if (calls == 1 || calls == 2) {
            double begin = now();
            // Without arguments, which the kernel decides from its map, and one whose argument the filter must look at.
            if (calls == 1) for (int i = 0; i < CALLS; i++) syscall(SYS_getppid);
            else for (int i = 0; i < CALLS; i++) syscall(SYS_personality, 0xffffffff);
            value = (now() - begin) / CALLS;
        }
        _exit(write(ends[1], &value, sizeof value) != sizeof value);
    }
    if (read(ends[0], &value, sizeof value) != sizeof value) fail("read");
    close(ends[0]);
    close(ends[1]);
    int status;
    if (waitpid(child, &status, 0) < 0 || status) exit(1);
    return value;
}

static double median(struct sock_fprog *program, int calls, int rounds) {
    static double values[LOADS];
    for (int i = 0; i < rounds; i++) values[i] = measured(program, calls);
    qsort(values, rounds, sizeof *values, compare);
    return values[rounds / 2];
}

int main(int count, char **words) {
    struct sock_fprog none = {0};
    double without = median(&none, 1, ROUNDS), without_too = median(&none, 2, ROUNDS);
    printf("seccomp: without a filter getppid %.1f ns, personality %.1f ns\n", without, without_too);
    for (int i = 1; i < count; i++) {
        static struct sock_filter code[4096];
        int file = open(words[i], O_RDONLY);
        ssize_t length = read(file, code, sizeof code);
        if (length <= 0) fail(words[i]);
        close(file);
        struct sock_fprog program = {.len = length / sizeof *code, .filter = code};
        printf("seccomp: %s: %d instructions, load %.3f ms, getppid +%.1f ns, personality +%.1f ns\n", words[i], program.len,
               median(&program, 0, LOADS) / 1e6, median(&program, 1, ROUNDS) - without,
               median(&program, 2, ROUNDS) - without_too);
    }
    return 0;
}
