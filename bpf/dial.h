/* SPDX-License-Identifier: GPL-2.0 */
/* connect() under way, and the ways in which it fails. One that succeeds goes on in conn.h. */
#ifndef LOOPTRACE_DIAL_H
#define LOOPTRACE_DIAL_H

#include "emit.h"
#include "filter.h"
#include "port.h"
#include "tally.h"

/* asm-generic/errno.h */
#define EPERM 1
#define EACCES 13
#define EINVAL 22
#define EPIPE 32
#define EADDRNOTAVAIL 99
#define ENETUNREACH 101
#define ECONNRESET 104
#define EHOSTUNREACH 113
#define ECANCELED 125

static __always_inline void id_of(struct process_id *id, const struct owner *o)
{
	id->start = o->start;
	id->tgid = o->tgid;
	id->uid = o->uid;
}

/* What the filters say of whoever listens on a port; unknown where several might. */
static __always_inline struct verdict judge_port(u32 netns, u16 port, u16 proto)
{
	struct verdict unknown = { ALL_BITS, 0 };
	struct port_key key = { .netns = netns, .port = port, .proto = proto };
	struct port_owner *p;

	if (!process_bits && !exclude_bits)
		return unknown;
	p = bpf_map_lookup_elem(&owner_by_port, &key);
	return p && p->sockets == 1 && !p->shared ? p->verdict : unknown;
}

static __always_inline void put_thread(char *to, const struct owner *o)
{
	__builtin_memcpy(to, o->thread, THREAD_NAME);
}

/* CLOSE -> SYN_SENT: still inside connect(), so the current task is the client. No port yet. */
static __always_inline void dial_start(struct tcp_sock *tp, const struct ends *e)
{
	struct dial d = {};
	u64 sk = (u64)tp;

	if (!addressed(e))
		return;
	current_owner(&d.owner);
	d.started = bpf_ktime_get_boot_ns();
	d.verdict = judge_current(&d.owner);
	if (summarize)
		program_of(d.program, (void *)bpf_get_current_task());
	if (bpf_map_update_elem(&dial_by_sock, &sk, &d, BPF_ANY))
		count_loss(LOST_DIALING);
}

/*
 * A SYN is sent again: nobody answered the last one. Where one listener has the port, its accept
 * queue says whether it was full (sk_acceptq_is_full). With several nobody can say which.
 */
static __always_inline void syn_again(struct sock *sk)
{
	u64 key = (u64)sk, listener;
	struct port_key port = { .proto = IPPROTO_TCP };
	struct port_owner *p;
	struct bound *b;
	struct dial *d;

	if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_SYN_SENT)
		return;
	d = bpf_map_lookup_elem(&dial_by_sock, &key);
	if (!d)
		return;
	port.netns = sock_netns(sk);
	port.port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	p = bpf_map_lookup_elem(&owner_by_port, &port);
	if (!p || p->sockets != 1)
		return;
	listener = p->sk;
	b = bpf_map_lookup_elem(&bound_by_sock, &listener);
	if (!b || b->id != p->sock)
		return;
	d->queue_length = BPF_CORE_READ((struct sock *)listener, sk_ack_backlog);
	d->queue_limit = BPF_CORE_READ((struct sock *)listener, sk_max_ack_backlog);
	d->queue_known = 1;
}

static __always_inline void put_queue(struct conn_event *ev, const struct dial *d)
{
	if (!d->queue_known)
		return;
	ev->h.flags |= FLAG_QUEUE;
	ev->queue_length = d->queue_length;
	ev->queue_limit = d->queue_limit;
}

static __always_inline void tally_failure(const struct ends *e, const struct dial *d, s32 error,
					  u64 now)
{
	struct tally_key key = { .error = error, .port = e->rport };
	struct process_id client = {}, nobody = {};
	struct ended end = { .client = &client, .server = &nobody, .started = now, .now = now };

	if (d) {
		id_of(&client, &d->owner);
		__builtin_memcpy(key.client, d->program, THREAD_NAME);
		if (d->started) {
			end.started = d->started;
			end.handshake = now - d->started;
		}
	}
	add_tally(&key, &end);
}

