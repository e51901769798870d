/* SPDX-License-Identifier: GPL-2.0 */
/* The life of processes. Sent for every process: whoever acts on a port next may be gone in 1 ms. */
#ifndef LOOPTRACE_PROC_H
#define LOOPTRACE_PROC_H

#include "emit.h"
#include "filter.h"

static __always_inline void process_exec(struct task_struct *task)
{
	struct exec_event *e;

	if (!tgid_of(task))
		return;
	e = reserve(sizeof(*e), KIND_EXEC, bpf_ktime_get_boot_ns());
	if (!e)
		return;
	fill_task(&e->t, task);
	read_args(e, task);
	read_path(e, BPF_CORE_READ(task, mm, exe_file));
	read_cgroup(e, task);
	submit(e);
}

/* A process moved itself, or was moved, into another cgroup of whatever hierarchy. */
static __always_inline void process_moved(struct task_struct *task, bool threadgroup)
{
	struct exec_event *e;

	if (!tgid_of(task) ||
	    (!threadgroup && BPF_CORE_READ(task, tgid) != BPF_CORE_READ(task, pid)))
		return;
	e = reserve(sizeof(*e), KIND_MOVED, bpf_ktime_get_boot_ns());
	if (!e)
		return;
	fill_task(&e->t, task);
	e->args_len = 0;
	e->path_len = 0;
	e->path_cut = 0;
	read_cgroup(e, task);
	submit(e);
}

static __always_inline void process_fork(struct task_struct *child)
{
	u32 tgid = tgid_of(child);
	struct task_event *t;

	if (!tgid || BPF_CORE_READ(child, tgid) != BPF_CORE_READ(child, pid))
		return; /* nobody that is seen from here, or a thread */
	t = reserve(sizeof(*t), KIND_FORK, bpf_ktime_get_boot_ns());
	if (t) {
		fill_task(t, child);
		submit(t);
	}
	if (process_bits & BY_TREE) {
		u32 parent = tgid_of((void *)bpf_get_current_task()), one = 1;

		if (bpf_map_lookup_elem(&tree, &parent))
			bpf_map_update_elem(&tree, &tgid, &one, BPF_ANY);
	}
}

/* The event of the last thread; its sockets are closed after it, in the same task. */
static __always_inline void process_exit(struct task_struct *task)
{
	struct task_event *t;

	if (BPF_CORE_READ(task, signal, live.counter) || !tgid_of(task))
		return;
	t = reserve(sizeof(*t), KIND_EXIT, bpf_ktime_get_boot_ns());
	if (t) {
		fill_task(t, task);
		submit(t);
	}
}

static __always_inline void process_rename(struct task_struct *task, const char *comm)
{
	struct task_event *t;

	if (BPF_CORE_READ(task, tgid) != BPF_CORE_READ(task, pid) || !tgid_of(task))
		return; /* a thread's name is not the program's */
	/* execve() renames first: alone that would mix two programs, and its own event has the name. */
	if (bpf_core_field_exists(task->in_execve) &&
	    BPF_CORE_READ_BITFIELD_PROBED(task, in_execve))
		return;
	t = reserve(sizeof(*t), KIND_RENAME, bpf_ktime_get_boot_ns());
	if (!t)
		return;
	fill_task(t, task);
	/* This hook runs before the name is stored. */
	__builtin_memset(t->comm, 0, sizeof(t->comm));
	bpf_probe_read_kernel_str(t->comm, sizeof(t->comm), comm);
	submit(t);
}

#endif
