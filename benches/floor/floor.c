/* What a container start must at least cost on this machine: the kernel's own work, in raw system calls.
 *
 *     floor ROOTFS SCRATCH none|bridge:NAME ROUNDS
 *
 * Each round makes the cgroups, the namespaces, an overlay over ROOTFS with Docker's mounts, masked paths, capabilities
 * and a seccomp filter, runs `/bin/true` in it, waits and removes everything. With a bridge there is a veth pair, an
 * address and a route too. Prints three times per round in microseconds: until execve is due, until the exit is seen,
 * until everything is gone. Nothing that an engine adds on top (a process of its own, a record, a log) is in them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(call) do { if ((long)(call) < 0) fail(#call); } while (0)
#define MOST_CGROUPS 16

static const char *rootfs, *scratch;
static int bridge; /* interface index; 0: no network */
static int netlink_socket;

static void fail(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* ---- cgroups: v1 hierarchies as they are mounted, else the one of v2 */

static char hierarchy[MOST_CGROUPS][128];
static char cgroup[MOST_CGROUPS][192];
static int hierarchies, unified;

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd);
    CHECK(write(fd, text, strlen(text)));
    close(fd);
}

static void read_file(const char *path, char *text, int size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd);
    int length = read(fd, text, size - 1);
    text[length < 0 ? 0 : length] = 0;
    close(fd);
}

static void find_hierarchies(void) {
    FILE *mounts = fopen("/proc/self/mounts", "r");
    char line[1024], point[128], kind[32], options[512];
    while (mounts && fgets(line, sizeof line, mounts)) {
        if (sscanf(line, "%*s %127s %31s %511s", point, kind, options) != 3) continue;
        if (!strcmp(kind, "cgroup") && hierarchies < MOST_CGROUPS) strcpy(hierarchy[hierarchies++], point);
    }
    if (mounts) fclose(mounts);
    if (!hierarchies) {
        unified = 1;
        strcpy(hierarchy[hierarchies++], "/sys/fs/cgroup");
    }
    for (int i = 0; i < hierarchies; i++) {
        char path[256], text[64];
        snprintf(path, sizeof path, "%s/engine-floor", hierarchy[i]);
        mkdir(path, 0755);
        if (!strstr(hierarchy[i], "cpuset")) continue;
        for (int k = 0; k < 2; k++) { /* a new cpuset has neither processors nor memory */
            const char *name = k ? "cpuset.mems" : "cpuset.cpus";
            snprintf(path, sizeof path, "%s/%s", hierarchy[i], name);
            read_file(path, text, sizeof text);
            snprintf(path, sizeof path, "%s/engine-floor/%s", hierarchy[i], name);
            write_file(path, text);
        }
        snprintf(path, sizeof path, "%s/engine-floor/cgroup.clone_children", hierarchy[i]);
        write_file(path, "1");
    }
}

static void make_cgroups(int id) {
    for (int i = 0; i < hierarchies; i++) {
        snprintf(cgroup[i], sizeof cgroup[i], "%s/engine-floor/%d", hierarchy[i], id);
        CHECK(mkdir(cgroup[i], 0755));
    }
}

/* The child moves itself, thread by thread: writing a pid into cgroup.procs waits for every processor. */
static void enter_cgroups(void) {
    for (int i = 0; i < hierarchies; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", cgroup[i], unified ? "cgroup.procs" : "tasks");
        write_file(path, "0");
    }
}

static void remove_cgroups(void) {
    for (int i = 0; i < hierarchies; i++)
        while (rmdir(cgroup[i]) < 0)
            if (errno != EBUSY) fail(cgroup[i]);
}

/* ---- network: one message makes the pair, another two the child's half of it */

struct message { char bytes[2048]; int length; };

static int begin(struct message *m, int type, int flags, const void *body, int size) {
    static int sequence;
    int start = m->length;
    struct nlmsghdr *head = (void *)(m->bytes + start);
    *head = (struct nlmsghdr){.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags, .nlmsg_seq = ++sequence};
    memcpy(m->bytes + start + NLMSG_HDRLEN, body, size);
    m->length += NLMSG_HDRLEN + NLMSG_ALIGN(size);
    return start;
}

static void end(struct message *m, int start) {
    ((struct nlmsghdr *)(m->bytes + start))->nlmsg_len = m->length - start;
}

static int attribute(struct message *m, int type, const void *value, int size) {
    int start = m->length;
    struct rtattr *head = (void *)(m->bytes + start);
    *head = (struct rtattr){.rta_type = type, .rta_len = RTA_LENGTH(size)};
    if (value) memcpy(RTA_DATA(head), value, size);
    m->length += RTA_ALIGN(head->rta_len);
    return start;
}

