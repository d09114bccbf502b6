// What a network carries, from within containers: `load sink PORT` takes bytes, `load pour ADDRESS PORT SECONDS` sends them over
// one connection and says how many gigabits a second it was, `load names NAME COUNT WINDOW` asks the name service of
// /etc/resolv.conf with so many questions on the way and says how many a second, the middle and the 99th of 100 in microseconds.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[256 << 10];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int sink(int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    signal(SIGCHLD, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) return fail("listen");
    for (;;) {
        int peer = accept(listener, 0, 0);
        if (peer < 0) return fail("accept");
        if (fork() == 0) {
            while (read(peer, buffer, sizeof buffer) > 0) {}
            _exit(0);
        }
        close(peer);
    }
}

static int pour(const char *address, int port, double seconds) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int out = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, address, &to.sin_addr);
    if (connect(out, (struct sockaddr *)&to, sizeof to)) return fail("connect");
    double start = now(), bytes = 0, passed;
    do {
        ssize_t sent = write(out, buffer, sizeof buffer);
        if (sent < 0) return fail("write");
        bytes += sent;
        passed = now() - start;
    } while (passed < seconds);
    printf("%.2f\n", bytes * 8 / passed / 1e9);
    return 0;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int names(const char *name, int count, int window) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    unsigned char question[300] = {0, 0, 1, 0, 0, 1}, answer[1500];
    int length = 12, sent = 0, came = 0, lost = 0;
    char word[256];
    // As many on the way as the window says, each by its number.
    double *began = calloc(65536, sizeof *began), *took = calloc(count, sizeof *took);
    snprintf(word, sizeof word, "%s", name);
    for (char *part = strtok(word, "."); part; part = strtok(0, ".")) {
        question[length++] = strlen(part);
        memcpy(question + length, part, strlen(part));
        length += strlen(part);
    }
    memcpy(question + length, "\0\0\1\0\1", 5);
    length += 5;
    FILE *file = fopen("/etc/resolv.conf", "r");
    while (file && fgets(buffer, sizeof buffer, file))
        if (sscanf(buffer, "nameserver %255s", word) == 1 && inet_pton(AF_INET, word, &to.sin_addr) == 1) break;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(s, (struct sockaddr *)&to, sizeof to)) return fail("connect");
    double start = now();
    while (came + lost < count) {
        while (sent < count && sent - came - lost < window) {
            question[0] = sent >> 8;
            question[1] = sent;
            began[sent & 65535] = now();
            if (send(s, question, length, 0) < 0) return fail("send");
            sent++;
        }
        struct pollfd wait = {s, POLLIN, 0};
        if (poll(&wait, 1, 1000) == 0) {
            lost += sent - came - lost;
            continue;
        }
        ssize_t got = recv(s, answer, sizeof answer, 0);
        if (got < 12 || (answer[3] & 15) || !answer[7]) {
            fprintf(stderr, "an odd answer\n");
            return 1;
        }
        took[came++] = now() - began[answer[0] << 8 | answer[1]];
    }
    double passed = now() - start;
    qsort(took, came, sizeof *took, compare);
    printf("%.0f %.0f %.0f %d\n", came / passed, took[came / 2] * 1e6, took[(int)(came * 0.99)] * 1e6, lost);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "sink")) return sink(atoi(argv[2]));
    if (argc == 5 && !strcmp(argv[1], "pour")) return pour(argv[2], atoi(argv[3]), atof(argv[4]));
    if (argc == 5 && !strcmp(argv[1], "names")) return names(argv[2], atoi(argv[3]), atoi(argv[4]));
    return 2;
}
