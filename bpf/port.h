/* SPDX-License-Identifier: GPL-2.0 */
/* Ports: bind, listen and the last close, each in the context of the process that calls. */
#ifndef LOOPTRACE_PORT_H
#define LOOPTRACE_PORT_H

#include "emit.h"
#include "filter.h"
#include "way.h"

/* What a process asked bind() for. */
struct request {
	union address addr;
	u16 port;
	bool known;
};

static __always_inline void fill_sock(struct sock_event *ev, const struct ends *e, u16 proto,
				      const struct owner *o)
{
	ev->h.netns = e->netns;
	ev->h.flags = e->family == AF_INET6 ? FLAG_IPV6 : 0;
	copy_address(ev->addr, &e->local);
	ev->port = e->lport;
	ev->proto = proto;
	ev->actor = *o;
}

/* Counts a listener or UDP socket on its port. */
static __always_inline void port_taken(u32 netns, u16 port, u16 proto, u64 sk, u64 id,
				       const struct owner *o)
{
	struct port_key key = { .netns = netns, .port = port, .proto = proto };
	struct port_owner fresh = { .sock = id, .sk = sk, .sockets = 1 };
	struct port_owner *p = bpf_map_lookup_elem(&owner_by_port, &key);

	if (p && p->sockets) {
		__sync_fetch_and_add(&p->sockets, 1);
		p->sock = id;
		p->sk = sk;
		return;
	}
	fresh.owner.tgid = o->tgid;
	fresh.owner.start = o->start;
	fresh.verdict = judge_current(o);
	if (bpf_map_update_elem(&owner_by_port, &key, &fresh, BPF_ANY))
		count_loss(LOST_PORTS);
}

static __always_inline void port_freed(const struct bound *b)
{
	struct port_key key = { .netns = b->netns, .port = b->port, .proto = b->proto };
	struct port_owner *p = bpf_map_lookup_elem(&owner_by_port, &key);

	if (!p)
		return;
	if (p->sockets <= 1)
		bpf_map_delete_elem(&owner_by_port, &key);
	else
		__sync_fetch_and_add(&p->sockets, -1);
}

static __always_inline void put_range(struct sock_event *ev, struct sock *sk)
{
	u32 range = port_range(BPF_CORE_READ(sk, __sk_common.skc_net.net));

	ev->range_low = range & 0xffff;
	ev->range_high = range >> 16;
}

/*
 * Writes the bind record of a socket and remembers it; returns its id, 0 where it holds no port. A
 * request that is not known may name the peer.
 */
static __always_inline u64 note_bound(struct sock *sk, const struct ends *e, u16 proto,
				      const struct request *req, const struct owner *o)
{
	u64 now = bpf_ktime_get_boot_ns();
	u64 key = (u64)sk;
	struct bound *known = bpf_map_lookup_elem(&bound_by_sock, &key);
	struct bound b = {
		.id = new_id(now),
		.since = now,
		.tgid = o->tgid,
		.port = e->lport,
		.proto = proto,
		.netns = e->netns,
	};
	struct sock_event *ev;

	/* A port of 0 is asked for by IP_BIND_ADDRESS_NO_PORT; connect() then picks one. */
	b.ephemeral = !req->known || !req->port;
	if (known)
		b.id = known->id;
	if (bpf_map_update_elem(&bound_by_sock, &key, &b, BPF_ANY)) {
		count_loss(LOST_SOCKS);
		return 0;
	}
	if (proto == IPPROTO_UDP && e->lport)
		port_taken(e->netns, e->lport, proto, key, b.id, o);
	ev = reserve(sizeof(*ev), KIND_BIND, now);
	if (!ev)
		return b.id;
	fill_sock(ev, e, proto, o);
	ev->h.flags |= sock_flags(sk) | (b.ephemeral ? FLAG_EPHEMERAL : 0) |
		       (req->known ? FLAG_REQUESTED : FLAG_IMPLICIT);
	ev->id = b.id;
	copy_address(ev->req_addr, &req->addr);
	ev->req_port = req->port;
	put_range(ev, sk);
	submit(ev);
	return b.id;
}

/* The id of a socket in its records: a bind that fails may come before one that does not. */
static __always_inline u64 id_of_socket(struct sock *sk, u64 now)
{
	u64 key = (u64)sk;
	struct bound *known = bpf_map_lookup_elem(&bound_by_sock, &key);
	struct bound b = { .id = new_id(now) };

	if (known)
		return known->id;
	if (bpf_map_update_elem(&bound_by_sock, &key, &b, BPF_NOEXIST))
		count_loss(LOST_SOCKS);
	return b.id;
}

static __always_inline void fill_failed_bind(struct sock_event *ev, struct sock *sk,
					     const struct ends *e, u16 proto,
					     const struct request *req, const struct owner *o,
					     int ret)
{
	fill_sock(ev, e, proto, o);
	ev->h.flags |= sock_flags(sk) | (req->known ? FLAG_REQUESTED : 0);
	ev->id = id_of_socket(sk, ev->h.time);
	copy_address(ev->req_addr, &req->addr);
	ev->req_port = req->port;
	ev->error = -ret;
}

