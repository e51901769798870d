/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who holds a port, from the kernel's own tables: asked when a call failed and the ledger cannot
 * say why. Two walks, joined by the socket's address: the table of open files says who holds a
 * socket, the TCP tables also list what no process holds (TIME_WAIT, orphans). The second walks
 * the network namespace of whoever opened it.
 */
#ifndef LOOPTRACE_HELD_H
#define LOOPTRACE_HELD_H

#include "snapshot.h"

u32 asked_netns; /* written by user space before a walk */
const volatile bool only_time_wait; /* the second walk gives TIME_WAITs alone */

static __always_inline void held_by_file(struct seq_file *seq, struct task_struct *task,
					 struct file *file)
{
	struct held_row row = {};
	struct ends e;
	u16 proto = 0;
	struct sock *sk = socket_of_file(task, file, &e, &row.owner, &proto);

	if (!sk || e.netns != asked_netns)
		return;
	/* What was reset, or failed to connect, remembers a port that it does not hold any more. */
	if (!BPF_CORE_READ(sk, __sk_common.skc_num))
		return;
	fill_held(&row, &sk->__sk_common, &e, proto);
	if (!port_fixed(sk))
		row.flags |= FLAG_EPHEMERAL;
	bpf_seq_write(seq, &row, sizeof(row));
}

static __always_inline void held_by_tcp(struct seq_file *seq, struct sock_common *skc)
{
	struct inet_timewait_sock *tw = (void *)skc;
	struct held_row row = {};
	struct ends e;

	if (only_time_wait && BPF_CORE_READ(skc, skc_state) != TCP_TIME_WAIT)
		return;
	ends_common(skc, &e);
	fill_held(&row, skc, &e, IPPROTO_TCP);
	if (row.state == TCP_NEW_SYN_RECV)
		return; /* its port is its listener's */
	if (row.state == TCP_TIME_WAIT) {
		row.state = BPF_CORE_READ(tw, tw_substate); /* FIN_WAIT2 of an orphan is one, too */
		row.flags |= FLAG_EPHEMERAL;
		row.expires = BPF_CORE_READ(tw, tw_timer.expires);
		row.jiffies = bpf_jiffies64();
	} else if (!port_fixed((struct sock *)skc)) {
		row.flags |= FLAG_EPHEMERAL;
	}
	bpf_seq_write(seq, &row, sizeof(row));
}

#endif
