/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What was there before tracing began: one row for each socket of each process, from the table of
 * open files. Runs after the hooks are attached; enters what it finds into the same maps, so that
 * what happens to it later is told like anything else. What a hook saw first it marks FLAG_LIVE.
 */
#ifndef LOOPTRACE_SNAPSHOT_H
#define LOOPTRACE_SNAPSHOT_H

#include "conn.h"

/* What is too large for the stack. The two iterators run one after the other. */
struct scratch {
	struct sock_event port_row;
	struct conn_event conn_row;
	struct conn conn;
};

/* 0 -> scratch of the iterator that runs on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratch_by_zero SEC(".maps");

static __always_inline struct scratch *take_scratch(void)
{
	u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch_by_zero, &zero);

	if (s)
		__builtin_memset(s, 0, sizeof(*s));
	return s;
}

static __always_inline void owner_of(struct owner *o, struct task_struct *task)
{
	__builtin_memset(o, 0, sizeof(*o));
	o->tgid = tgid_of(task);
	o->start = BPF_CORE_READ(task, group_leader, start_boottime);
	o->uid = BPF_CORE_READ(task, cred, uid.val);
}

static __always_inline void row_of_port(struct seq_file *seq, struct sock *sk, u16 proto, u32 state,
					const struct ends *e, const struct owner *o)
{
	struct bound b = {
		.tgid = o->tgid,
		.port = e->lport,
		.proto = proto,
		.netns = e->netns,
		.listening = state == TCP_LISTEN,
	};
	u64 key = (u64)sk, now = bpf_ktime_get_boot_ns();
	struct scratch *s = take_scratch();
	struct sock_event *ev;
	struct bound *known;
	bool fresh;

	if (!s)
		return;
	ev = &s->port_row;
	b.id = new_id(now);
	b.ephemeral = !port_fixed(sk);
	fresh = !bpf_map_update_elem(&bound_by_sock, &key, &b, BPF_NOEXIST);
	known = bpf_map_lookup_elem(&bound_by_sock, &key);
	if (!known) {
		count_loss(LOST_SOCKS);
		return;
	}
	if (fresh && (b.listening || proto == IPPROTO_UDP))
		port_taken(e->netns, e->lport, proto, key, b.id, o);
	fill_sock(ev, e, proto, o);
	ev->h.time = now;
	ev->h.kind = b.listening ? KIND_LISTEN : KIND_BIND;
	ev->h.flags |= sock_flags(sk) | (b.ephemeral ? FLAG_EPHEMERAL : 0) |
		       (known->since ? FLAG_LIVE : FLAG_PREEXISTING);
	ev->id = known->id;
	ev->state = state;
	ev->backlog = BPF_CORE_READ(sk, sk_max_ack_backlog);
	copy_address(ev->req_addr, &e->remote);
	ev->req_port = e->rport;
	put_range(ev, sk);
	bpf_seq_write(seq, ev, sizeof(*ev));
}

/*
 * A child was cloned from its listener and keeps its backlog limit; a socket that dialled has
 * none. listen(0) leaves it at 0, so a listener on the port decides too.
 */
static __always_inline bool was_accepted(struct sock *sk, const struct ends *e)
{
	struct port_key key = { .netns = e->netns, .port = e->lport, .proto = IPPROTO_TCP };

	return BPF_CORE_READ(sk, sk_max_ack_backlog) || bpf_map_lookup_elem(&owner_by_port, &key);
}

static __always_inline bool is_ending(u32 state)
{
	return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING;
}

