/* SPDX-License-Identifier: GPL-2.0 */
/* Processes: who is the actor, and what names a process. */
#ifndef LOOPTRACE_TASK_H
#define LOOPTRACE_TASK_H

#include "event.h"

#define PF_EXITING 0x00000004
#define PF_KTHREAD 0x00200000

#define PATH_DEPTH 24 /* path components; what is deeper is left out and said (path_cut) */
#define CGROUP_DEPTH 12 /* kubepods in a nested container manager needs 9 */
#define NAME_BYTES 256 /* NAME_MAX and its NUL */

#define PIDNS_DEPTH 8 /* of 32 that the kernel allows; in a deeper one nobody has a name */

const volatile u32 pidns; /* inode number of the tracer's pid namespace; 0: the initial one */

/* The number of a process as the tracer's pid namespace sees it; 0 where that does not. */
static __always_inline u32 tgid_of(struct task_struct *task)
{
	struct pid *pid;
	u32 level;

	if (!pidns)
		return BPF_CORE_READ(task, tgid);
	pid = BPF_CORE_READ(task, group_leader, thread_pid);
	level = BPF_CORE_READ(pid, level);
	for (u32 i = 1; i <= PIDNS_DEPTH && i <= level; i++) {
		struct upid *up = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
				  i * bpf_core_type_size(struct upid);

		if (BPF_CORE_READ(up, ns, ns.inum) == pidns)
			return BPF_CORE_READ(up, nr);
	}
	return 0;
}

/*
 * The current task as the actor. Call this only in a context that the actor itself entered
 * (a system call, or io_uring's worker, which shares the tgid since 5.12). A kernel thread is
 * nobody: before 5.12 io-wq's workers are kernel threads, and so is the reaper of sockets that
 * were left in flight.
 */
static __always_inline void current_owner(struct owner *o)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 id = bpf_get_current_pid_tgid();

	__builtin_memset(o, 0, sizeof(*o));
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return;
	o->tgid = tgid_of(task);
	o->uid = (u32)bpf_get_current_uid_gid();
	o->start = BPF_CORE_READ(task, group_leader, start_boottime);
	if (id >> 32 != (u32)id)
		bpf_get_current_comm(o->thread, sizeof(o->thread));
}

/*
 * Appends one name and its NUL to a buffer of 2 * half bytes; false when there is no room. The
 * length lives in the record, where the verifier does not follow its value: in a register it
 * would walk every length that each earlier name could have had.
 */
static __always_inline bool append_name(u8 *buf, u32 half, volatile u16 *len, const void *name)
{
	u32 at = *len;
	long n;

	if (at >= half)
		return false;
	/* The bound has to be in the very register that is added to the buffer. */
	asm volatile("" : "+r"(at));
	at &= half - 1;
	n = bpf_probe_read_kernel_str(buf + at, NAME_BYTES, name);
	if (n <= 1)
		return false;
	*len = at + n;
	return true;
}

static __always_inline void read_path(struct exec_event *e, struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *vfs = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mnt = (void *)vfs - bpf_core_field_offset(struct mount, mnt);

	e->path_len = 0;
	e->path_cut = 1;
	for (int i = 0; i < PATH_DEPTH; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		struct dentry *root = BPF_CORE_READ(mnt, mnt.mnt_root);

		if (dentry == root || dentry == parent) {
			struct mount *up = BPF_CORE_READ(mnt, mnt_parent);

			if (up == mnt || dentry != root) {
				e->path_cut = 0;
				if (!i) /* a file of no directory: memfd_create(2) */
					append_name(e->path, PATH_BYTES, &e->path_len,
						    BPF_CORE_READ(dentry, d_name.name));
				break;
			}
			dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
			mnt = up;
			continue;
		}
		if (!append_name(e->path, PATH_BYTES, &e->path_len,
				 BPF_CORE_READ(dentry, d_name.name)))
			break;
		dentry = parent;
	}
}

static __always_inline struct kernfs_node *subsys_kn(struct css_set *set, int subsys)
{
	return BPF_CORE_READ(set, subsys[subsys], cgroup, kn);
}

/*
 * The cgroup that says most: the unified one unless the task sits in its root, which is how hosts
 * with cgroup v1 look; then memory's, which every container manager sets.
 */
static __always_inline struct kernfs_node *task_kn(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	int level = BPF_CORE_READ(set, dfl_cgrp, level);

	if (level > 0)
		return BPF_CORE_READ(set, dfl_cgrp, kn);
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return subsys_kn(set, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		return subsys_kn(set, bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id));
	return NULL;
}

static __always_inline void read_cgroup(struct exec_event *e, struct task_struct *task)
{
	struct kernfs_node *kn = task_kn(task);

	e->cgroup_len = 0;
	e->cgroup = BPF_CORE_READ(kn, id);
	for (int i = 0; i < CGROUP_DEPTH && kn; i++) {
		struct kernfs_node *parent = kernfs_parent(kn);

		if (!parent) /* the root has no name */
			break;
		if (!append_name(e->cgroup_path, CGROUP_BYTES, &e->cgroup_len,
				 BPF_CORE_READ(kn, name)))
			break;
		kn = parent;
	}
}

static __always_inline void read_args(struct exec_event *e, struct task_struct *task)
{
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long end = BPF_CORE_READ(task, mm, arg_end);
	u64 len = end - start;

	if (len > ARGS_MAX)
		len = ARGS_MAX;
	/* The new stack is resident: execve has just written it. */
	if (bpf_probe_read_user(e->args, len, (void *)start))
		len = 0;
	e->args_len = len;
}

/* Start times name a process together with its number: numbers are reused. */
static __always_inline void fill_task(struct task_event *t, struct task_struct *task)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	t->task.tgid = tgid_of(task);
	t->task.start = BPF_CORE_READ(task, group_leader, start_boottime);
	t->task.uid = BPF_CORE_READ(task, cred, uid.val);
	t->parent_tgid = tgid_of(parent);
	t->parent_start = BPF_CORE_READ(parent, group_leader, start_boottime);
	t->exit_code = BPF_CORE_READ(task, exit_code);
	BPF_CORE_READ_STR_INTO(&t->comm, task, group_leader, comm);
}

#endif