static void close_nest(struct message *m, int start) {
    ((struct rtattr *)(m->bytes + start))->rta_len = m->length - start;
}

static void tell_kernel(int socket, struct message *m, int answers, const char *what) {
    CHECK(send(socket, m->bytes, m->length, 0));
    while (answers > 0) {
        char buffer[8192];
        int length = recv(socket, buffer, sizeof buffer, 0);
        CHECK(length);
        for (struct nlmsghdr *head = (void *)buffer; NLMSG_OK(head, length); head = NLMSG_NEXT(head, length)) {
            struct nlmsgerr *error = NLMSG_DATA(head);
            if (head->nlmsg_type != NLMSG_ERROR) continue;
            answers--;
            errno = -error->error;
            if (errno) fail(what);
        }
    }
}

static int open_netlink(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    CHECK(fd);
    return fd;
}

static void connect_child(int id, pid_t pid) {
    struct message m = {.length = 0};
    char name[16];
    snprintf(name, sizeof name, "floor%d", id);
    struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, peer = {0};
    int start = begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
    attribute(&m, IFLA_IFNAME, name, strlen(name) + 1);
    attribute(&m, IFLA_MASTER, &bridge, sizeof bridge);
    int kind = attribute(&m, IFLA_LINKINFO, 0, 0);
    attribute(&m, IFLA_INFO_KIND, "veth", 4);
    int data = attribute(&m, IFLA_INFO_DATA, 0, 0);
    int other = attribute(&m, VETH_INFO_PEER, &peer, sizeof peer);
    attribute(&m, IFLA_IFNAME, "eth0", 5);
    attribute(&m, IFLA_NET_NS_PID, &pid, sizeof pid);
    close_nest(&m, other);
    close_nest(&m, data);
    close_nest(&m, kind);
    end(&m, start);
    tell_kernel(netlink_socket, &m, 1, "making the pair");
}

static void configure_network(void) {
    int fd = open_netlink(), answers = 1;
    struct message m = {.length = 0};
    struct ifinfomsg up = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    end(&m, begin(&m, RTM_NEWLINK, 0, &up, sizeof up));
    if (bridge) {
        up.ifi_index = if_nametoindex("eth0");
        end(&m, begin(&m, RTM_NEWLINK, 0, &up, sizeof up));
        struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = up.ifi_index};
        in_addr_t own = inet_addr("10.231.0.2"), gateway = inet_addr("10.231.0.1");
        int start = begin(&m, RTM_NEWADDR, NLM_F_CREATE, &address, sizeof address);
        attribute(&m, IFA_LOCAL, &own, 4);
        attribute(&m, IFA_ADDRESS, &own, 4);
        end(&m, start);
        struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
                              .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
        start = begin(&m, RTM_NEWROUTE, NLM_F_CREATE, &route, sizeof route);
        attribute(&m, RTA_GATEWAY, &gateway, 4);
        end(&m, start);
        answers = 4;
    }
    tell_kernel(fd, &m, answers, "configuring the network");
    close(fd);
}

/* ---- the file system as Docker's containers have it */

static void mount_overlay(const char *directory) {
    char options[1024], point[256];
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work,volatile", rootfs, directory, directory);
    snprintf(point, sizeof point, "%s/merged", directory);
    CHECK(mount("overlay", point, "overlay", 0, options));
    CHECK(chdir(point));
}