static __always_inline void row_of_conn(struct seq_file *seq, struct sock *sk, const struct ends *e,
					u32 state, const struct owner *o)
{
	u64 now = bpf_ktime_get_boot_ns();
	bool self = e->lport == e->rport && e->local.d[0] == e->remote.d[0] &&
		    e->local.d[1] == e->remote.d[1];
	bool server = !self && was_accepted(sk, e);
	struct scratch *s = take_scratch();
	struct conn_event *ev;
	struct conn *known, *c;
	struct tuple t;

	if (!s)
		return;
	ev = &s->conn_row;
	c = &s->conn;
	tuple_of(e, IPPROTO_TCP, &t);
	c->id = new_id(now);
	c->preexisting = 1;
	c->client_verdict.match = ALL_BITS;
	c->server_verdict.match = ALL_BITS;
	c->ipv6 = e->family == AF_INET6;
	put_ends(c, e, server);
	bpf_map_update_elem(&conn_by_tuple, &t, c, BPF_NOEXIST);
	known = bpf_map_lookup_elem(&conn_by_tuple, &t);
	if (!known) {
		count_loss(LOST_CONNS);
		return;
	}
	if (known->preexisting && server && !known->server_sk) {
		known->server_sk = (u64)sk;
		known->accepted = 1;
		id_of(&known->server, o);
	} else if (known->preexisting && !server && !known->client_sk) {
		known->client_sk = (u64)sk;
		known->ipv6 = e->family == AF_INET6;
		id_of(&known->client, o);
		if (self) {
			known->self = 1;
			known->server_sk = (u64)sk;
			known->server = known->client;
			known->accepted = 1;
		}
	}
	ev->h.time = now;
	ev->h.kind = KIND_CONNECT;
	ev->h.netns = e->netns;
	ev->h.flags = (known->preexisting ? FLAG_PREEXISTING : FLAG_LIVE) |
		      (server ? FLAG_SERVER : 0) | (self ? FLAG_SELF : 0) |
		      (is_ending(state) ? FLAG_ENDING : 0) |
		      (!server && !port_fixed(sk) ? FLAG_EPHEMERAL : 0) |
		      (e->family == AF_INET6 ? FLAG_IPV6 : 0);
	ev->id = known->id;
	id_of(server ? &ev->server : &ev->client, o);
	__builtin_memcpy(ev->client_addr, known->client_addr, 16);
	__builtin_memcpy(ev->server_addr, known->server_addr, 16);
	ev->client_port = known->client_port;
	ev->server_port = known->server_port;
	ev->proto = IPPROTO_TCP;
	bpf_seq_write(seq, ev, sizeof(*ev));
}

/* The IP socket behind an open file, with its ends and its holder; NULL for anything else. */
static __always_inline struct sock *socket_of_file(struct task_struct *task, struct file *file,
						   struct ends *e, struct owner *o, u16 *proto)
{
	struct socket *socket;
	struct sock *sk;

	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) != SOCKFS_MAGIC)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	sk = sk ? inner_sock(sk) : NULL;
	*proto = sk ? inet_proto(sk) : 0;
	if (!*proto || tgid_of(task) == self_tgid)
		return NULL;
	ends_probed((struct inet_sock *)sk, e);
	e->netns = sock_netns(sk);
	if (!e->lport)
		return NULL;
	owner_of(o, task);
	return sk;
}

/* First pass: sockets that hold a port. The second asks it who listens. */
static __always_inline void snapshot_port(struct seq_file *seq, struct task_struct *task,
					  struct file *file)
{
	struct owner o;
	struct ends e;
	u16 proto = 0;
	struct sock *sk = socket_of_file(task, file, &e, &o, &proto);
	u32 state;

	if (!sk)
		return;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	/* A TCP socket in CLOSE with a peer has left its connection: it holds no port. */
	if (proto == IPPROTO_UDP || state == TCP_LISTEN || (state == TCP_CLOSE && !e.rport))
		row_of_port(seq, sk, proto, state, &e, &o);
}

/* A connect() that was under way: how it ends is told like any other's. */
static __always_inline void note_dial(struct sock *sk, const struct owner *o)
{
	struct verdict unknown = { ALL_BITS, 0 };
	struct dial d = { .owner = *o, .verdict = unknown, .preexisting = 1 };
	u64 key = (u64)sk;

	bpf_map_update_elem(&dial_by_sock, &key, &d, BPF_NOEXIST); /* unless a hook was first */
}

/* Second pass: connections. */
static __always_inline void snapshot_conn(struct seq_file *seq, struct task_struct *task,
					  struct file *file)
{
	struct owner o;
	struct ends e;
	u16 proto = 0;
	struct sock *sk = socket_of_file(task, file, &e, &o, &proto);
	u32 state;

	if (!sk || proto != IPPROTO_TCP || !addressed(&e))
		return;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (state == TCP_SYN_SENT)
		note_dial(sk, &o);
	else if (state != TCP_CLOSE && state != TCP_LISTEN)
		row_of_conn(seq, sk, &e, state, &o);
}

#endif