/* bind() returned; `held` is the socket that the kernel function or the descriptor names. */
static __always_inline void bind_returned(struct sock *held, const struct request *req, int ret)
{
	struct sock *sk = inner_sock(held);
	u16 proto = sk ? inet_proto(sk) : 0;
	struct in_use_event *in_use;
	struct sock_event *ev;
	struct owner o;
	struct ends e;
	u64 now;

	if (!proto)
		return;
	current_owner(&o);
	if (self_tgid && o.tgid == self_tgid)
		return;
	ends_probed((struct inet_sock *)sk, &e);
	e.netns = sock_netns(sk);
	if (!ret) {
		note_bound(sk, &e, proto, req, &o);
		return;
	}
	now = bpf_ktime_get_boot_ns();
	e.local = req->addr; /* the socket has no port now, only a wish */
	e.lport = req->port;
	if (ret == -EADDRINUSE && proto == IPPROTO_TCP && req->port) {
		in_use = reserve(sizeof(*in_use), KIND_BIND, now);
		if (!in_use)
			return;
		fill_failed_bind(&in_use->s, sk, &e, proto, req, &o, ret);
		fill_in_way(&in_use->way, sk, &e, o.uid);
		submit(in_use);
		return;
	}
	ev = reserve(sizeof(*ev), KIND_BIND, now);
	if (!ev)
		return;
	fill_failed_bind(ev, sk, &e, proto, req, &o, ret);
	submit(ev);
}

static __always_inline void fill_listen(struct sock_event *ev, struct sock *sk,
					const struct ends *e, const struct owner *o, int ret,
					int backlog)
{
	fill_sock(ev, e, IPPROTO_TCP, o);
	ev->h.flags |= sock_flags(sk);
	ev->error = -ret;
	ev->backlog = backlog;
}

/*
 * listen() returned. The socket that holds the port is `sk` itself, an MPTCP socket's subflow.
 * `backlog` is known where listen() has not stored it yet, else -1.
 */
static __always_inline void listen_ended(struct sock *sk, int ret, int backlog)
{
	u64 key = (u64)sk;
	struct request none = {};
	struct in_use_event *in_use;
	struct sock_event *ev;
	struct bound *b;
	struct owner o;
	struct ends e;
	u64 now, id = 0, listen_since = 0;

	if (inet_proto(sk) != IPPROTO_TCP)
		return;
	current_owner(&o);
	if (self_tgid && o.tgid == self_tgid)
		return;
	ends_probed((struct inet_sock *)sk, &e);
	e.netns = sock_netns(sk);
	b = bpf_map_lookup_elem(&bound_by_sock, &key);
	if (b)
		id = b->id;
	if (!ret && (!b || !b->port)) /* an automatic port */
		id = note_bound(sk, &e, IPPROTO_TCP, &none, &o);
	now = bpf_ktime_get_boot_ns();
	if (!ret) {
		b = bpf_map_lookup_elem(&bound_by_sock, &key);
		if (b)
			listen_since = b->listen_since;
		if (b && !b->listening) {
			b->listening = 1;
			port_taken(e.netns, e.lport, IPPROTO_TCP, key, b->id, &o);
		}
	}
	if (!id)
		id = id_of_socket(sk, now);
	if (backlog < 0)
		backlog = BPF_CORE_READ(sk, sk_max_ack_backlog);
	if (ret == -EADDRINUSE && e.lport) {
		in_use = reserve(sizeof(*in_use), KIND_LISTEN, now);
		if (!in_use)
			return;
		fill_listen(&in_use->s, sk, &e, &o, ret, backlog);
		in_use->s.id = id;
		fill_in_way(&in_use->way, sk, &e, o.uid);
		submit(in_use);
		return;
	}
	ev = reserve(sizeof(*ev), KIND_LISTEN, now);
	if (!ev)
		return;
	fill_listen(ev, sk, &e, &o, ret, backlog);
	ev->id = id;
	ev->since = listen_since;
	submit(ev);
}

static __always_inline void listen_returned(struct sock *sk, int ret)
{
	listen_ended(sk, ret, -1);
}

/* listen() is called: on a socket that listens already it only sets the backlog, and succeeds. */
static __always_inline void listen_again(struct sock *sk, int backlog)
{
	if (inet_proto(sk) == IPPROTO_TCP && BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN)
		listen_ended(sk, 0, backlog);
}

static __always_inline void emit_release(struct bound *b, const struct ends *e,
					 const struct owner *o, u16 reason, u16 flags,
					 s32 exit_code)
{
	u16 port = b->port ? b->port : e->lport; /* the socket may have lost it by now */
	struct sock_event *ev;

	if (!port)
		return; /* it never had one */
	ev = reserve(sizeof(*ev), KIND_RELEASE, bpf_ktime_get_boot_ns());
	if (!ev)
		return;
	fill_sock(ev, e, b->proto, o);
	ev->h.flags |= flags;
	ev->h.netns = b->netns;
	ev->id = b->id;
	ev->port = port;
	ev->since = b->since;
	ev->reason = reason;
	ev->exit_code = exit_code;
	submit(ev);
}