/* A connect() that ended without a connection. `d` may be NULL: its start was not seen. */
static __always_inline void dial_failed(struct sock *sk, const struct ends *e, const struct dial *d,
					s32 error, u32 retransmits)
{
	struct verdict unknown = { ALL_BITS, 0 };
	u64 now = bpf_ktime_get_boot_ns();
	struct conn_event *ev;
	struct tuple t;

	tuple_of(e, IPPROTO_TCP, &t);
	if (!wanted(KIND_CONNECT, &t, true, d ? d->verdict : unknown,
		    judge_port(e->netns, e->rport, IPPROTO_TCP)))
		return;
	if (self_tgid && d && d->owner.tgid == self_tgid)
		return;
	if (summarize) {
		tally_failure(e, d, error, now);
		return;
	}
	ev = reserve(sizeof(*ev), KIND_CONNECT, now);
	if (!ev)
		return;
	ev->h.netns = e->netns;
	ev->h.flags =
		(e->family == AF_INET6 ? FLAG_IPV6 : 0) | (port_fixed(sk) ? 0 : FLAG_EPHEMERAL);
	ev->id = new_id(now);
	copy_address(ev->client_addr, &e->local);
	copy_address(ev->server_addr, &e->remote);
	ev->client_port = e->lport;
	ev->server_port = e->rport;
	ev->proto = IPPROTO_TCP;
	ev->error = error;
	ev->retransmits = retransmits;
	if (d) {
		ev->started = d->started;
		id_of(&ev->client, &d->owner);
		put_thread(ev->thread, &d->owner);
		put_queue(ev, d);
	}
	if (!d || d->preexisting)
		ev->h.flags |= FLAG_PREEXISTING;
	submit(ev);
}

/*
 * connect() returned. An error before the SYN (no route, no permission, no free port) changes no
 * state that tells it; every later one does, and is left to `conn_left`.
 */
static __always_inline void connect_returned(struct sock *held, const struct request *req, int ret)
{
	struct sock *sk = inner_sock(held);
	struct dial d = {};
	struct ends e;

	switch (-ret) {
	case EPERM:
	case EACCES:
	case EINVAL:
	case EADDRINUSE:
	case EADDRNOTAVAIL:
	case ENETUNREACH:
	case EHOSTUNREACH:
		break;
	default:
		return;
	}
	if (!sk || !req->known || inet_proto(sk) != IPPROTO_TCP)
		return;
	ends_probed((struct inet_sock *)sk, &e);
	if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_CLOSE)
		return;
	/* A port and no bind: the kernel had picked one, so a SYN was sent and `conn_left` told. */
	if (e.lport) {
		u64 key = (u64)sk;
		struct bound *b = bpf_map_lookup_elem(&bound_by_sock, &key);

		if (!b || !b->port || b->dial_failed)
			return;
	}
	e.netns = sock_netns(sk);
	e.remote = req->addr;
	e.rport = req->port;
	if (is_any(&e.remote))
		set_loopback(&e.remote);
	if (!addressed(&e))
		return;
	current_owner(&d.owner);
	d.verdict = judge_current(&d.owner);
	if (summarize)
		program_of(d.program, (void *)bpf_get_current_task());
	/* `started` stays 0: no SYN was sent. */
	dial_failed(sk, &e, &d, -ret, 0);
}

/* SYN_SENT -> CLOSE */
static __always_inline void dial_ended(struct tcp_sock *tp, const struct ends *e, bool second)
{
	int error = tp->inet_conn.icsk_inet.sk.sk_err;
	u64 sk = (u64)tp;
	struct dial *d = bpf_map_lookup_elem(&dial_by_sock, &sk);
	struct bound *b;

	if (!d && (second || !addressed(e)))
		return;
	/*
	 * No error and no SYN: no port was free, or its own is in use to this destination, which
	 * connect() returns.
	 */
	if (error || tp->segs_out) {
		/* No error: the owner closed the socket before there was an answer. */
		dial_failed((struct sock *)tp, e, d, error ? error : ECANCELED, tp->total_retrans);
		b = bpf_map_lookup_elem(&bound_by_sock, &sk);
		if (b)
			b->dial_failed = 1;
	}
	bpf_map_delete_elem(&dial_by_sock, &sk);
}

#endif
