"""Compiles seccomp filters of the OCI form with libseccomp: each FROM/*.json becomes a program TO/*.bpf, and TO/unknown lists the
names of system calls that this libseccomp does not know.

usage: export.py FROM TO
"""

import ctypes
import json
import pathlib
import sys

ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
KILL_PROCESS = 0x80000000
ACTION_OF_BAD_ARCHITECTURES = 2
UNKNOWN = -1


class Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]
lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
lib.seccomp_arch_resolve_name.restype = ctypes.c_uint32
lib.seccomp_arch_native.restype = ctypes.c_uint32
lib.seccomp_arch_add.argtypes = lib.seccomp_arch_remove.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
lib.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.POINTER(Comparison),
]
lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
lib.seccomp_release.argtypes = [ctypes.c_void_p]


def check(code, what):
    if code:
        sys.exit(f"libseccomp: {what}: {code}")


def action(word, errno):
    return ACTIONS[word] | (errno or 1 if word == "SCMP_ACT_ERRNO" else 0)


def export(profile, to, unknown):
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = lib.seccomp_init(default)
    check(lib.seccomp_attr_set(context, ACTION_OF_BAD_ARCHITECTURES, KILL_PROCESS), "attribute")
    architectures = [
        lib.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
        for name in profile["architectures"]
    ]
    native = lib.seccomp_arch_native()
    for architecture in architectures:
        if architecture != native:
            check(lib.seccomp_arch_add(context, architecture), f"architecture {architecture:#x}")
    if native not in architectures:
        check(lib.seccomp_arch_remove(context, native), "architecture")
    for rule in profile["syscalls"]:
        what = action(rule["action"], rule.get("errnoRet"))
        if what == default:
            continue
        conditions = [
            Comparison(one["index"], OPERATORS[one["op"]], one["value"], one.get("valueTwo") or 0)
            for one in rule.get("args") or []
        ]
        for name in rule["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number == UNKNOWN:
                unknown.add(name)
                continue
            array = (Comparison * len(conditions))(*conditions)
            check(lib.seccomp_rule_add_array(context, what, number, len(conditions), array), name)
    with open(to, "wb") as file:
        check(lib.seccomp_export_bpf(context, file.fileno()), "export")
    lib.seccomp_release(context)


unknown = set()
source, target = map(pathlib.Path, sys.argv[1:])
for path in sorted(source.glob("*.json")):
    export(json.loads(path.read_text()), target / f"{path.stem}.bpf", unknown)
(target / "unknown").write_text("".join(f"{name}\n" for name in sorted(unknown)))
