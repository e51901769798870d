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

static __always_inline void ends_common(struct sock_common *skc, struct ends *e)
{
	e->family = BPF_CORE_READ(skc, skc_family);
	e->lport = BPF_CORE_READ(skc, skc_num);
	e->rport = bpf_ntohs(BPF_CORE_READ(skc, skc_dport));
	e->netns = BPF_CORE_READ(skc, skc_net.net, ns.inum);
	if (e->family == AF_INET) {
		set_v4(&e->local, BPF_CORE_READ(skc, skc_rcv_saddr));
		set_v4(&e->remote, BPF_CORE_READ(skc, skc_daddr));
		return;
	}
	BPF_CORE_READ_INTO(&e->local, skc, skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO(&e->remote, skc, skc_v6_daddr);
}

static __always_inline bool is_client(const struct conn *c, const struct ends *e)
{
	const u64 *addr = (const u64 *)c->client_addr;

	return c->client_port == e->lport && addr[0] == e->local.d[0] && addr[1] == e->local.d[1];
}

/* What the hooks know of a connection, or of what is left of one. */
static __always_inline void fill_known(struct held_row *row, const struct ends *e)
{
	struct remains *left;
	struct tuple key;
	struct conn *c;

	if (row->state == TCP_TIME_WAIT) {
		end_key(&key, row->local, e->lport, row->remote, e->rport, e->netns);
		left = bpf_map_lookup_elem(&remains_by_end, &key);
		if (!left)
			return;
		row->since = left->since;
		row->known = left->owner;
		return;
	}
	tuple_of(e, IPPROTO_TCP, &key);
	c = bpf_map_lookup_elem(&conn_by_tuple, &key);
	if (!c)
		return;
	if (c->preexisting)
		row->flags |= FLAG_PREEXISTING;
	row->since = c->established;
	row->known = is_client(c, e) ? c->client : c->server;
}

static __always_inline void fill_held(struct held_row *row, struct sock_common *skc,
				      const struct ends *e, u16 proto)
{
	u64 key = (u64)skc;
	struct bound *b = bpf_map_lookup_elem(&bound_by_sock, &key);

	row->sock = key;
	row->id = b ? b->id : 0;
	row->netns = e->netns;
	row->proto = proto;
	copy_address(row->local, &e->local);
	copy_address(row->remote, &e->remote);
	row->lport = e->lport;
	row->rport = e->rport;
	row->state = BPF_CORE_READ(skc, skc_state);
	row->flags = sock_flags((struct sock *)skc);
	if (proto == IPPROTO_TCP && e->rport)
		fill_known(row, e);
}

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
