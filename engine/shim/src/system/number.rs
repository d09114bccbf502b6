//! The numbers of the system calls, by architecture.

macro_rules! numbers {
    ($($name:ident = $x86_64:literal, $aarch64:literal;)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            pub(crate) const $name: usize = $x86_64;
            #[cfg(target_arch = "aarch64")]
            pub(crate) const $name: usize = $aarch64;
        )*
    };
}

numbers! {
    READ = 0, 63;
    WRITE = 1, 64;
    CLOSE = 3, 57;
    MMAP = 9, 222;
    MUNMAP = 11, 215;
    MADVISE = 28, 233;
    RT_SIGACTION = 13, 134;
    RT_SIGPROCMASK = 14, 135;
    IOCTL = 16, 29;
    PREAD64 = 17, 67;
    GETPID = 39, 172;
    SENDMSG = 46, 211;
    CLONE = 56, 220;
    RECVMSG = 47, 212;
    SHUTDOWN = 48, 210;
    SOCKETPAIR = 53, 199;
    SETSOCKOPT = 54, 208;
    GETSOCKOPT = 55, 209;
    EXECVE = 59, 221;
    KILL = 62, 129;
    FCNTL = 72, 25;
    GETCWD = 79, 17;
    CHDIR = 80, 49;
    FCHDIR = 81, 50;
    FCHMOD = 91, 52;
    FCHOWN = 93, 55;
    UMASK = 95, 166;
    GETEUID = 107, 175;
    SETPGID = 109, 154;
    SETSID = 112, 157;
    SETGROUPS = 116, 159;
    SETRESUID = 117, 147;
    SETRESGID = 119, 149;
    CAPGET = 125, 90;
    CAPSET = 126, 91;
    RT_SIGTIMEDWAIT = 128, 137;
    FSTATFS = 138, 44;
    PIVOT_ROOT = 155, 41;
    PRCTL = 157, 167;
    PERSONALITY = 135, 92;
    CHROOT = 161, 51;
    MOUNT = 165, 40;
    UMOUNT2 = 166, 39;
    SETHOSTNAME = 170, 161;
    SETDOMAINNAME = 171, 162;
    GETDENTS64 = 217, 61;
    SCHED_SETAFFINITY = 203, 122;
    CLOCK_GETTIME = 228, 113;
    EXIT_GROUP = 231, 94;
    WAITID = 247, 95;
    SET_MEMPOLICY = 238, 237;
    KEYCTL = 250, 219;
    IOPRIO_SET = 251, 30;
    OPENAT = 257, 56;
    MKDIRAT = 258, 34;
    UNLINKAT = 263, 35;
    MKNODAT = 259, 33;
    FCHOWNAT = 260, 54;
    SYMLINKAT = 266, 36;
    READLINKAT = 267, 78;
    PPOLL = 271, 73;
    UNSHARE = 272, 97;
    ACCEPT4 = 288, 242;
    SIGNALFD4 = 289, 74;
    EVENTFD2 = 290, 19;
    DUP3 = 292, 24;
    PIPE2 = 293, 59;
    PRLIMIT64 = 302, 261;
    SETNS = 308, 268;
    RENAMEAT2 = 316, 276;
    SCHED_SETATTR = 314, 274;
    SECCOMP = 317, 277;
    STATX = 332, 291;
    PIDFD_SEND_SIGNAL = 424, 424;
    OPEN_TREE = 428, 428;
    MOVE_MOUNT = 429, 429;
    FSOPEN = 430, 430;
    FSCONFIG = 431, 431;
    FSMOUNT = 432, 432;
    PIDFD_OPEN = 434, 434;
    CLONE3 = 435, 435;
    CLOSE_RANGE = 436, 436;
    OPENAT2 = 437, 437;
    FACCESSAT2 = 439, 439;
    MOUNT_SETATTR = 442, 442;
}