/*
 * CLOSE -> LISTEN. In the tracepoint form this is how listen() is matched with its socket; the
 * call itself tells whether it succeeded (with SO_REUSEADDR it can fail after this).
 */
static __always_inline void listen_entered(u64 sk)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call *call = bpf_map_lookup_elem(&call_by_thread, &thread);
	struct bound *b = bpf_map_lookup_elem(&bound_by_sock, &sk);

	if (call)
		call->sk = sk;
	if (b)
		b->listen_since = bpf_ktime_get_boot_ns();
}

/*
 * The last descriptor of a socket is closed; the current task closed it, by close() or by exiting.
 * The port is its no more, whatever connections or TIME_WAIT still keep others out.
 */
static __always_inline void released(struct sock *held)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct sock *sk = inner_sock(held);
	u16 reason = REASON_CLOSE;
	u64 key = (u64)sk;
	struct bound *b;
	struct owner o;
	struct ends e;

	if (!sk)
		return;
	b = bpf_map_lookup_elem(&bound_by_sock, &key);
	if (!b)
		return;
	current_owner(&o);
	if (BPF_CORE_READ(task, flags) & PF_EXITING)
		reason = REASON_EXIT;
	if (self_tgid && o.tgid == self_tgid) {
		/* Our own walk of the open files held it for a moment: somebody had closed it by then. */
		__builtin_memset(&o, 0, sizeof(o));
		reason = REASON_UNKNOWN;
	}
	ends_probed((struct inet_sock *)sk, &e);
	if (b->since || b->port)
		emit_release(b, &e, &o, reason, 0, BPF_CORE_READ(task, exit_code));
	if (b->listening || b->proto == IPPROTO_UDP)
		port_freed(b);
	bpf_map_delete_elem(&bound_by_sock, &key);
}

/* tcp_destroy_sock of a socket whose last close was not seen: who closed it is not known. */
static __always_inline void released_unseen(struct tcp_sock *tp, const struct ends *e)
{
	u64 key = (u64)tp;
	struct bound *b = bpf_map_lookup_elem(&bound_by_sock, &key);
	struct owner nobody = {};

	if (!b)
		return;
	if (b->since || b->port)
		emit_release(b, e, &nobody, REASON_UNKNOWN, 0, 0);
	if (b->listening)
		port_freed(b);
	bpf_map_delete_elem(&bound_by_sock, &key);
}

/*
 * LISTEN -> CLOSE while the descriptor lives: shutdown() or disconnect. A port that the kernel
 * picked is free at once; one that was asked for stays with the socket (tcp_set_state).
 */
static __always_inline void unlistened(struct tcp_sock *tp, const struct ends *e)
{
	u64 key = (u64)tp;
	struct bound *b;
	struct owner o;

	if (tp->inet_conn.icsk_inet.sk.sk_shutdown == SHUTDOWN_MASK)
		return; /* close(): `released` says the rest */
	b = bpf_map_lookup_elem(&bound_by_sock, &key);
	if (!b || !b->listening)
		return; /* a listen() that failed */
	current_owner(&o);
	port_freed(b);
	b->listening = 0;
	emit_release(b, e, &o, REASON_SHUTDOWN, b->ephemeral ? 0 : FLAG_KEPT, 0);
	if (b->ephemeral)
		bpf_map_delete_elem(&bound_by_sock, &key);
}

/* From here on the socket takes what its peer sends, and nothing else. */
static __always_inline void tell_peer(const struct bound *b, const struct ends *e,
				      const struct owner *o)
{
	struct sock_event *ev = reserve(sizeof(*ev), KIND_PEER, bpf_ktime_get_boot_ns());

	if (!ev)
		return;
	fill_sock(ev, e, b->proto, o);
	ev->id = b->id;
	copy_address(ev->req_addr, &e->remote);
	ev->req_port = e->rport;
	submit(ev);
}

/*
 * connect() of a datagram socket returned. It gives a port to one that had none; AF_UNSPEC takes
 * away one that the kernel had picked (__udp_disconnect).
 */
static __always_inline void dgram_connected(struct sock *sk)
{
	u64 key = (u64)sk;
	struct request peer = {};
	struct bound *b;
	struct owner o;
	struct ends e;

	if (inet_proto(sk) != IPPROTO_UDP)
		return;
	current_owner(&o);
	if (self_tgid && o.tgid == self_tgid)
		return;
	ends_probed((struct inet_sock *)sk, &e);
	e.netns = 0;
	peer.addr = e.remote;
	peer.port = e.rport;
	b = bpf_map_lookup_elem(&bound_by_sock, &key);
	if (e.lport && (!b || !b->port) && addressed(&e)) {
		e.netns = sock_netns(sk);
		note_bound(sk, &e, IPPROTO_UDP, &peer, &o);
	} else if (e.lport && b) {
		e.netns = b->netns;
		tell_peer(b, &e, &o);
	} else if (!e.lport && b && b->port) {
		emit_release(b, &e, &o, REASON_SHUTDOWN, 0, 0);
		port_freed(b);
		bpf_map_delete_elem(&bound_by_sock, &key);
	}
}

#endif
