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

static __always_inline void list_file(struct seq_file *seq, struct task_struct *task,
				      struct file *file)
{
	struct list_row row = {};
	struct owner o;
	struct ends e;
	u16 proto = 0;
	struct sock *sk = socket_of_file(task, file, &e, &o, &proto);

	if (!sk)
		return;
	row.state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (!is_listed(sk, &e, proto, row.state))
		return;
	row.sock = (u64)sk;
	row.inode = BPF_CORE_READ(file, f_inode, i_ino);
	row.id = new_id(bpf_ktime_get_boot_ns());
	id_of(&row.owner, &o);
	copy_address(row.local, &e.local);
	copy_address(row.remote, &e.remote);
	row.lport = e.lport;
	row.rport = e.rport;
	row.proto = proto;
	row.flags = sock_flags(sk) | (port_fixed(sk) ? 0 : FLAG_EPHEMERAL) |
		    (e.family == AF_INET6 ? FLAG_IPV6 : 0);
	row.netns = e.netns;
	row.backlog = BPF_CORE_READ(sk, sk_max_ack_backlog);
	if (!e.rport) {
		u32 range = port_range(BPF_CORE_READ(sk, __sk_common.skc_net.net));

		row.range_low = range & 0xffff;
		row.range_high = range >> 16;
	}
	bpf_seq_write(seq, &row, sizeof(row));
}

#endif