static void mount_kernel_files(void) {
    unsigned long usual = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    static const struct { const char *name; int major, minor; } devices[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    static const char *links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
        {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}};
    CHECK(mount("proc", "proc", "proc", usual, 0));
    CHECK(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "size=65536k,mode=755"));
    CHECK(mkdir("dev/pts", 0755));
    CHECK(mkdir("dev/shm", 01777));
    CHECK(mkdir("dev/mqueue", 0755));
    CHECK(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    CHECK(mount("shm", "dev/shm", "tmpfs", usual, "mode=1777,size=65536k"));
    CHECK(mount("mqueue", "dev/mqueue", "mqueue", usual, 0));
    CHECK(mount("sysfs", "sys", "sysfs", usual | MS_RDONLY, 0));
    for (int i = 0; i < 6; i++) CHECK(mknod(devices[i].name, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
    for (int i = 0; i < 5; i++) CHECK(symlink(links[i][0], links[i][1]));
    CHECK(mount("tmpfs", "sys/fs/cgroup", "tmpfs", usual, "mode=755"));
    for (int i = 0; i < hierarchies; i++) {
        char point[64];
        snprintf(point, sizeof point, "sys/fs/cgroup/%d", i);
        CHECK(mkdir(point, 0755));
        CHECK(mount(cgroup[i], point, 0, MS_BIND, 0));
        CHECK(mount(0, point, 0, MS_REMOUNT | MS_BIND | MS_RDONLY | usual, 0));
    }
}

static void mask_paths(void) {
    static const char *readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    static const char *directories[] = {"/proc/acpi", "/sys/firmware", "/proc/scsi"};
    static const char *files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"};
    for (int i = 0; i < 5; i++) {
        if (mount(readonly[i], readonly[i], 0, MS_BIND | MS_REC, 0) < 0) continue;
        CHECK(mount(0, readonly[i], 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0));
    }
    for (int i = 0; i < 3; i++)
        if (mount("tmpfs", directories[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1") < 0 && errno != ENOENT) fail(directories[i]);
    for (int i = 0; i < 4; i++)
        if (mount("/dev/null", files[i], 0, MS_BIND, 0) < 0 && errno != ENOENT) fail(files[i]);
}

/* ---- privileges: Docker's fourteen capabilities, and a filter as short as a good compiler makes it */

static void drop_privileges(void) {
    const uint64_t kept = 0xa80425fb;
    for (int capability = 0; capability <= 40; capability++)
        if (!(kept >> capability & 1)) prctl(PR_CAPBSET_DROP, capability);
    struct { uint32_t version; int pid; } head = {0x20080522, 0};
    struct { uint32_t effective, permitted, inheritable; } sets[2] = {{0}}, old[2];
    CHECK(syscall(SYS_capget, &head, old));
    for (int i = 0; i < 2; i++) sets[i].effective = sets[i].permitted = (i ? 0 : kept) & old[i].permitted;
    CHECK(syscall(SYS_capset, &head, sets));
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 600, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

/* ---- one life */

static void child(const char *directory, int ready, volatile int64_t *before_exec) {
    char *arguments[] = {"true", 0}, *environment[] = {"PATH=/bin", 0}, byte;
    enter_cgroups();
    CHECK(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
    mount_overlay(directory);
    mount_kernel_files();
    CHECK(syscall(SYS_pivot_root, ".", "."));
    CHECK(umount2(".", MNT_DETACH));
    CHECK(chdir("/"));
    mask_paths();
    if (read(ready, &byte, 1) != 1) fail("waiting for the network");
    configure_network();
    CHECK(sethostname("floor", 5));
    drop_privileges();
    *before_exec = now();
    execve("/bin/true", arguments, environment);
    fail("execve");
}

static void remove_directory(const char *directory) {
    static const char *parts[] = {"upper", "work/work/incompat/volatile/dirty", "work/work/incompat/volatile",
        "work/work/incompat", "work/work", "work", "merged", ""};
    char path[256];
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, parts[i]);
        if (remove(path) < 0 && errno != ENOENT) fail(path);
    }
}

static void life(int id, volatile int64_t *before_exec) {
    char directory[256], path[300];
    int ready[2], pidfd = -1;
    CHECK(pipe2(ready, O_CLOEXEC));
    int64_t start = now();
    make_cgroups(id);
    snprintf(directory, sizeof directory, "%s/%d", scratch, id);
    static const char *parts[] = {"", "upper", "work", "merged"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, parts[i]);
        CHECK(mkdir(path, 0755));
    }
    struct clone_args clone = {.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET | CLONE_PIDFD,
                               .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    pid_t pid = syscall(SYS_clone3, &clone, sizeof clone);
    CHECK(pid);
    if (!pid) child(directory, ready[0], before_exec);
    if (bridge) connect_child(id, pid);
    if (write(ready[1], "x", 1) != 1) fail("telling the child");
    /* Held past the exit, so that the exit is seen before the mounts are taken down. */
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
    int held = open(path, O_RDONLY | O_CLOEXEC);
    siginfo_t info;
    CHECK(waitid(P_PIDFD, pidfd, &info, WEXITED));
    int64_t seen = now();
    if (info.si_status) exit(1);
    close(held);
    remove_cgroups();
    remove_directory(directory);
    int64_t gone = now();
    close(ready[0]);
    close(ready[1]);
    close(pidfd);
    printf("%.1f %.1f %.1f\n", (*before_exec - start) / 1e3, (seen - start) / 1e3, (gone - start) / 1e3);
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: floor ROOTFS SCRATCH none|bridge:NAME ROUNDS\n");
        return 2;
    }
    rootfs = arguments[1];
    scratch = arguments[2];
    if (!strncmp(arguments[3], "bridge:", 7)) {
        bridge = if_nametoindex(arguments[3] + 7);
        if (!bridge) fail(arguments[3]);
    }
    netlink_socket = open_netlink();
    find_hierarchies();
    volatile int64_t *before_exec = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int id = 1, rounds = atoi(arguments[4]); id <= rounds; id++) life(id, before_exec);
    for (int i = 0; i < hierarchies; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/engine-floor", hierarchy[i]);
        rmdir(path);
    }
    return 0;
}
