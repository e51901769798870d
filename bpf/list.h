/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is there now, for a look that attaches no hook: one walk of the table of open files, one row
 * for each socket of each process. It keeps nothing and touches no map; user space pairs the rows.
 */
#ifndef LOOPTRACE_LIST_H
#define LOOPTRACE_LIST_H

#include "held.h"

/*
 * Whether a list could have it: a socket that holds a port and can be reached on loopback, or a TCP
 * connection of loopback's. Listeners always: which one a connection met is decided among all.
 */
static __always_inline bool is_listed(struct sock *sk, const struct ends *e, u16 proto, u32 state)
{
	if (proto == IPPROTO_UDP)
		return state != TCP_ESTABLISHED &&
		       (any_local || is_loopback(&e->local) || is_any(&e->local));
	if (state == TCP_LISTEN)
		return true;
	if (state == TCP_SYN_SENT)
		return false;
	if (state != TCP_CLOSE)
		return addressed(e);
	/* What was reset, or failed to connect, remembers a port that it does not hold any more. */
	return !e->rport && BPF_CORE_READ(sk, __sk_common.skc_num) &&
	       (any_local || is_loopback(&e->local) || is_any(&e->local));
}

/*
 * As owner_of, and the verifier knows the task by type: its fields cost nothing. This runs for each
 * of 50,000 sockets, and what is probed is most of what it costs.
 */
static __always_inline void holder_of(struct process_id *id, struct task_struct *task)
{
	id->tgid = pidns ? tgid_of(task) : task->tgid;
	id->start = task->group_leader->start_boottime;
	id->uid = task->cred->uid.val;
}

static __always_inline void list_file(struct seq_file *seq, struct task_struct *task,
				      struct file *file)
{
	struct list_row row = {};
	struct socket *socket;
	struct ends e;
	struct sock *sk;

	if (file->f_inode->i_sb->s_magic != SOCKFS_MAGIC)
		return;
	socket = file->private_data;
	sk = BPF_CORE_READ(socket, sk);
	sk = sk ? inner_sock(sk) : NULL;
	row.proto = sk ? inet_proto(sk) : 0;
	if (!row.proto)
		return;
	holder_of(&row.owner, task);
	if (row.owner.tgid == self_tgid)
		return;
	ends_probed((struct inet_sock *)sk, &e);
	row.state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (!e.lport || !is_listed(sk, &e, row.proto, row.state))
		return;
	row.sock = (u64)sk;
	row.inode = file->f_inode->i_ino;
	row.id = new_id(bpf_ktime_get_boot_ns());
	copy_address(row.local, &e.local);
	copy_address(row.remote, &e.remote);
	row.lport = e.lport;
	row.rport = e.rport;
	row.netns = sock_netns(sk);
	row.backlog = BPF_CORE_READ(sk, sk_max_ack_backlog);
	row.flags = (port_fixed(sk) ? 0 : FLAG_EPHEMERAL) | (e.family == AF_INET6 ? FLAG_IPV6 : 0);
	if (!e.rport) {
		u32 range = port_range(BPF_CORE_READ(sk, __sk_common.skc_net.net));

		row.flags |= sock_flags(sk);
		row.range_low = range & 0xffff;
		row.range_high = range >> 16;
	}
	bpf_seq_write(seq, &row, sizeof(row));
}

#endif
