// SPDX-License-Identifier: GPL-2.0
/*
 * The object of a look, which attaches no hook: entry points only. An object of its own, because to read
 * the other one takes longer than the look.
 */
#include "headers/vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "event.h"
#include "iter.h"
#include "list.h"

char LICENSE[] SEC("license") = "GPL";

/* Keeps the wire's type in this object's BTF, for the test that compares it with Go's. */
const struct list_row *wire_list __attribute__((unused));

OPEN_FILES(it_list, list_file)
TCP_TABLE(it_tcp)
